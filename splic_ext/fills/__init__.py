"""What hidden pixels are filled with, as torch modules of images and a mask.

Each maps float images of shape (N, C, H, W) in [0, 1] and a mask (True = visible) to images of the
same shape, dtype and device without holes; it sees the visible pixels alone. :class:`Null` doubles
the channels, to tell the network what is hidden.

>>> import torch
>>> from splic_ext import fills
>>> mask = torch.ones(32, 32, dtype=torch.bool)
>>> mask[8:17, 8:17] = False
>>> fills.create_fill("splic")(torch.rand(2, 3, 32, 32), mask).shape
torch.Size([2, 3, 32, 32])
"""

from __future__ import annotations

from splic_ext.common.optional import optional

with optional("`splic_ext.fills`", "torch", "torch"):
    import torch as _torch  # noqa: F401

from splic_ext.fills.base import EMPTY, Fill, FunctionFill
from splic_ext.fills.biharmonic import Biharmonic
from splic_ext.fills.constant import Constant, Mean
from splic_ext.fills.encodings import Null
from splic_ext.fills.opencv import NavierStokes, Telea
from splic_ext.fills.registry import ENCODINGS, FILLS, as_fill, create_fill, fill_from_spec
from splic_ext.fills.splic import SPLICFill
from splic_ext.fills.thinplate import ThinPlate
from splic_ext.fills.tv import TVInpainting

__all__ = [
    "EMPTY",
    "ENCODINGS",
    "FILLS",
    "Biharmonic",
    "Constant",
    "Fill",
    "FunctionFill",
    "Mean",
    "NavierStokes",
    "Null",
    "SPLICFill",
    "TVInpainting",
    "Telea",
    "ThinPlate",
    "as_fill",
    "create_fill",
    "fill_from_spec",
]
