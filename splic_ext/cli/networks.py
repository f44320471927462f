"""Options for networks, which several commands share, and the network that they describe."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

if TYPE_CHECKING:
    from torch import nn

    from splic_ext.data import Dataset

__all__ = [
    "MODELS",
    "Classes",
    "Mean",
    "Model",
    "Std",
    "Surrogate",
    "SurrogateWeights",
    "Weights",
    "constants",
    "load",
    "load_surrogate",
    "network_option",
]

network_option = partial(typer.Option, rich_help_panel="Networks")

MODELS = (
    "resnet20, resnet56, resnet18, svhn_vgg, shapes_cnn, digits_cnn, or your own as "
    "file.py:function or package.module:function."
)

Model: TypeAlias = Annotated[
    str, network_option(metavar="NAME|PLACE", help=f"Network that is defended: {MODELS}")
]
Weights: TypeAlias = Annotated[
    Path | None,
    network_option(metavar="FILE", help="Weights of --model; your own may go without."),
]
Mean: TypeAlias = Annotated[
    str | None,
    network_option(
        metavar="NUMBERS",
        help="Of your own network that does not normalise its images: mean on the scale of [0, 1], "
        "one number, or one for each channel, with commas.",
    ),
]
Std: TypeAlias = Annotated[
    str | None, network_option(metavar="NUMBERS", help="Standard deviation, likewise.")
]
Classes: TypeAlias = Annotated[
    int | None,
    network_option(min=1, help="Outputs of the networks. Default: the classes of the data set."),
]
Surrogate: TypeAlias = Annotated[
    str | None,
    network_option(
        metavar="NAME|PLACE",
        help="For the black box: the network that is attacked. For `attack`: one more to transfer "
        "from, such as an adversarially trained one.",
    ),
]
SurrogateWeights: TypeAlias = Annotated[
    Path | None, network_option(metavar="FILE", help="Weights of --surrogate.")
]


def load(
    model: str,
    weights: Path | None,
    data: Dataset,
    classes: int | None,
    mean: str | None = None,
    std: str | None = None,
    channels: int | None = None,
) -> nn.Module:
    """Return the network of a command line for a data set, in eval mode."""
    from splic_ext.evaluation import load_network

    return load_network(
        model, weights, classes, channels, mean=constants("mean", mean),
        std=constants("std", std), dataset=data,
    )  # fmt: skip


def load_surrogate(
    surrogate: str | None, weights: Path | None, data: Dataset, classes: int | None
) -> Any:
    """Return the surrogate of a command line; None if there is none."""
    from splic_ext.common.outside import split_place

    own = surrogate is not None and split_place(surrogate) is not None
    if (surrogate is None) != (weights is None) and not own:
        raise ValueError("--surrogate and --surrogate-weights belong together; give both")
    return None if surrogate is None else load(surrogate, weights, data, classes)


def constants(name: str, text: str | None) -> list[float] | None:
    """Return the numbers of ``--mean`` or ``--std``.

    >>> constants("mean", "0.5, 0.25")
    [0.5, 0.25]
    """
    from splic_ext.common.checks import shortened
    from splic_ext.specs import parse_value

    if text is None:
        return None
    values = [parse_value(part.strip()) for part in text.split(",")]
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        raise ValueError(
            f"--{name} must be one number, or one for each channel, with commas, got "
            f"{shortened(repr(text))}; write it like 0.5 or 0.49,0.48,0.45"
        )
    return [float(v) for v in values if isinstance(v, (int, float))]
