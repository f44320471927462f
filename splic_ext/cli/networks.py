"""Options for networks, which several commands share, and the network that they describe."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from torch import nn

    from splic_ext.data import Dataset

__all__ = ["Classes", "Model", "Surrogate", "SurrogateWeights", "Weights", "load", "network_option"]

network_option = partial(typer.Option, rich_help_panel="Networks")

NAMES = "resnet20, resnet56, resnet18, svhn_vgg, digits_cnn"

Model: TypeAlias = Annotated[
    str, network_option(metavar="NAME", help=f"Network that is attacked and defended: {NAMES}.")
]
Weights: TypeAlias = Annotated[Path, network_option(metavar="FILE", help="Weights of --model.")]
Classes: TypeAlias = Annotated[
    int | None,
    network_option(min=1, help="Outputs of the networks. Default: the classes of the data set."),
]
Surrogate: TypeAlias = Annotated[
    str | None,
    network_option(
        metavar="NAME",
        help="One more network to transfer from, such as an adversarially trained one.",
    ),
]
SurrogateWeights: TypeAlias = Annotated[
    Path | None, network_option(metavar="FILE", help="Weights of --surrogate.")
]


def load(model: str, weights: Path, data: Dataset, classes: int | None) -> nn.Module:
    """Return the network of a command line for a data set, in eval mode."""
    from splic_ext.evaluation import load_network
    from splic_ext.runs.inputs import check_dataset

    check_dataset(data)  # of no classes there is no network
    return load_network(model, weights, len(data.classes) if classes is None else classes)
