"""Networks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import nn

from splic_ext.common.checks import shortened
from splic_ext.models.resnet import cifar_resnet20, cifar_resnet56, resnet18_32
from splic_ext.models.small import digits_cnn, shapes_cnn, svhn_vgg

__all__ = ["ALIASES", "MODELS", "build_model"]

#: Name -> function of `num_classes` and `channels` that returns the network with random weights.
MODELS: Mapping[str, Callable[[int, int | None], nn.Module]] = MappingProxyType(
    {
        "cifar_resnet20": cifar_resnet20,
        "cifar_resnet56": cifar_resnet56,
        "resnet18_32": resnet18_32,
        "digits_cnn": digits_cnn,
        "shapes_cnn": shapes_cnn,
        "svhn_vgg": svhn_vgg,
    }
)

#: Short name -> name in :data:`MODELS`.
ALIASES: Mapping[str, str] = MappingProxyType(
    {"resnet20": "cifar_resnet20", "resnet56": "cifar_resnet56", "resnet18": "resnet18_32"}
)


def build_model(name: str, num_classes: int = 10, channels: int | None = None) -> nn.Module:
    """Return the network of that name, with random weights, in training mode.

    Parameters
    ----------
    name : str
        One of :data:`MODELS` or of the short :data:`ALIASES`.
    num_classes : int, default 10
        Number of outputs.
    channels : int, optional
        Channels of the images, C. None: as the network was made for, 3, or 1 for
        ``"digits_cnn"``. With any other number, such as 6 for images that are encoded as
        (x, 1 - x), nothing is normalised: mean 0, deviation 1.

    Returns
    -------
    torch.nn.Module
        Images (N, C, H, W) in [0, 1] -> logits (N, num_classes).

    Raises
    ------
    ValueError
        No network of this name, or `num_classes` or `channels` below 1.
    TypeError
        `name` is no string, or `num_classes` or `channels` no integer.

    Examples
    --------
    >>> sorted(MODELS)
    ['cifar_resnet20', 'cifar_resnet56', 'digits_cnn', 'resnet18_32', 'shapes_cnn', 'svhn_vgg']
    >>> build_model("cifar_resnet20", num_classes=7).linear.out_features
    7
    >>> build_model("cifar_resnet20", channels=6).conv1.in_channels
    6
    """
    if not isinstance(name, str):
        raise TypeError(
            f"model name must be a string, got {name!r}; it is one of {', '.join(MODELS)}"
        )
    name = ALIASES.get(name, name)
    if name not in MODELS:
        raise ValueError(
            f"model name must be one of {', '.join(MODELS)}, got "
            f"{shortened(repr(name))}; choose one, or give one of your own as "
            "'package.module:function' or 'folder/file.py:function'"
        )
    return MODELS[name](num_classes, channels)
