"""How much of an experiment is run: networks, images, steps, draws, by the name of a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["BUDGETS", "Budget", "Recipe", "resolve_budget"]


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
    ranks : tuple of int
        For images of side 32; others have the same share of their side.
    lambdas, trained_lambdas : tuple of float
        Without training, and with a network for each.
    shares : tuple of float
        Of anchors.
    menet : str
        ME-Net's estimation where it is trained adversarially.
    photographs, pictures : int
        Columns of figure 5, and of other pictures.
    photograph_side : int
        Pixels.
    features : int
        Images of which features are shown.
    candidates : tuple of str
        Texts of defences of which `ranking` chooses one.
    strengths : tuple of float
        Of total variation, in `ranking`.
    estimations : tuple of str
        ME-Net's, in `ranking`.
    hardened : bool
        Whether `ranking` also trains adversarially.
    hypotheses : tuple of str
        Kinds of data that the hypotheses are tried on, and that are ranked.
    """

    name: str
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
    ranks: tuple[int, ...]
    lambdas: tuple[float, ...]
    trained_lambdas: tuple[float, ...]
    shares: tuple[float, ...]
    menet: str
    photographs: int
    pictures: int
    photograph_side: int
    features: int
    candidates: tuple[str, ...]
    strengths: tuple[float, ...]
    estimations: tuple[str, ...]
    hardened: bool
    hypotheses: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("candidates", "strengths"):
            if not getattr(self, name):
                raise ValueError(f"`{name}` of a budget must not be empty; give one")


#: The paper's ranks: all, a half, three eighths, a quarter, an eighth.
RANKS = (32, 16, 12, 8, 4)
LAMBDAS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
#: One mask each: a mean of several masks takes so many times as long, in each step of an attack.
CANDIDATES = (
    "splic",
    "splic:tv_weight=0.1",
    "splic:anchor_fraction=0.7",
    "splic:anchor_fraction=0.7,tv_weight=0.1",
    "splic+tv:weight=0.03",
    "splic:tv_weight=0.05+tv:weight=0.05",
)
STRENGTHS = (0.03, 0.05, 0.1, 0.15)

_DIGITS = Recipe(
    architecture="digits_cnn",
    surrogate="digits_cnn",
    other_size="digits_cnn",
    adversarial_architecture="digits_cnn",
    images=1297,
    adversarial_images=1297,
    epochs=20,
    adversarial_epochs=20,
    sweep_epochs=20,
    batch_size=32,
    crop=1,
)
_SMOKE = Budget(
    name="smoke",
    recipes=MappingProxyType(
        {
            "digits": Recipe(
                architecture="digits_cnn",
                surrogate="digits_cnn",
                other_size="digits_cnn",
                adversarial_architecture="digits_cnn",
                images=640,
                adversarial_images=320,
                epochs=6,
                adversarial_epochs=4,
                sweep_epochs=4,
                batch_size=32,
                crop=0,
            ),
        }
    ),
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
    ranks=(32, 8),
    lambdas=(0.0, 0.02),
    trained_lambdas=(0.0, 0.02),
    shares=(0.3, 0.7),
    menet="usvt",
    photographs=1,
    pictures=3,
    photograph_side=32,
    features=40,
    candidates=("splic", "splic:anchor_fraction=0.7"),
    strengths=(0.05, 0.1),
    estimations=("usvt",),
    hardened=True,
    hypotheses=("digits",),
)
_CPU = Budget(
    name="cpu",
    recipes=MappingProxyType(
        {
            "cifar10": Recipe(
                architecture="svhn_vgg",
                surrogate="resnet20",
                other_size="resnet20",
                adversarial_architecture="svhn_vgg",
                images=20_000,
                adversarial_images=10_000,
                epochs=8,
                adversarial_epochs=12,
                sweep_epochs=3,
                growth=4,
                flip=True,
            ),
            "svhn": Recipe(
                architecture="svhn_vgg",
                surrogate="resnet20",
                other_size="resnet20",
                adversarial_architecture="svhn_vgg",
                images=10_000,
                adversarial_images=10_000,
                epochs=12,
                adversarial_epochs=12,
                sweep_epochs=8,
                growth=6,
                batch_size=64,
                learning_rate=0.05,
            ),
            "digits": _DIGITS,
        }
    ),
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
    ranks=RANKS,
    lambdas=LAMBDAS,
    trained_lambdas=(0.0, 0.02, 0.05, 0.1),
    shares=SHARES,
    menet="usvt",
    photographs=4,
    pictures=7,
    photograph_side=112,
    features=300,
    candidates=CANDIDATES,
    strengths=STRENGTHS,
    estimations=("usvt", "soft-impute", "nuclear-norm"),
    hardened=False,
    hypotheses=("svhn", "digits"),
)
_GPU_RECIPE = Recipe(
    architecture="resnet18",
    surrogate="resnet20",
    other_size="resnet20",
    adversarial_architecture="resnet18",
    images=2**31 - 1,
    adversarial_images=2**31 - 1,
    epochs=200,
    adversarial_epochs=200,
    sweep_epochs=60,
    flip=True,
)
_GPU = Budget(
    name="gpu",
    recipes=MappingProxyType(
        {
            "cifar10": _GPU_RECIPE,
            "svhn": Recipe(**{**vars(_GPU_RECIPE), "flip": False}),
            "digits": _DIGITS,
        }
    ),
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
    ranks=RANKS,
    lambdas=(0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    trained_lambdas=LAMBDAS,
    shares=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    menet="nuclear-norm",
    photographs=4,
    pictures=7,
    photograph_side=112,
    features=1_000,
    candidates=(*CANDIDATES, "splic:recommended", "splic:n_masks=4+tv:weight=0.03"),
    strengths=(0.02, *STRENGTHS, 0.2),
    estimations=("usvt", "soft-impute", "nuclear-norm"),
    hardened=True,
    hypotheses=("cifar10", "svhn", "digits"),
)

#: "smoke" shows that all of it runs, "cpu" is for two cores, "gpu" has the paper's sizes.
BUDGETS: Mapping[str, Budget] = MappingProxyType({b.name: b for b in (_SMOKE, _CPU, _GPU)})


def resolve_budget(budget: str | Budget) -> Budget:
    """Return the budget of that name, or the one that was given.

    Parameters
    ----------
    budget : str or Budget

    Raises
    ------
    ValueError
        No budget of this name.

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
