"""How much of an experiment is run: networks, images, steps and draws, by the name of a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

__all__ = ["BUDGETS", "RECIPES", "SCALES", "Budget", "Recipe", "resolve_budget"]

#: Tables and figures have their lists of values for each of these, beside their code.
SCALES = ("smoke", "cpu", "gpu")

Value = TypeVar("Value")


@dataclass(frozen=True)
class Recipe:
    """How the networks of one kind of data are trained.

    Attributes
    ----------
    architecture, surrogate, other_size : str
        Names for :func:`splic_ext.models.build_model`: of the networks that are defended, of the
        one that the black box attacks, and of the one that asks whether size matters.
    adversarial_architecture : str
        Of the networks that are trained adversarially, which takes several times as long.
    images, adversarial_images : int
        Most training images, the first ones.
    epochs, adversarial_epochs, sweep_epochs : int
        Passes over them; the last where a network is trained for each value of a parameter.
    growth : float
        Epochs in which the adversary's radius grows, see
        :class:`splic_ext.training.TrainingOptions`.
    batch_size : int
    learning_rate : float
    crop : int
        See :class:`splic_ext.training.TrainingOptions`.
    flip : bool
    """

    architecture: str
    surrogate: str
    other_size: str
    adversarial_architecture: str
    images: int
    adversarial_images: int
    epochs: int
    adversarial_epochs: int
    sweep_epochs: int
    growth: float = 0.0
    batch_size: int = 128
    learning_rate: float = 0.1
    crop: int = 4
    flip: bool = False

    def __post_init__(self) -> None:
        if self.growth and self.growth >= self.adversarial_epochs:
            raise ValueError(
                f"`growth` must be fewer than the {self.adversarial_epochs} `adversarial_epochs`, "
                f"got {self.growth:g}; choose less"
            )


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
    images, attacked, slow_images : int
        Most test images: in general, in the white box, and for the attack of Carlini and Wagner.
    draws : int
        Fresh masks for each finished image.
    cw_iterations : int
        Of the attack of Carlini and Wagner, where networks are trained.
    steps, eot : int
        Of the adaptive attacks: steps of 1/255, draws for each gradient.
    adversary : str
        What adversarial training attacks with.
    schedule, precision : str
        See :class:`splic_ext.training.TrainingOptions`.
    """

    name: str
    scale: str
    recipes: Mapping[str, Recipe]
    copies: int
    images: int
    attacked: int
    slow_images: int
    draws: int
    cw_iterations: int
    steps: int
    eot: int
    adversary: str = "bpda:steps=2,step_size=6/255"
    schedule: str = "cosine"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ValueError(
                f"`scale` of a budget must be one of {', '.join(SCALES)}, got {self.scale!r}; "
                "choose one"
            )

    def pick(self, values: Mapping[str, Value]) -> Value:
        """Return what a table or figure takes at this scale."""
        return values[self.scale]


# Images, adversarial images; epochs, adversarial epochs, sweep epochs.
_CNNS = ("digits_cnn", "digits_cnn", "digits_cnn", "digits_cnn")
_DIGITS = Recipe(*_CNNS, 1297, 1297, 20, 20, 20, batch_size=32, crop=1)
_SHAPES = Recipe(
    *("shapes_cnn", "svhn_vgg", "svhn_vgg", "shapes_cnn"),
    10_000,
    5_000,
    5,
    12,
    3,
    growth=6,
    batch_size=64,
    crop=1,
    flip=True,
)
_VGG = Recipe(
    *("svhn_vgg", "resnet20", "resnet20", "svhn_vgg"), 20_000, 10_000, 8, 12, 3, growth=4, flip=True
)
_ALL = 2**31 - 1
_RESNET = Recipe(
    *("resnet18", "resnet20", "resnet20", "resnet18"), _ALL, _ALL, 200, 200, 60, flip=True
)

#: Scale of a budget -> kind of data -> how its networks are trained.
RECIPES: Mapping[str, Mapping[str, Recipe]] = MappingProxyType(
    {
        "smoke": {
            "digits": Recipe(*_CNNS, 640, 320, 6, 4, 4, batch_size=32, crop=0),
            "shapes": replace(
                _SHAPES, images=320, adversarial_images=128, epochs=2, adversarial_epochs=1,
                sweep_epochs=1, growth=0, crop=0,
            ),
        },
        "cpu": {
            "cifar10": _VGG,
            "svhn": replace(
                _VGG, images=10_000, epochs=12, sweep_epochs=8, growth=6, batch_size=64,
                learning_rate=0.05, flip=False,
            ),
            "digits": _DIGITS,
            "shapes": _SHAPES,
        },
        "gpu": {
            "cifar10": _RESNET,
            "svhn": replace(_RESNET, flip=False),
            "digits": _DIGITS,
            "shapes": _SHAPES,
        },
    }
)  # fmt: skip

#: "smoke" shows that all of it runs, "cpu" is for two cores, "gpu" has the paper's sizes.
BUDGETS: Mapping[str, Budget] = MappingProxyType(
    {
        budget.name: budget
        for budget in (
            # copies, images, attacked, slow images, draws, iterations of CW, steps, eot
            Budget("smoke", "smoke", RECIPES["smoke"], 1, 24, 10, 2, 2, 3, 2, 2),
            Budget("cpu", "cpu", RECIPES["cpu"], 2, 500, 100, 50, 4, 200, 40, 4),
            Budget(
                "gpu", "gpu", RECIPES["gpu"], 0, 10_000, 1_000, 1_000, 10, 1_000, 200, 20,
                adversary="bpda", schedule="step", precision="bfloat16",
            ),
        )
    }
)  # fmt: skip


def resolve_budget(budget: str | Budget) -> Budget:
    """Return the budget of that name, or the one that was given."""
    if isinstance(budget, Budget):
        return budget
    if not isinstance(budget, str) or budget not in BUDGETS:
        raise ValueError(
            f"`budget` must be one of {', '.join(BUDGETS)}, or a Budget, got {budget!r}; choose one"
        )
    return BUDGETS[budget]
