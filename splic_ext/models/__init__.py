"""Networks for 32 x 32 colour images and for gray digits; needs the extra ``torch``.

Inputs are images in [0, 1]: the normalisation is the first layer of every network. So an attack
on the network works in pixels, and a defence stands in front of it without further scaling.

>>> import torch
>>> network = build_model("resnet18_32", num_classes=10)
>>> network(torch.rand(2, 3, 32, 32)).shape
torch.Size([2, 10])
"""

from __future__ import annotations

from splic_ext.common.optional import optional

with optional("`splic_ext.models`", "torch", "torch"):
    import torch as _torch  # noqa: F401

from splic_ext.models.layers import Normalize
from splic_ext.models.own import Normalized, own_model
from splic_ext.models.registry import ALIASES, MODELS, build_model
from splic_ext.models.resnet import ResNet, cifar_resnet20, cifar_resnet56, resnet18_32
from splic_ext.models.small import DigitsCNN, ShapesCNN, SmallVGG, digits_cnn, shapes_cnn, svhn_vgg
from splic_ext.models.weights import load_weights

__all__ = [
    "ALIASES",
    "MODELS",
    "DigitsCNN",
    "Normalize",
    "Normalized",
    "ResNet",
    "ShapesCNN",
    "SmallVGG",
    "build_model",
    "cifar_resnet20",
    "cifar_resnet56",
    "digits_cnn",
    "load_weights",
    "own_model",
    "resnet18_32",
    "shapes_cnn",
    "svhn_vgg",
]
