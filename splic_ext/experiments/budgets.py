"""How much of an experiment is run: images, steps and draws, by the name of a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from splic_ext.experiments.recipes import RECIPES, Recipe

__all__ = ["BUDGETS", "SCALES", "Budget", "resolve_budget"]

#: Tables and figures have their lists of values for each of these, beside their code.
SCALES = ("smoke", "cpu", "gpu")

Value = TypeVar("Value")


@dataclass(frozen=True)
class Budget:
    """How much of every experiment is run.

    Attributes
    ----------
    name : str
    scale : {"smoke", "cpu", "gpu"}
        Which lists of values tables and figures take: ranks, candidates, number of pictures, ...
    recipes : mapping
        Kind of data -> how its networks are trained.
    copies : int
        Completed copies of the training images, see :class:`splic_ext.training.TrainingOptions`.
    adversary : str
        What adversarial training attacks with.
    schedule, precision : str
        See :class:`splic_ext.training.TrainingOptions`.
    images, attacked, slow_images : int
        Most test images: in general, in the white box, and for the attack of Carlini and Wagner.
    draws : int
        Fresh masks for each finished image.
    cw_iterations : int
        Of the attack of Carlini and Wagner, where networks are trained.
    steps, eot : int
        Of the adaptive attacks: steps of 1/255, draws for each gradient.
    """

    name: str
    scale: str
    recipes: Mapping[str, Recipe]
    copies: int
    adversary: str
    schedule: str
    precision: str
    images: int
    attacked: int
    slow_images: int
    draws: int
    cw_iterations: int
    steps: int
    eot: int

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ValueError(
                f"`scale` of a budget must be one of {', '.join(SCALES)}, got {self.scale!r}; "
                "choose one"
            )

    def pick(self, values: Mapping[str, Value]) -> Value:
        """Return what a table or figure takes at this scale."""
        return values[self.scale]


_SMOKE = Budget(
    *("smoke", "smoke", RECIPES["smoke"]),
    copies=1,
    adversary="bpda:steps=2,step_size=6/255",
    schedule="cosine",
    precision="float32",
    images=40,
    attacked=10,
    slow_images=2,
    draws=2,
    cw_iterations=3,
    steps=2,
    eot=2,
)
_CPU = Budget(
    *("cpu", "cpu", RECIPES["cpu"]),
    copies=2,
    adversary="bpda:steps=2,step_size=6/255",
    schedule="cosine",
    precision="float32",
    images=500,
    attacked=100,
    slow_images=50,
    draws=4,
    cw_iterations=200,
    steps=40,
    eot=4,
)
_GPU = Budget(
    *("gpu", "gpu", RECIPES["gpu"]),
    copies=0,
    adversary="bpda",
    schedule="step",
    precision="bfloat16",
    images=10_000,
    attacked=1_000,
    slow_images=1_000,
    draws=10,
    cw_iterations=1_000,
    steps=200,
    eot=20,
)

#: "smoke" shows that all of it runs, "cpu" is for two cores, "gpu" has the paper's sizes.
BUDGETS: Mapping[str, Budget] = MappingProxyType({b.name: b for b in (_SMOKE, _CPU, _GPU)})


def resolve_budget(budget: str | Budget) -> Budget:
    """Return the budget of that name, or the one that was given.

    Examples
    --------
    >>> resolve_budget("cpu").recipes["svhn"].architecture
    'svhn_vgg'
    """
    if isinstance(budget, Budget):
        return budget
    if not isinstance(budget, str) or budget not in BUDGETS:
        raise ValueError(
            f"`budget` must be one of {', '.join(BUDGETS)}, or a Budget, got {budget!r}; choose one"
        )
    return BUDGETS[budget]
