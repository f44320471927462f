"""How networks are trained, by the kind of data that they learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

__all__ = ["RECIPES", "Recipe"]


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


_DIGITS = Recipe(
    *("digits_cnn", "digits_cnn", "digits_cnn", "digits_cnn"),
    images=1297,
    adversarial_images=1297,
    epochs=20,
    adversarial_epochs=20,
    sweep_epochs=20,
    batch_size=32,
    crop=1,
)
_FEW_DIGITS = replace(
    _DIGITS,
    images=640,
    adversarial_images=320,
    epochs=6,
    adversarial_epochs=4,
    sweep_epochs=4,
    crop=0,
)
_SMALL_VGG = Recipe(
    *("svhn_vgg", "resnet20", "resnet20", "svhn_vgg"),
    images=20_000,
    adversarial_images=10_000,
    epochs=8,
    adversarial_epochs=12,
    sweep_epochs=3,
    growth=4,
    flip=True,
)
_RESNET = Recipe(
    *("resnet18", "resnet20", "resnet20", "resnet18"),
    images=2**31 - 1,
    adversarial_images=2**31 - 1,
    epochs=200,
    adversarial_epochs=200,
    sweep_epochs=60,
    flip=True,
)

#: Name of a budget -> kind of data -> how its networks are trained.
RECIPES: Mapping[str, Mapping[str, Recipe]] = MappingProxyType(
    {
        "smoke": MappingProxyType({"digits": _FEW_DIGITS}),
        "cpu": MappingProxyType(
            {
                "cifar10": _SMALL_VGG,
                "svhn": replace(
                    _SMALL_VGG,
                    images=10_000,
                    epochs=12,
                    sweep_epochs=8,
                    growth=6,
                    batch_size=64,
                    learning_rate=0.05,
                    flip=False,
                ),
                "digits": _DIGITS,
            }
        ),
        "gpu": MappingProxyType(
            {"cifar10": _RESNET, "svhn": replace(_RESNET, flip=False), "digits": _DIGITS}
        ),
    }
)
