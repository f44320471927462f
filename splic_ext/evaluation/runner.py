"""Attack, defend, classify, count: the evaluation itself."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from splic_ext.atomic import write_text
from splic_ext.attacks import Attack
from splic_ext.checks import check_integer
from splic_ext.data import Dataset
from splic_ext.defenses import Defended, Defense
from splic_ext.defenses.randomness import masks_are_frozen
from splic_ext.evaluation.guards import REPORT, check_output
from splic_ext.evaluation.inputs import (
    check_network,
    check_scenario,
    named_attacks,
    named_defenses,
)
from splic_ext.evaluation.records import Perturbation, Record, Seconds
from splic_ext.evaluation.reports import EvaluationReport
from splic_ext.evaluation.statistics import count_votes
from splic_ext.evaluation.tables import to_markdown
from splic_ext.evaluation.work import Batch, Worker, describe_attack
from splic_ext.runs.fingerprints import (
    fingerprint,
    fingerprint_weights,
)
from splic_ext.runs.inputs import check_dataset, describe_dataset, is_random, resolve_device
from splic_ext.runs.machine import describe_machine
from splic_ext.runs.progress import Progress, ProgressBar
from splic_ext.runs.records import NetworkInfo, Provenance
from splic_ext.runs.store import PartStore

__all__ = ["evaluate"]

_MOST = 2**31 - 1


def evaluate(
    model: nn.Module,
    dataset: Dataset,
    *,
    defenses: Mapping[str, Defense | str] | Sequence[Defense | str],
    attacks: Mapping[str, Attack | str] | Sequence[Attack | str] = (),
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
        Images and labels, as from :func:`splic_ext.data.load_dataset`.
    defenses : mapping or sequence
        Defences, or texts such as ``splic:recommended``; see
        :func:`splic_ext.evaluation.named_defenses`.
    attacks : mapping or sequence, optional
        Attacks, or texts such as ``pgd:steps=40``; none: clean images only.
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
        Show a progress bar, on a terminal and where Rich is installed.
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
        From an attack that was none, naming defence and gradient.
    RuntimeError
        It was called inside :func:`splic_ext.defenses.frozen_masks`: all draws would be the same.
    OSError
        `output` cannot be written.

    Warns
    -----
    UserWarning
        A saved part is damaged, or not of this evaluation; it is made anew.

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
    check_dataset(dataset)
    chosen = dataset if limit is None else dataset.first(check_integer("limit", limit, 1, _MOST))
    folder = None if output is None else Path(output)
    run = _Run(
        model=model,
        surrogate=surrogate,
        data=chosen,
        defenses=named_defenses(defenses),
        attacks=named_attacks(attacks),
        scenario=scenario,
        draws=check_integer("draws", draws, 1, _MOST),
        seed=check_integer("seed", seed, 0, 2**64 - 1),
        batch_size=check_integer("batch_size", batch_size, 1, _MOST),
        device=resolve_device(device, model),
        store=PartStore(None if folder is None else folder / "parts"),
        names=(model_name, surrogate_name),
        command=command,
    )
    key = run.key()
    check_output(folder, key, overwrite, run.asked())
    with (ProgressBar if progress else Progress)(run.plan()) as run.progress:
        records = tuple(run.all())
    spent = run.worker.spent
    rest = time.perf_counter() - began - spent.attack - spent.defense - spent.network
    seconds = Seconds(spent.attack, spent.defense, spent.network, rest)
    report = EvaluationReport(key, records, seconds, tuple(run.store.notes))
    if folder is not None:
        write_text(folder / REPORT, report.to_json())
        write_text(folder / "report.md", to_markdown(report))
    return report


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


@dataclass
class _Run:
    """One evaluation: its parameters, and what it has done so far."""

    model: nn.Module
    surrogate: nn.Module | None
    data: Dataset
    defenses: dict[str, Defense]
    attacks: dict[str, Attack]
    scenario: str
    draws: int
    seed: int
    batch_size: int
    device: torch.device
    store: PartStore
    names: tuple[str | None, str | None]
    command: str | None
    progress: Progress = field(default_factory=lambda: Progress({}))

    def __post_init__(self) -> None:
        check_scenario(self.scenario, self.surrogate)
        few = self._clean(0, min(4, len(self.data))).images
        for parameter, network in (("model", self.model), ("surrogate", self.surrogate)):
            if isinstance(network, nn.Module):
                network.to(self.device)
            if network is not None or parameter == "model":
                check_network(parameter, network, few, self.data.labels)
        self.worker = Worker(self.model, self.device, self.seed, self.store)
        self.mask_seeds: dict[str, tuple[int, ...]] = {}
        for name, defense in self.defenses.items():
            defense.to(self.device)
            draws = self.draws if is_random(name, defense, few) else 1
            self.mask_seeds[name] = self.worker.mask_seeds(draws)
        self.dataset_info = describe_dataset(self.data)

    def key(self) -> str:
        """Return the hash of all that determines the records."""
        hashed = self.worker.fingerprint
        return fingerprint(
            {
                "environment": self.worker.environment,
                "dataset": self.dataset_info.sha256,
                "model": hashed(self.model),
                "surrogate": None if self.surrogate is None else hashed(self.surrogate),
                "scenario": self.scenario,
                "defenses": {name: hashed(defense) for name, defense in self.defenses.items()},
                "attacks": {name: describe_attack(a) for name, a in self.attacks.items()},
                "draws": self.draws,
                "seed": self.seed,
                "batch_size": self.batch_size,
            }
        )

    def asked(self) -> dict[str, Any]:
        """Return what a report tells of :meth:`key`."""
        environment, other = self.worker.environment, self.surrogate
        return {
            "scenario": self.scenario,
            "seed": self.seed,
            "draws": max(map(len, self.mask_seeds.values())),
            "data set": self.dataset_info.sha256,
            "network": fingerprint_weights(self.model),
            "surrogate": None if other is None else fingerprint_weights(other),
            "defences": {name: _one_line(defense) for name, defense in self.defenses.items()},
            "attacks": {name: attack.to_dict() for name, attack in self.attacks.items()},
            "versions of packages": environment["versions"],
            "code": environment["code"],
            "device": environment["device"],
        }

    def plan(self) -> dict[str, int]:
        """Return kind of work -> number of images."""
        count = len(self.data)
        plan = {self._kind(a, defense): count for a in self.attacks for defense in self.defenses}
        scored = count * (1 + len(self.attacks))
        return plan | {f"scoring {name}": scored for name in self.defenses}

    def _kind(self, attack: str, defense: str) -> str:
        return f"{attack} on {defense}" if self.scenario == "white" else f"attack {attack}"

    def all(self) -> Iterator[Record]:
        """Yield the records: clean images first, then each attack, all defences."""
        for attack in (None, *self.attacks):
            tallies = {name: _Tally() for name in self.defenses}
            for start in range(0, len(self.data), self.batch_size):
                stop = min(start + self.batch_size, len(self.data))
                self._add(attack, self._clean(start, stop), tallies)
            for name, tally in tallies.items():
                yield self._record(attack, name, tally)

    def _clean(self, start: int, stop: int) -> Batch:
        data = self.data
        part = replace(data, images=data.images[start:stop], labels=data.labels[start:stop])
        images, labels = torch.from_numpy(part.to_float()), torch.from_numpy(part.labels)
        return Batch(start, images.to(self.device), labels.to(self.device))

    def _add(self, attack: str | None, clean: Batch, tallies: dict[str, _Tally]) -> None:
        """Attack a batch and score it behind all defences."""
        shared: tuple[Batch, Seconds] | None = None
        labels = clean.labels.cpu().numpy()
        for name, tally in tallies.items():
            finished, seconds = clean, Seconds()
            if attack is not None:
                if shared is None or self.scenario == "white":
                    target = self._target(name)
                    shared = self.worker.attack(attack, self.attacks[attack], target, clean)
                    kind = self._kind(attack, name)
                    self.progress.advance(kind, len(clean), shared[1].total)
                finished, seconds = shared
                tally.add_change(finished.images - clean.images)
            predictions, scoring = self.worker.score(
                name, self.defenses[name], self.mask_seeds[name], finished
            )
            self.progress.advance(f"scoring {name}", len(clean), scoring.total)
            right, voted = count_votes(predictions, labels)
            tally.right += right.tolist()
            tally.voted += voted.tolist()
            tally.seconds += seconds + scoring

    def _target(self, defense: str) -> nn.Module:
        if self.scenario == "white":
            return Defended(self.model, self.defenses[defense])
        return self.model if self.surrogate is None else self.surrogate

    def _record(self, attack: str | None, defense: str, tally: _Tally) -> Record:
        chosen = None if attack is None else self.attacks[attack]
        threat = None
        if chosen is not None and chosen.bounded:
            threat = {"norm": chosen.threat.norm, "epsilon": chosen.threat.epsilon}
        model_name, surrogate_name = self.names
        surrogate = self.surrogate
        return Record(
            scenario=self.scenario,
            dataset=self.dataset_info,
            model=_network_info(self.model, model_name),
            surrogate=None if surrogate is None else _network_info(surrogate, surrogate_name),
            defense=defense,
            defense_repr=_one_line(self.defenses[defense]),
            attack=attack,
            parameters=None if chosen is None else chosen.to_dict(),
            threat=threat,
            seed=self.seed,
            draws=len(self.mask_seeds[defense]),
            mask_seeds=self.mask_seeds[defense],
            right=tuple(tally.right),
            voted=tuple(tally.voted),
            perturbation=tally.perturbation(),
            seconds=tally.seconds,
            provenance=Provenance(
                versions=self.worker.environment["versions"],
                code=self.worker.environment["code"],
                machine=describe_machine(self.device),
                command=self.command,
                date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            ),
        )


def _one_line(defense: Defense) -> str:
    return " ".join(repr(defense).split())


def _network_info(network: nn.Module, name: str | None) -> NetworkInfo:
    return NetworkInfo(name or type(network).__name__, fingerprint_weights(network))
