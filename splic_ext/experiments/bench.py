"""What every experiment works with: subjects, budget, finished parts, networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from splic_ext.attacks import FGSM, PGD, Attack, CarliniWagner
from splic_ext.data import Dataset
from splic_ext.data.cifar import CIFAR10_CLASSES
from splic_ext.data.dataset import DIGITS
from splic_ext.defenses import Defense
from splic_ext.evaluation import EvaluationReport, Record, evaluate
from splic_ext.experiments.budgets import Budget, Recipe
from splic_ext.experiments.networks import Network, make_plan, train_network
from splic_ext.experiments.results.rows import Gallery, Point, Row
from splic_ext.experiments.subjects import Subject
from splic_ext.runs.fingerprints import code_fingerprint, package_versions
from splic_ext.runs.machine import describe_machine
from splic_ext.runs.records import DatasetInfo, Provenance

__all__ = ["SURROGATE_SEED", "Bench", "Outcome"]

#: Of networks that are attacked in place of others, and must differ from them.
SURROGATE_SEED = 1
#: Of the attack of Carlini and Wagner, in the paper.
PAPER_ITERATIONS = 1000


@dataclass
class Outcome:
    """What an experiment found, for its result."""

    rows: list[Row] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    galleries: list[Gallery] = field(default_factory=list)
    datasets: list[DatasetInfo] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Bench:
    """Subjects and budget of an experiment, and how it evaluates and trains.

    Parameters
    ----------
    name : str
        Of the experiment.
    subjects : sequence of Subject
    budget : Budget
    images, slow_images : int or None
        Most test images, in general and for attacks of thousands of steps; None: all.
    draws, seed, batch_size, device, progress, command
        As in :func:`splic_ext.evaluation.evaluate`.
    attacks : sequence of str or None
        Some of those of the experiment; None: all.
    output : Path or None
        Folder of the results; finished parts and networks are below ``work``.
    networks : dict
        Those of this run, see :func:`splic_ext.experiments.networks.train_network`.
    cw_iterations : int
        Of the attack of Carlini and Wagner.
    """

    name: str
    subjects: Sequence[Subject]
    budget: Budget
    images: int | None
    slow_images: int | None
    draws: int
    seed: int = 0
    batch_size: int = 100
    attacks: Sequence[str] | None = None
    output: Path | None = None
    device: str | None = None
    progress: bool = True
    command: str | None = None
    networks: dict[str, Network] = field(default_factory=dict)
    cw_iterations: int = PAPER_ITERATIONS

    def __post_init__(self) -> None:
        self.notes: list[str] = []

    @property
    def work(self) -> Path | None:
        """Folder of what is finished."""
        return None if self.output is None else self.output / "work"

    def recipe(self, subject: Subject) -> Recipe:
        """Return how networks for these images are trained.

        Raises
        ------
        ValueError
            The budget has no recipe for them.
        """
        recipe = self.budget.recipes.get(subject.kind)
        if recipe is None:
            raise ValueError(
                f"the budget {self.budget.name!r} has no networks for {subject.kind}, only for "
                f"{', '.join(self.budget.recipes)}; choose another budget"
            )
        return recipe

    def trained(self, subject: Subject, **plan: Any) -> Network:
        """Return a network of the budget, trained now or before.

        Parameters
        ----------
        subject : Subject
            With training images.
        **plan
            As for :func:`splic_ext.experiments.networks.make_plan`.
        """
        assert subject.training is not None  # check_subjects has seen to it
        made = make_plan(self.budget, self.recipe(subject), **plan)
        if self.work is None:
            made = replace(made, options=replace(made.options, copies=0))
        network = train_network(
            made,
            subject.training,
            folder=self.work,
            known=self.networks,
            device=self.device,
            progress=self.progress,
            command=self.command,
        )
        return self._noted(network)

    def undefended(self, subject: Subject) -> Network:
        """Return the network that came with the images, else one that was trained plainly."""
        if subject.model is None:
            return self.trained(subject)
        name = subject.model_name or type(subject.model).__name__
        return Network(subject.model, name, f"{name} as it was given, for {subject.dataset.name}")

    def surrogate(self, subject: Subject) -> Network:
        """Return the network that the black box attacks: of another seed, and architecture."""
        if subject.model is not None:
            return self._noted(self.undefended(subject))
        architecture = self.recipe(subject).surrogate
        return self.trained(subject, seed=SURROGATE_SEED, architecture=architecture)

    def _noted(self, network: Network) -> Network:
        if network.note not in self.notes:
            self.notes.append(network.note)
        return network

    def evaluate(
        self,
        subject: Subject,
        network: Network,
        defenses: Mapping[str, Defense | str] | Sequence[Defense | str],
        attacks: Mapping[str, Attack | str] | Sequence[Attack | str] = (),
        *,
        limit: int | None,
        scenario: str = "gray",
        surrogate: Network | None = None,
        draws: int | None = None,
    ) -> EvaluationReport:
        """Evaluate a network behind defences, with all that this bench is set to."""
        return evaluate(
            network.model,
            subject.dataset,
            defenses=defenses,
            attacks=attacks,
            scenario=scenario,
            surrogate=None if surrogate is None else surrogate.model,
            draws=self.draws if draws is None else draws,
            seed=self.seed,
            batch_size=self.batch_size,
            limit=limit,
            output=self.work,
            overwrite=True,
            device=self.device,
            progress=self.progress,
            model_name=network.name,
            surrogate_name=None if surrogate is None else surrogate.name,
            command=self.command,
        )

    def paper_attacks(self, names: Sequence[str]) -> dict[str, Attack]:
        """Return the attacks of an experiment, with the paper's constants, by name.

        Parameters
        ----------
        names : sequence of str
            Some of "fgsm", "pgd" and "cw".
        """
        known: dict[str, Attack] = {
            "fgsm": FGSM(),
            "pgd": PGD(),
            "cw": CarliniWagner(iterations=self.cw_iterations),
        }
        if "cw" in names and self.cw_iterations != PAPER_ITERATIONS:
            note = f"CW: {self.cw_iterations} iterations in place of {PAPER_ITERATIONS}"
            self.notes += [note] if note not in self.notes else []
        return {name: known[name] for name in names}

    def by_speed(
        self, attacks: Sequence[str], slow: Sequence[str]
    ) -> list[tuple[list[str], int | None]]:
        """Return fast attacks and slow ones, each with the most images for them.

        There is an item at least, for clean images.
        """
        fast = [attack for attack in attacks if attack not in slow]
        rest = [attack for attack in attacks if attack in slow]
        most = self.slow_images or self.images
        if not rest:
            return [(fast, self.images)]
        return [(fast, self.images), (rest, most)] if fast else [(rest, most)]

    def records(
        self, subject: Subject, network: Network, attacks: Mapping[str, Attack], **given: Any
    ) -> list[Record]:
        """Evaluate, the attacks of Carlini and Wagner on fewer images; clean images come once."""
        found: list[Record] = []
        slow = [name for name, attack in attacks.items() if attack.name == "cw"]
        for some, limit in self.by_speed(list(attacks), slow):
            chosen = {name: attacks[name] for name in some}
            report = self.evaluate(subject, network, attacks=chosen, limit=limit, **given)
            found += [r for r in report.records if r.attack is not None or not found]
        return found

    def shown(self, subject: Subject, limit: int) -> Dataset:
        """Return the first images, at most `limit` and those of the bench, with names to show."""
        most = limit if self.images is None else min(limit, self.images)
        data = subject.dataset.first(most)
        if subject.kind == "cifar10" and data.classes == DIGITS:  # an archive without names
            data = replace(data, classes=CIFAR10_CLASSES)
        return data

    def provenance(self) -> Provenance:
        """Return versions, code, machine, command and the time of now."""
        return Provenance(
            versions=package_versions(),
            code=code_fingerprint(),
            machine=describe_machine(torch.device(self.device or "cpu")),
            command=self.command,
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
