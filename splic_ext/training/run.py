"""A training from beginning to end: what it is given, its files, its result."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from splic_ext.checks import check_integer
from splic_ext.data import Dataset
from splic_ext.models import build_model
from splic_ext.runs.fingerprints import (
    TRAINING_CODE,
    code_fingerprint,
    derive_seed,
    fingerprint,
    fingerprint_weights,
    package_versions,
)
from splic_ext.runs.inputs import (
    MOST_SHARED,
    check_dataset,
    check_logits,
    count_shared_images,
    describe_dataset,
    is_random,
    resolve_device,
)
from splic_ext.runs.machine import describe_machine
from splic_ext.runs.progress import Progress, ProgressBar
from splic_ext.runs.records import NetworkInfo, Provenance
from splic_ext.training.batches import batch_bounds
from splic_ext.training.board import Board
from splic_ext.training.checkpoint import Checkpoint
from splic_ext.training.copies import BLOCK, Copies
from splic_ext.training.folder import TrainingFolder
from splic_ext.training.options import TrainingOptions
from splic_ext.training.processes import (
    Processes,
    join_processes,
    limited_threads,
    local_device,
)
from splic_ext.training.records import TrainingRecord, TrainingResult
from splic_ext.training.trainer import Trainer

__all__ = ["train"]

#: Longest time between two checkpoints, in seconds; one is written after each epoch in any case.
INTERVAL = 120.0


def train(
    model: str | nn.Module,
    dataset: Dataset,
    options: TrainingOptions = TrainingOptions(),  # noqa: B008 - frozen
    *,
    test: Dataset | None = None,
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
        A name for :func:`splic_ext.models.build_model`, with as many outputs as the data set has
        classes; or a network from images (N, C, H, W) in [0, 1] to logits, trained in place.
    dataset : Dataset
        Images to learn.
    options : TrainingOptions, optional
    test : Dataset, optional
        Images to score behind the defence after each epoch; they decide nothing.
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
        Show a progress bar, on a terminal and where Rich is installed.
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
        A parameter of the wrong kind, out of its range, or that contradicts another; a folder that
        holds another training, or a damaged checkpoint.
    FloatingPointError
        The loss or a weight is no longer finite.
    AttackError
        From an attack that was none.
    MemoryError
        The batches are too large for this device.
    OSError
        A file cannot be written.

    Warns
    -----
    UserWarning
        A checkpoint of other versions or another device; a defended copy that is damaged.

    Notes
    -----
    Order, shifts, mirror images, masks, attacks and dropout follow from the seed, the number of
    the epoch and the image, and not from the state of a generator: none is changed. On CUDA the
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
    check_dataset(dataset)
    if test is not None:
        check_dataset(test)
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
    place = None if cache is None else Path(cache)
    if place is None and folder is not None:
        place = folder / "copies"
    with limited_threads(threads):
        found = resolve_device(local_device(device), model)
        processes = join_processes(found)
        with _own_randomness(found):
            run = _Run(model, dataset, test, options, folder, place, found, processes, command)
            return run.result(overwrite, progress and processes.first)


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Leave torch's generators as they are, and take deterministic kernels on CUDA."""
    devices = [device] if device.type == "cuda" else []
    cudnn: Any = torch.backends.cudnn
    with torch.random.fork_rng(devices), cudnn.flags(deterministic=True, benchmark=False):
        yield


@dataclass
class _Run:
    """One training: what it is given, its files, and what it has done so far."""

    model: str | nn.Module
    data: Dataset
    test: Dataset | None
    options: TrainingOptions
    output: Path | None
    cache: Path | None
    device: torch.device
    processes: Processes
    command: str | None

    def __post_init__(self) -> None:
        options, data = self.options, self.data
        self.name = self.model if isinstance(self.model, str) else type(self.model).__name__
        if isinstance(self.model, str):
            torch.manual_seed(derive_seed(options.seed, "weights"))
            self.network = build_model(self.model, len(data.classes))
        else:
            self.network = self.model
        self.network.to(self.device)
        self._check()
        self.processes.spread([*self.network.parameters(), *self.network.buffers()])
        named = isinstance(self.model, str)
        weights = None if named else fingerprint_weights(self.network)
        self.dataset_info = describe_dataset(data)
        self.test_info = None if self.test is None else describe_dataset(self.test)
        self.identity: dict[str, Any] = {
            "options": options.identity(),
            "architecture": _architecture(self.network),
            "initialisation": weights,
            "data set": self.dataset_info.sha256,
            "test set": None if self.test_info is None else self.test_info.sha256,
        }
        self.environment = {
            "versions": package_versions(),
            "code": code_fingerprint(TRAINING_CODE),
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "processes": self.processes.count,
        }
        self.folder = TrainingFolder(self.output, self.identity, self.environment)

    def _check(self) -> None:
        options, images = self.options, self.data.images
        side = min(images.shape[2:])
        if options.crop >= side:
            raise ValueError(
                f"`crop` must be less than the side of the images, {side}, got {options.crop}; "
                "choose less, 1 for 8 x 8 digits"
            )
        sizes = np.diff(batch_bounds(len(images), options.batch_size))
        if sizes.min() < self.processes.count:
            raise ValueError(
                f"`batch_size` must give each of the {self.processes.count} processes an image, "
                f"got {options.batch_size}, batches of {sizes.min()} and more; use a larger one, "
                "or fewer processes"
            )
        if self.test is not None:
            shared = count_shared_images(self.test, self.data)
            if shared > MOST_SHARED * len(self.test):
                raise ValueError(
                    f"`test` must have images that are not learnt, got {shared} of "
                    f"{len(self.test)} that are among the training images; give other images"
                )
        if options.copies and self.cache is None:
            raise ValueError("`copies` need a folder to be kept in; give `cache` or `output`")
        defense = options.build_defense().to(self.device)
        for data in (self.data, self.test):
            if data is None:
                continue
            few = torch.from_numpy(data.first(2).to_float()).to(self.device)
            is_random(options.defense, defense, few)
            with torch.no_grad():
                logits = self.network.eval()(few)
            check_logits("model", logits, len(few), int(data.labels.max()))

    def result(self, overwrite: bool, progress: bool) -> TrainingResult:
        """Train, or go on, or return what is there."""
        done, checkpoint = self.folder.find(self.network, overwrite)
        self.processes.wait()  # all have read before the first one writes
        if done is not None:
            return TrainingResult(self.network.eval(), done)
        with self.folder.held(overwrite) if self.processes.first else nullcontext():
            return self._trained(checkpoint, overwrite, progress)

    def _trained(
        self, checkpoint: Checkpoint | None, overwrite: bool, progress: bool
    ) -> TrainingResult:
        if self.processes.first and checkpoint is None:
            self.folder.clear(overwrite)
        copies = self._copies()
        trainer = self._trainer(checkpoint)
        plan = trainer.plan()
        if copies is not None:
            plan["copies"] = copies.count * len(self.data)
        with (ProgressBar if progress else Progress)(plan) as trainer.progress:
            _count(trainer)
            if copies is not None:
                with _told(f"to defend {BLOCK} images at a time", "`copies=0`, or another device"):
                    trainer.copies = copies.all(trainer.progress)
                self.folder.notes += copies.notes
            with Board(self.folder.logs, trainer.position.epoch) as board:
                self.folder.notes += board.notes
                size = self.options.batch_size
                with _told(
                    f"for batches of {size} images", "a smaller `batch_size` (--batch-size)"
                ):
                    self._train(trainer, board)
        return self._finish(trainer)

    def _copies(self) -> Copies | None:
        if not self.options.copies or self.cache is None:
            return None
        return Copies(self.cache, self.data, self.options, self.processes, self.device)

    def _trainer(self, checkpoint: Checkpoint | None) -> Trainer:
        trainer = Trainer(
            self.network, self.data, self.test, self.options, self.processes, self.device
        )
        if checkpoint is not None:
            checkpoint.restore(trainer)
        return trainer

    def _train(self, trainer: Trainer, board: Board) -> None:
        """Train to the end, and keep checkpoints."""
        saved = time.monotonic()
        for ended in trainer.updates():
            if ended:
                board.add(trainer.position.history[-1])
            if ended or time.monotonic() - saved > INTERVAL:
                self._save(trainer)
                saved = time.monotonic()

    def _save(self, trainer: Trainer) -> None:
        checkpoint = Checkpoint.of(trainer, self.identity, self.environment)
        if not checkpoint.finite:
            raise trainer.diverged()
        if self.processes.first:
            self.folder.save(checkpoint)

    def _finish(self, trainer: Trainer) -> TrainingResult:
        """Put the weights of the result into the network, and write what is to be kept."""
        if trainer.average is not None:
            self.network.load_state_dict(trainer.average.module.state_dict())
        attack = self.options.build_attack()
        record = TrainingRecord(
            key=fingerprint(self.identity),
            options=self.options,
            defense_repr=repr(self.options.build_defense()),
            attack=None if attack is None else attack.to_dict(),
            model=NetworkInfo(self.name, fingerprint_weights(self.network)),
            dataset=self.dataset_info,
            test=self.test_info,
            history=trainer.position.history,
            processes=self.processes.count,
            provenance=Provenance(
                versions=package_versions(),
                code=code_fingerprint(TRAINING_CODE),
                machine=describe_machine(self.device),
                command=self.command,
                date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            ),
            notes=tuple(self.folder.notes),
        )
        if self.processes.first:
            self.folder.finish(self.network, record)
        self.processes.wait()
        return TrainingResult(self.network.eval(), record)


def _architecture(network: nn.Module) -> str:
    """Return the SHA-256 of the classes, parameters and shapes of a network."""
    return fingerprint(
        {
            "kinds": [f"{type(m).__module__}.{type(m).__qualname__}" for m in network.modules()],
            "repr": repr(network),
            "shapes": {
                name: f"{value.dtype}{tuple(value.shape)}"
                for name, value in network.state_dict().items()
                if isinstance(value, torch.Tensor)
            },
        }
    )


def _count(trainer: Trainer) -> None:
    """Count what an earlier run has done, with the time that it took."""
    plan, epochs = trainer.plan(), trainer.options.epochs
    for epoch in trainer.position.history:
        seconds = epoch.seconds
        trainer.progress.advance(
            "training", plan["training"] // epochs, seconds.total - seconds.test
        )
        if "testing" in plan:
            trainer.progress.advance("testing", plan["testing"] // epochs, seconds.test)
    trainer.progress.advance("training", trainer.position.images, trainer.position.seconds.total)


@contextmanager
def _told(what: str, fix: str) -> Iterator[None]:
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
