"""Attack, defend, classify, count: the evaluation itself."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from splic_ext.attacks import Attack
from splic_ext.common.atomic import write_text
from splic_ext.data import DatasetLike
from splic_ext.defenses.randomness import masks_are_frozen
from splic_ext.evaluation.guards import REPORT, check_output
from splic_ext.evaluation.inputs import one_line
from splic_ext.evaluation.plan import Batch, Plan, make_plan
from splic_ext.evaluation.records import Perturbation, Record, Seconds
from splic_ext.evaluation.reports import EvaluationReport
from splic_ext.evaluation.statistics import count_votes
from splic_ext.evaluation.tables import to_markdown
from splic_ext.evaluation.work import Worker
from splic_ext.runs.machine import made_now
from splic_ext.runs.progress import progress_of
from splic_ext.runs.store import PartStore

__all__ = ["evaluate"]

#: What is taken as an attack.
AnyAttack: TypeAlias = Attack | str | Callable[..., torch.Tensor]


def evaluate(
    model: nn.Module,
    dataset: DatasetLike,
    *,
    defenses: Mapping[str, nn.Module | str] | Sequence[nn.Module | str],
    attacks: Mapping[str, AnyAttack] | Sequence[AnyAttack] = (),
    scenario: str = "gray",
    surrogate: nn.Module | None = None,
    draws: int = 10,
    seed: int = 0,
    batch_size: int = 100,
    limit: int | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    device: str | torch.device | None = None,
    progress: bool = True,
    model_name: str | None = None,
    surrogate_name: str | None = None,
    command: str | None = None,
) -> EvaluationReport:
    """Measure the accuracy of a network behind defences, on clean and on adversarial images.

    Finished adversarial images are defended and classified `draws` times, each time with fresh
    masks; so are the clean images. A defence without randomness is scored once.

    Parameters
    ----------
    model : nn.Module
        Images (N, C, H, W) in [0, 1] to logits, in eval mode and without randomness.
    dataset : Dataset
        Images and labels, as from :func:`splic_ext.data.load_dataset`; or what
        :func:`splic_ext.data.as_dataset` takes: a pair ``(images, labels)``, a data set of torch.
    defenses : mapping or sequence
        Defences, plain modules from images to images, or texts such as ``splic:recommended`` and
        ``mine.py:Median``; see :func:`splic_ext.evaluation.named_defenses`. ``splic`` has the
        preset ``"paper"``.
    attacks : mapping or sequence, optional
        Attacks, texts such as ``pgd:steps=40``, or functions of model, images and labels, as those
        of other libraries; see :func:`splic_ext.evaluation.named_attacks`. None: clean images only.
    scenario : {"gray", "black", "white"}, default "gray"
        Whether `model` is attacked without its defence, the `surrogate` instead of it, or the
        defended network. In the first two all defences share the adversarial images.
    surrogate : nn.Module, optional
        For the black box: another network, in eval mode.
    draws : int, default 10
        K >= 1 fresh draws of the masks for each finished image; more -> a closer mean, and a
        harder any-of-K attack.
    seed : int, default 0
        In [0, 2**64): decides the random numbers of the attacks, together with the seed of each,
        and the masks of the draws.
    batch_size : int, default 100
        Images at a time; also the size of the parts that are saved. Results do not depend on it,
        up to rounding in the network, but for the attacks ``cw`` with `abort_early` and
        ``hopskipjump``, in which the images of a batch depend on each other.
    limit : int, optional
        Evaluate this many images, the first ones.
    output : path, optional
        Folder for ``report.json``, ``report.md`` and, below ``parts``, what is finished: the same
        call takes it up again after a crash or Ctrl-C. None: nothing is written.
    overwrite : bool, default False
        Whether the report of another evaluation may be replaced in `output`; parts always stay.
    device : str or torch.device, optional
        The networks are moved there; default: the device of `model`.
    progress : bool, default True
        Show a progress bar; where there is no terminal, or no Rich, a line a minute.
    model_name, surrogate_name : str, optional
        For the report; default: names of the classes.
    command : str, optional
        For the report: the command line.

    Returns
    -------
    EvaluationReport
        For clean images and each attack one record per defence, in this order.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, out of its range, or that contradicts another; a network in
        train mode; labels beyond the outputs; an attack that left [0, 1] or its ball.
    AttackError
        An attack found no gradient to follow; the error names defence and gradient.
    RuntimeError
        It was called inside :func:`splic_ext.defenses.frozen_masks`: all draws would be the same.
    OSError
        `output` cannot be written.

    Warns
    -----
    UserWarning
        A saved part is damaged, or not of this evaluation; it is made anew. In the white box, a
        defence that no attack differentiates: its accuracy is an upper bound. Both are also among
        the notes of the report.

    Notes
    -----
    Parts are found again by the SHA-256 of all that determines them: the code of this package,
    versions, weights, parameters, seeds, indices, images and labels of the batch. So a change of
    any of these never mixes results, and more images or another attack reuse what is there.

    Examples
    --------
    >>> from splic_ext.data import load_dataset
    >>> from splic_ext.models import build_model
    >>> network = build_model("digits_cnn").eval()
    >>> digits = load_dataset("digits", limit=20)
    >>> report = evaluate(network, digits, defenses=["identity", "usvt"], attacks=["fgsm"])
    >>> [(record.attack, record.defense, record.draws) for record in report.records]
    [(None, 'identity', 1), (None, 'usvt', 10), ('fgsm', 'identity', 1), ('fgsm', 'usvt', 10)]
    """
    began = time.perf_counter()
    if masks_are_frozen():
        raise RuntimeError(
            "evaluate() must not be called inside frozen_masks(): all draws would have the same "
            "masks; leave it out, or give each defence a `seed`"
        )
    plan = make_plan(
        model,
        dataset,
        defenses=defenses,
        attacks=attacks,
        scenario=scenario,
        surrogate=surrogate,
        draws=draws,
        seed=seed,
        batch_size=batch_size,
        limit=limit,
        device=device,
        model_name=model_name,
        surrogate_name=surrogate_name,
        command=command,
    )
    folder = None if output is None else Path(output)
    key = plan.key
    check_output(folder, key, overwrite, plan.asked)
    for note in plan.weak:
        warnings.warn(note, stacklevel=2)
    store = PartStore(None if folder is None else folder / "parts")
    with progress_of(plan.work(), shown=progress) as shown:
        worker = Worker(plan, store, shown)
        records = tuple(_records(worker))
    spent = worker.spent
    rest = time.perf_counter() - began - spent.attack - spent.defense - spent.network
    report = EvaluationReport(key, records, replace(spent, rest=rest), (*plan.weak, *store.notes))
    if folder is not None:
        write_text(folder / REPORT, report.to_json())
        write_text(folder / "report.md", to_markdown(report))
    return report


def _records(worker: Worker) -> Iterator[Record]:
    """Yield the records: clean images first, then each attack, all defences."""
    plan = worker.plan
    for attack in (None, *plan.attacks):
        tallies = {defense: _Tally() for defense in plan.defenses}
        for clean in plan.batches():
            _score(worker, attack, clean, tallies)
        for defense, tally in tallies.items():
            yield tally.record(plan, attack, defense)


def _score(worker: Worker, attack: str | None, clean: Batch, tallies: dict[str, _Tally]) -> None:
    """Attack a batch and score it behind all defences, which share what is attacked without one."""
    labels = clean.labels.cpu().numpy()
    finished, making = clean, Seconds()
    for defense, tally in tallies.items():
        if attack is not None:
            if finished is clean or worker.plan.scenario == "white":
                finished, making = worker.attack(attack, defense, clean)
            tally.add_change(finished.images - clean.images)
        predictions, scoring = worker.score(defense, finished)
        tally.add_predictions(predictions, labels, making + scoring)


@dataclass
class _Tally:
    """What is known of one record so far."""

    right: list[int] = field(default_factory=list)
    voted: list[bool] = field(default_factory=list)
    linf: list[float] = field(default_factory=list)
    l2: list[float] = field(default_factory=list)
    seconds: Seconds = field(default_factory=Seconds)

    def add_change(self, change: torch.Tensor) -> None:
        """Note the sizes of perturbations, of shape (N, C, H, W)."""
        flat = change.flatten(1)
        self.linf += flat.abs().amax(dim=1).tolist()
        self.l2 += torch.linalg.vector_norm(flat, dim=1).tolist()

    def add_predictions(
        self, predictions: npt.NDArray[np.int32], labels: npt.NDArray[np.int64], seconds: Seconds
    ) -> None:
        """Count what was predicted right, of shape (N, K)."""
        right, voted = count_votes(predictions, labels)
        self.right += right.tolist()
        self.voted += voted.tolist()
        self.seconds += seconds

    def perturbation(self) -> Perturbation | None:
        """Return the sizes over all images; None where nothing was attacked."""
        if not self.linf:
            return None
        return Perturbation(
            linf_max=max(self.linf),
            linf_mean=float(np.mean(self.linf)),
            l2_mean=float(np.mean(self.l2)),
            l2_median=float(np.median(self.l2)),
            unchanged=self.linf.count(0.0),
        )

    def record(self, plan: Plan, attack: str | None, defense: str) -> Record:
        """Return the record of a defence under an attack, or on clean images."""
        chosen = None if attack is None else plan.attacks[attack]
        threat = None
        if chosen is not None and chosen.bounded:
            threat = {"norm": chosen.threat.norm, "epsilon": chosen.threat.epsilon}
        return Record(
            scenario=plan.scenario,
            dataset=plan.dataset_info,
            model=plan.model_info,
            surrogate=plan.surrogate_info,
            defense=defense,
            defense_repr=one_line(plan.defenses[defense]),
            attack=attack,
            parameters=None if chosen is None else chosen.to_dict(),
            threat=threat,
            seed=plan.seed,
            draws=len(plan.mask_seeds[defense]),
            mask_seeds=plan.mask_seeds[defense],
            right=tuple(self.right),
            voted=tuple(self.voted),
            perturbation=self.perturbation(),
            seconds=self.seconds,
            provenance=made_now(plan.environment, plan.device, plan.command),
        )
