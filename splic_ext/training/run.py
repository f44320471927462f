"""A training from beginning to end: what it is given, its files, its result."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from splic_ext.common.checks import check_integer
from splic_ext.data import DatasetLike
from splic_ext.runs.fingerprints import fingerprint, fingerprint_weights
from splic_ext.runs.inputs import check_dataset, resolve_device
from splic_ext.runs.machine import made_now
from splic_ext.runs.progress import progress_of
from splic_ext.runs.records import NetworkInfo
from splic_ext.training.board import Board
from splic_ext.training.checkpoint import Checkpoint
from splic_ext.training.copies import BLOCK, Copies
from splic_ext.training.folder import WEIGHTS, TrainingFolder
from splic_ext.training.options import TrainingOptions
from splic_ext.training.plan import Plan, make_plan
from splic_ext.training.probe import loss_note
from splic_ext.training.processes import join_processes, limited_threads, local_device
from splic_ext.training.records import TrainingRecord, TrainingResult
from splic_ext.training.trainer import Trainer

__all__ = ["train"]

#: Longest time between two checkpoints, in seconds; one is written after each epoch in any case.
INTERVAL = 120.0


def train(
    model: str | nn.Module,
    dataset: DatasetLike,
    options: TrainingOptions = TrainingOptions(),  # noqa: B008 - frozen
    *,
    defense: nn.Module | None = None,
    test: DatasetLike | None = None,
    weights: str | os.PathLike[str] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    output: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    threads: int | None = None,
    progress: bool = True,
    command: str | None = None,
    overwrite: bool = False,
) -> TrainingResult:
    """Train a network on defended images, clean or adversarial.

    With `output`, a run that was killed goes on from its last checkpoint when it is called again,
    and comes to the same weights, bit for bit, as one that was not; a finished one returns its
    result at once.

    Parameters
    ----------
    model : str or nn.Module
        A name for :func:`splic_ext.models.build_model`, or a place for
        :func:`splic_ext.models.own_model`, with as many outputs as the data set has classes; or a
        network from images (N, C, H, W) in [0, 1] to logits, trained in place.
    dataset : Dataset
        Images to learn; or what :func:`splic_ext.data.as_dataset` takes: a pair
        ``(images, labels)``, a data set of torch.
    options : TrainingOptions, optional
    defense : Defense or nn.Module, optional
        A defence as an object, in place of the text in `options`, which must then be
        ``"identity"``; a plain module from images to images is taken as one. Another object, or
        other code of its class, makes another training.
    test : Dataset, optional
        Images to score behind the defence after each epoch, ablated where the training images
        are; they decide nothing.
    weights : path, optional
        A file for :func:`splic_ext.models.load_weights`, with what a network given by name begins
        with, instead of random weights: fine-tuning. Other weights make another training.
    mean, std : float or sequence of float, optional
        Of a model given by its place that does not normalise itself: one number, or one for each
        channel, on the scale of [0, 1].
    output : path, optional
        Folder for the weights, the record, the checkpoint and logs for TensorBoard. None: nothing
        is written, and nothing can be resumed.
    cache : path, optional
        Folder for defended copies, which trainings may share. Default: ``copies`` in `output`.
    device : str or torch.device, optional
        The network is moved there; default: the device of `model`, for a name the CPU. "cuda"
        under ``torchrun`` is the GPU of the local rank.
    threads : int, optional
        Most threads of torch and of the solver, for this call. Default: as they are set.
    progress : bool, default True
        Show a progress bar; where there is no terminal, or no Rich, a line for each epoch.
    command : str, optional
        For the record: the command line.
    overwrite : bool, default False
        Whether the files of another training, or damaged ones, may be replaced in `output`.

    Returns
    -------
    TrainingResult

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, out of its range, or that contradicts another; `weights` of
        another network; a folder that holds another training, or a damaged checkpoint.
    FileNotFoundError
        There is no file `weights`.
    FloatingPointError
        The loss or a weight is no longer finite.
    AttackError
        An attack found no gradient to follow.
    MemoryError
        The batches are too large for this device.
    OSError
        A file cannot be written.

    Warns
    -----
    UserWarning
        A checkpoint of other versions or another device; a defended copy that is damaged; a
        defence that leaves little of what tells the classes apart.

    Notes
    -----
    Order, shifts, mirror images, boxes, masks, attacks and dropout follow from the seed, the number
    of the epoch and the image, and not from the state of a generator: none is changed. On CUDA the
    same bits come out only of networks whose layers are deterministic there.

    *Thread safety*: one training at a time in a process: it sets torch's threads and seed.

    Examples
    --------
    >>> from splic_ext.data import load_dataset
    >>> digits = load_dataset("digits", "train", limit=200)
    >>> options = TrainingOptions(epochs=2, learning_rate=0.05, crop=1, flip=False, defense="tv")
    >>> result = train("digits_cnn", digits, options)
    >>> len(result.history), result.network.training
    (2, False)
    """
    dataset = check_dataset(dataset)
    if test is not None:
        test = check_dataset(test)
    if not isinstance(options, TrainingOptions):
        raise TypeError(
            f"`options` must be TrainingOptions, got {type(options).__name__}; "
            "use TrainingOptions.from_dict for a dict"
        )
    if threads is not None:
        threads = check_integer("threads", threads, 1, 1024)
    if not isinstance(model, (str, nn.Module)):
        raise TypeError(
            f"`model` must be a name or a torch.nn.Module, got {type(model).__name__}; "
            "wrap it in one"
        )
    folder = None if output is None else Path(output)
    if weights is not None and folder is not None:
        _check_apart(Path(weights), folder)
    copies = None if cache is None else Path(cache)
    if copies is None and folder is not None:
        copies = folder / "copies"
    with limited_threads(threads):
        place = resolve_device(local_device(device), model)
        processes = join_processes(place)
        with _own_randomness(place):
            plan = make_plan(
                model,
                dataset,
                test,
                options,
                copies,
                place,
                processes,
                command,
                weights,
                defense,
                (mean, std),
            )
            files = TrainingFolder(folder, plan.identity, plan.environment)
            return _result(plan, files, overwrite, progress and processes.first)


def _check_apart(weights: Path, folder: Path) -> None:
    """Raise if the training would replace what it begins with, and could not go on."""
    if weights.resolve() == (folder / WEIGHTS).resolve():
        raise ValueError(
            f"`weights` must be another file than that of the result, got '{weights}'; name "
            "another `output`"
        )


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Leave torch's generators as they are, and take deterministic kernels on CUDA."""
    devices = [device] if device.type == "cuda" else []
    cudnn: Any = torch.backends.cudnn
    with torch.random.fork_rng(devices), cudnn.flags(deterministic=True, benchmark=False):
        yield


def _result(plan: Plan, folder: TrainingFolder, overwrite: bool, shown: bool) -> TrainingResult:
    """Train, or go on, or return what is there."""
    done, checkpoint = folder.find(plan.network, overwrite)
    plan.processes.wait()  # all have read before the first one writes
    if done is not None:
        return TrainingResult(plan.network.eval(), done)
    with folder.held(overwrite) if plan.processes.first else nullcontext():
        if plan.processes.first and checkpoint is None:
            folder.clear(overwrite)
        trainer = Trainer(plan)
        if checkpoint is not None:
            checkpoint.restore(trainer)
        elif plan.processes.first:
            _look(trainer)
        _train(trainer, folder, shown)
        return _finish(trainer, folder)


def _look(trainer: Trainer) -> None:
    """Warn if the defence leaves little to learn."""
    note = loss_note(trainer.plan)
    if note is not None:
        trainer.notes = (note,)
        warnings.warn(note, stacklevel=4)


def _train(trainer: Trainer, folder: TrainingFolder, shown: bool) -> None:
    """Make the copies, then train to the end, and keep checkpoints."""
    plan, options, work = trainer.plan, trainer.options, trainer.work()
    copies = None
    if options.copies and plan.cache is not None:
        copies = Copies(plan.cache, plan.data, options, plan.processes, plan.device, plan.defense)
        work["copies"] = copies.count * len(plan.data)
    with progress_of(work, shown=shown, marked=("training", "testing")) as trainer.progress:
        _count(trainer)
        if copies is not None:
            with _explained(f"to defend {BLOCK} images at a time", "`copies=0`, or another device"):
                trainer.copies = copies.all(trainer.progress)
            folder.notes += copies.notes
        with Board(folder.logs, trainer.position.epoch) as board:
            folder.notes += board.notes
            _update(trainer, folder, board)


def _update(trainer: Trainer, folder: TrainingFolder, board: Board) -> None:
    """Take all updates; keep a checkpoint after each epoch, and from time to time."""
    saved = time.monotonic()
    size = trainer.options.batch_size
    with _explained(f"for batches of {size} images", "a smaller `batch_size`"):
        for ended in trainer.updates():
            if ended:
                epoch = trainer.position.history[-1]
                board.add(epoch)
                trainer.progress.milestone(epoch.line(trainer.options.epochs))
            if ended or time.monotonic() - saved > INTERVAL:
                _save(trainer, folder)
                saved = time.monotonic()


def _save(trainer: Trainer, folder: TrainingFolder) -> None:
    checkpoint = Checkpoint.of(trainer)
    if not checkpoint.finite:
        raise trainer.diverged()
    if trainer.plan.processes.first:
        folder.save(checkpoint)


def _finish(trainer: Trainer, folder: TrainingFolder) -> TrainingResult:
    """Put the weights of the result into the network, and write what is to be kept."""
    plan, options, network = trainer.plan, trainer.options, trainer.plan.network
    if trainer.learner.average is not None:
        network.load_state_dict(trainer.learner.average.module.state_dict())
    attack, hiding = options.build_attack(), trainer.hiding
    record = TrainingRecord(
        key=fingerprint(plan.identity),
        options=options,
        defense_repr=repr(plan.defense),
        attack=None if attack is None else attack.to_dict(),
        fill_repr=None if hiding.fill is None else repr(hiding.fill),
        model=NetworkInfo(plan.name, fingerprint_weights(network)),
        channels=hiding.outputs * plan.dataset_info.shape[0],
        dataset=plan.dataset_info,
        test=plan.test_info,
        history=trainer.position.history,
        processes=plan.processes.count,
        provenance=made_now(plan.environment, plan.device, plan.command),
        notes=(*trainer.notes, *folder.notes),
    )
    if plan.processes.first:
        folder.finish(network, record)
    plan.processes.wait()
    return TrainingResult(network.eval(), record)


def _count(trainer: Trainer) -> None:
    """Count what an earlier run has done, with the time that it took."""
    plan, progress, position = trainer.plan, trainer.progress, trainer.position
    for epoch in position.history:
        seconds = epoch.seconds
        progress.advance("training", len(plan.data), seconds.total - seconds.test)
        if plan.test is not None:
            progress.advance("testing", len(plan.test), seconds.test)
    progress.advance("training", position.images, position.seconds.total)


@contextmanager
def _explained(what: str, fix: str) -> Iterator[None]:
    """Say which option is to blame when memory or the compiler of torch fails."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
            raise MemoryError(
                f"not enough memory {what}: {str(error).splitlines()[0]}; use {fix}"
            ) from error
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise ValueError(
                f"`compile` must be False here, since torch.compile failed: "
                f"{str(error).strip().splitlines()[0]}; leave it out"
            ) from error
        raise
