"""Networks that experiments train: each once, shared by all of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from splic_ext.data import Dataset
from splic_ext.defenses import Defense
from splic_ext.experiments.budgets import Budget, Recipe
from splic_ext.runs.fingerprints import (
    TRAINING_CODE,
    code_fingerprint,
    fingerprint,
    fingerprint_arrays,
    fingerprint_own,
    package_versions,
)
from splic_ext.training import TrainingOptions, train

__all__ = ["Network", "Plan", "make_plan", "train_network"]


@dataclass(frozen=True, eq=False)
class Network:
    """A network in eval mode, and what a result says of it."""

    model: nn.Module
    #: Of its architecture, or as the caller called it.
    name: str
    #: How it was trained.
    note: str


@dataclass(frozen=True)
class Plan:
    """All that determines a training, besides the images."""

    architecture: str
    options: TrainingOptions
    #: Most training images, the first ones.
    images: int
    #: Name and object of a defence that takes the place of that of the options.
    own: tuple[str, Defense] | None = None

    def describe(self, dataset: Dataset) -> str:
        """Return a note for a result."""
        options = self.options
        count = min(self.images, len(dataset))
        defense = options.defense if self.own is None else self.own[0]
        behind = "" if defense == "identity" else f" behind {defense}"
        plural = "" if options.epochs == 1 else "s"
        how = "" if options.adversarial is None else f", attacked by {options.adversarial}"
        if options.adversarial_warmup_epochs:
            how += f", with a radius that grows for {options.adversarial_warmup_epochs:g} epochs"
        return (
            f"{self.architecture}, trained for {options.epochs} epoch{plural} on {count:,} images "
            f"of {dataset.name}{behind}{how}, seed {options.seed}"
        )


def make_plan(
    budget: Budget,
    recipe: Recipe,
    *,
    defense: str = "identity",
    own: tuple[str, Defense] | None = None,
    adversarial: bool = False,
    seed: int = 0,
    architecture: str | None = None,
    epochs: int | None = None,
) -> Plan:
    """Return how a network of a budget is trained; what is not given is as the recipe says.

    `own`, a name and a defence, takes the place of the text `defense`.
    """
    usual = recipe.adversarial_architecture if adversarial else recipe.architecture
    length = recipe.adversarial_epochs if adversarial else recipe.epochs
    options = TrainingOptions(
        epochs=length if epochs is None else epochs,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        schedule=budget.schedule,
        channels_last=True,
        precision=budget.precision,
        crop=recipe.crop,
        flip=recipe.flip,
        defense=defense if own is None else "identity",
        copies=0 if adversarial or defense == "identity" else budget.copies,
        adversarial=budget.adversary if adversarial else None,
        adversarial_warmup_epochs=recipe.growth if adversarial else 0.0,
        seed=seed,
    )
    images = recipe.adversarial_images if adversarial else recipe.images
    return Plan(usual if architecture is None else architecture, options, images, own)


def train_network(
    plan: Plan,
    dataset: Dataset,
    *,
    folder: Path | None,
    known: dict[str, Network],
    device: str | None = None,
    progress: bool = True,
    command: str | None = None,
) -> Network:
    """Train a network, or take it up where an earlier run of the same plan left it.

    Networks are kept below ``folder/networks/FINGERPRINT``, and in `known` by their fingerprint.
    """
    chosen = dataset.first(plan.images)
    defense = None if plan.own is None else plan.own[1]
    parts = {
        "code": code_fingerprint(TRAINING_CODE),
        "versions": package_versions(),
        "architecture": plan.architecture,
        "options": plan.options.identity(),
        "images": fingerprint_arrays(chosen.images, chosen.labels),
        "classes": len(chosen.classes),
    }
    key = fingerprint(parts if defense is None else {**parts, "defence": fingerprint_own(defense)})
    if key not in known:
        place = None if folder is None else folder / "networks" / key[:40]
        result = train(
            plan.architecture,
            chosen,
            plan.options,
            defense=defense,
            output=place,
            cache=None if folder is None else folder / "copies",
            # The folder is this network's own: what does not fit there is damaged.
            overwrite=True,
            device=device,
            progress=progress,
            command=command,
        )
        network = result.network.eval().requires_grad_(False)
        known[key] = Network(network, plan.architecture, plan.describe(dataset))
    return known[key]
