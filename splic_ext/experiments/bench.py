"""What every experiment works with: subjects, settings, networks, and how it evaluates."""

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
from splic_ext.evaluation.weak import is_weak, not_warned
from splic_ext.experiments.budgets import Budget, Recipe
from splic_ext.experiments.networks import Network, make_plan, train_network
from splic_ext.experiments.results.rows import Gallery, Point, Row
from splic_ext.experiments.subjects import Subject
from splic_ext.runs.fingerprints import code_fingerprint, package_versions
from splic_ext.runs.inputs import network_device
from splic_ext.runs.machine import describe_machine
from splic_ext.runs.records import DatasetInfo, Provenance

__all__ = ["PAPER_ITERATIONS", "SURROGATE_SEED", "WEAK_NOTE", "Bench", "Outcome", "Settings"]

#: Of networks that are attacked in place of others, and must differ from them.
SURROGATE_SEED = 1
#: Of the attack of Carlini and Wagner, in the paper.
PAPER_ITERATIONS = 1000
#: Of white boxes as the paper has them.
WEAK_NOTE = (
    "white box by the gradient identity (BPDA) alone, where no other stands beside it: a weak "
    "attack on a defence, and an upper bound"
)
#: Names of attacks that take so long that fewer images must do.
SLOW = ("cw",)


@dataclass
class Outcome:
    """What an experiment found, for its result."""

    rows: list[Row] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    galleries: list[Gallery] = field(default_factory=list)
    datasets: list[DatasetInfo] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Settings:
    """How an experiment is run: what was asked for, with the numbers of the budget filled in."""

    budget: Budget
    #: For the result; None: all images were taken, whatever the budget says.
    budget_name: str | None
    #: Most test images, in general and for attacks of thousands of steps; None: all.
    images: int | None
    slow_images: int | None
    draws: int
    #: Of the attack of Carlini and Wagner.
    cw_iterations: int
    seed: int
    batch_size: int
    #: Some of those of the experiment; None: all.
    attacks: Sequence[str] | None
    #: Folder of the results.
    output: Path | None
    device: str | None
    progress: bool
    command: str | None

    @property
    def work(self) -> Path | None:
        """Folder of finished parts and networks."""
        return None if self.output is None else self.output / "work"

    @property
    def attacked(self) -> int:
        """Most test images in the white box."""
        most = self.budget.attacked
        return most if self.images is None else min(most, self.images)


@dataclass(frozen=True)
class Bench:
    """An experiment at work: it trains, evaluates and notes what a reader should know."""

    name: str
    subjects: Sequence[Subject]
    settings: Settings
    #: By fingerprint: those that were trained, by this experiment or another of the same run.
    networks: dict[str, Network] = field(default_factory=dict)
    #: Defences that were given, by name: rows beside those of the experiment.
    own: Mapping[str, Defense] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def recipe(self, subject: Subject) -> Recipe:
        """Return how networks for these images are trained."""
        budget = self.settings.budget
        recipe = budget.recipes.get(subject.kind)
        if recipe is None:
            raise ValueError(
                f"the budget {budget.name!r} has no networks for {subject.kind}, only for "
                f"{', '.join(budget.recipes)}; choose another budget"
            )
        return recipe

    def defense(self, name: str) -> Defense | str:
        """Return a defence that was given under this name, else the name, which is a text."""
        return self.own.get(name, name)

    def trained(self, subject: Subject, defense: str = "identity", **plan: Any) -> Network:
        """Return a network, trained now or before; the rest of the plan is as for `make_plan`."""
        assert subject.training is not None  # check_subjects has seen to it
        settings = self.settings
        own = (defense, self.own[defense]) if defense in self.own else None
        made = make_plan(settings.budget, self.recipe(subject), defense=defense, own=own, **plan)
        if settings.work is None:  # there is no place for completed copies
            made = replace(made, options=replace(made.options, copies=0))
        network = train_network(
            made, subject.training, folder=settings.work, known=self.networks,
            device=settings.device, progress=settings.progress, command=settings.command,
        )  # fmt: skip
        self.note(network.note)
        return network

    def undefended(self, subject: Subject) -> Network:
        """Return the network that came with the images, else one that was trained plainly."""
        if subject.model is None:
            return self.trained(subject)
        name = subject.model_name or type(subject.model).__name__
        return Network(subject.model, name, f"{name} as it was given, for {subject.dataset.name}")

    def surrogate(self, subject: Subject) -> Network:
        """Return the network that the black box attacks: the given one, or one of another seed."""
        if subject.model is None:
            architecture = self.recipe(subject).surrogate
            return self.trained(subject, seed=SURROGATE_SEED, architecture=architecture)
        network = self.undefended(subject)
        self.note(network.note)
        return network

    def paper_attacks(self, names: Sequence[str]) -> dict[str, Attack]:
        """Return the attacks of an experiment that were asked for, with the paper's constants."""
        asked = names if self.settings.attacks is None else self.settings.attacks
        iterations = self.settings.cw_iterations
        known: dict[str, Attack] = {
            "fgsm": FGSM(),
            "pgd": PGD(),
            "cw": CarliniWagner(iterations=iterations),
        }
        if "cw" in asked and iterations != PAPER_ITERATIONS:
            self.note(f"CW: {iterations} iterations in place of {PAPER_ITERATIONS}")
        return {name: known[name] for name in asked}

    def evaluate(
        self,
        subject: Subject,
        network: Network,
        defenses: Mapping[str, Defense | str] | Sequence[str],
        attacks: Mapping[str, Attack | str] | Sequence[Attack | str] = (),
        *,
        limit: int | None,
        scenario: str = "gray",
        surrogate: Network | None = None,
    ) -> EvaluationReport:
        """Evaluate a network behind defences on the first `limit` images."""
        settings = self.settings
        if not isinstance(defenses, Mapping):
            defenses = {name: self.defense(name) for name in defenses}
        with not_warned():
            report = evaluate(
                network.model, subject.dataset, defenses=defenses, attacks=attacks,
                scenario=scenario, surrogate=None if surrogate is None else surrogate.model,
                model_name=network.name,
                surrogate_name=None if surrogate is None else surrogate.name,
                draws=settings.draws, seed=settings.seed, batch_size=settings.batch_size,
                limit=limit, output=settings.work, overwrite=True, device=settings.device,
                progress=settings.progress, command=settings.command,
            )  # fmt: skip
        if is_weak(report.notes):
            self.note(WEAK_NOTE)
        return report

    def records(
        self, subject: Subject, network: Network, attacks: Mapping[str, Attack], **given: Any
    ) -> list[Record]:
        """Evaluate, slow attacks on fewer images; clean images come once."""
        settings = self.settings
        slow = {name: attack for name, attack in attacks.items() if attack.name in SLOW}
        fast = {name: attack for name, attack in attacks.items() if name not in slow}
        runs = [(slow, settings.slow_images or settings.images)] if slow else []
        if fast or not slow:  # clean images at least
            runs.insert(0, (fast, settings.images))
        found: list[Record] = []
        for some, limit in runs:
            report = self.evaluate(subject, network, attacks=some, limit=limit, **given)
            found += [r for r in report.records if r.attack is not None or not found]
        return found

    def shown(self, subject: Subject, limit: int) -> Dataset:
        """Return the first images, with names to show: `limit` at most, and those of a run."""
        images = self.settings.images
        data = subject.dataset.first(limit if images is None else min(limit, images))
        if subject.kind == "cifar10" and data.classes == DIGITS:  # an archive without names
            data = replace(data, classes=CIFAR10_CLASSES)
        return data

    def provenance(self) -> Provenance:
        """Return versions, code, machine, command and the time of now."""
        given = [subject.model for subject in self.subjects if subject.model is not None]
        trained = [network.model for network in self.networks.values()]
        asked = self.settings.device
        device = network_device(*given, *trained) if asked is None else torch.device(asked)
        return Provenance(
            versions=package_versions(),
            code=code_fingerprint(),
            machine=describe_machine(device),
            command=self.settings.command,
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    def note(self, text: str) -> None:
        """Note what a reader should know, once."""
        if text not in self.notes:
            self.notes.append(text)
