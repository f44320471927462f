"""Attack, defend, classify, count: the evaluation itself."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from splic_ext.attacks import Attack
from splic_ext.common.atomic import write_text
from splic_ext.data import DatasetLike
from splic_ext.defenses.randomness import masks_are_frozen
from splic_ext.evaluation.guards import REPORT, check_output
from splic_ext.evaluation.inputs import one_line
from splic_ext.evaluation.plan import Plan, make_plan
from splic_ext.evaluation.records import Perturbation, Record, Seconds
from splic_ext.evaluation.reports import EvaluationReport
from splic_ext.evaluation.spread import make_spread
from splic_ext.evaluation.tables import to_markdown
from splic_ext.evaluation.work import Outcome, Share, Worker
from splic_ext.runs.machine import made_now
from splic_ext.runs.progress import Progress, progress_of
from splic_ext.runs.records import Machine
from splic_ext.runs.store import PartStore, Store

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
    engine: str = "local",
    workers: int | None = None,
    threads: int | None = None,
    gpus: float = 0.0,
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
    engine : {"local", "ray"}, default "local"
        This process, or a cluster of Ray: that of the environment variable ``RAY_ADDRESS``, else
        one that runs on this machine, else one that is started and stopped. The batches are spread
        over it, one attack at a time, with the records of a local run. Networks are given on the
        CPU.
    workers : int, optional
        Batches at a time, for ``"ray"``. Default: as many as the cluster has room for.
    threads : int, optional
        Processors of each worker of Ray, which are threads of torch and of the solver. Default: 1.
    gpus : float, default 0
        GPUs of each worker of Ray; a part of one is shared. Above 0 networks are on ``"cuda"``.

    Returns
    -------
    EvaluationReport
        For clean images and each attack one record per defence, in this order.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, out of its range, or that contradicts another; a network in
        train mode; labels beyond the outputs; an attack that left [0, 1] or its ball. For a
        cluster: networks that are not on the CPU, or cannot be pickled.
    AttackError
        An attack found no gradient to follow; the error names defence and gradient.
    RuntimeError
        It was called inside :func:`splic_ext.defenses.frozen_masks`: all draws would be the same.
        A node has other versions; the workers of a batch died again and again.
    MissingExtraError
        Ray is not installed.
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

    On a cluster, a batch whose worker or node dies is done again. The seconds of records and report
    are those of all workers together, and the machine is that of the first batch.

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
    spread = make_spread(engine, workers, threads, gpus)
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
    if spread is not None:
        plan = spread.placed(plan)
    folder = None if output is None else Path(output)
    key = plan.key
    check_output(folder, key, overwrite, plan.asked)
    for note in plan.weak:
        warnings.warn(note, stacklevel=2)
    store = PartStore(None if folder is None else folder / "parts")
    with progress_of(plan.work(), shown=progress) as shown:
        outcomes = _here(plan, store, shown) if spread is None else spread(plan, store, shown)
        records, spent = _records(plan, outcomes)
    rest = time.perf_counter() - began - spent.attack - spent.defense - spent.network
    if spread is not None:
        rest = max(0.0, rest)
    report = EvaluationReport(key, records, replace(spent, rest=rest), (*plan.weak, *store.notes))
    if folder is not None:
        write_text(folder / REPORT, report.to_json())
        write_text(folder / "report.md", to_markdown(report))
    return report


def _here(plan: Plan, store: Store, progress: Progress) -> Iterator[Outcome]:
    """Do all work in this process: clean images first, then each attack."""
    for attack in (None, *plan.attacks):
        for clean in plan.batches():
            worker = Worker(plan, store, progress)
            shares = worker.shares(attack, clean, plan.defenses)
            yield Outcome(attack, clean.start, shares, worker.spent)


def _records(plan: Plan, outcomes: Iterable[Outcome]) -> tuple[tuple[Record, ...], Seconds]:
    """Return the records, clean images first, and the time spent; outcomes come in any order."""
    everything = len(plan.defenses) * len(range(0, len(plan.data), plan.batch_size))
    came: dict[str | None, dict[str, dict[int, Share]]] = {}
    machines: dict[str | None, dict[int, Machine | None]] = {}
    finished: dict[str | None, list[Record]] = {}
    spent = Seconds()
    for outcome in outcomes:
        spent += outcome.spent
        attack = outcome.attack
        machines.setdefault(attack, {})[outcome.start] = outcome.machine
        of_attack = came.setdefault(attack, {})
        for defense, share in outcome.shares.items():
            of_attack.setdefault(defense, {})[outcome.start] = share
        if sum(map(len, of_attack.values())) == everything:
            machine = min(machines.pop(attack).items())[1]
            finished[attack] = []
            for defense in plan.defenses:
                tally = _Tally(machine=machine)
                for _, share in sorted(of_attack.pop(defense).items()):
                    tally.add(share)
                finished[attack].append(tally.record(plan, attack, defense))
    in_order = (record for attack in (None, *plan.attacks) for record in finished[attack])
    return tuple(in_order), spent


@dataclass
class _Tally:
    """What is known of one record so far."""

    right: list[int] = field(default_factory=list)
    voted: list[bool] = field(default_factory=list)
    linf: list[float] = field(default_factory=list)
    l2: list[float] = field(default_factory=list)
    seconds: Seconds = field(default_factory=Seconds)
    machine: Machine | None = None

    def add(self, share: Share) -> None:
        """Add the next batch."""
        self.right += share.right
        self.voted += share.voted
        self.linf += share.linf
        self.l2 += share.l2
        self.seconds += share.seconds

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
        provenance = made_now(plan.environment, plan.device, plan.command)
        if self.machine is not None:
            provenance = replace(provenance, machine=self.machine)
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
            provenance=provenance,
        )
