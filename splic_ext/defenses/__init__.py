"""Image transformations as torch modules: SPLIC and the defences it is compared with.

Each maps float images of shape (N, C, H, W) in [0, 1] to images of the same shape, dtype and
device, again in [0, 1].

>>> import torch
>>> from splic_ext import defenses
>>> defense = defenses.Compose(defenses.BitDepth(4), defenses.TotalVariation(weight=0.1))
>>> defense(torch.rand(2, 3, 32, 32)).shape
torch.Size([2, 3, 32, 32])
"""

from __future__ import annotations

from splic_ext.common.optional import optional

with optional("`splic_ext.defenses`", "torch", "torch"):
    import torch as _torch  # noqa: F401

from splic_ext.defenses.base import Defense, Index, gradient_mode
from splic_ext.defenses.defended import Defended
from splic_ext.defenses.filters import Bilateral, GaussianBlur, GuidedFilter, TotalVariation
from splic_ext.defenses.menet import USVT, NuclearNorm, SoftImpute
from splic_ext.defenses.own import ModuleDefense
from splic_ext.defenses.randomness import RandomDefense, frozen_masks, seeded_masks
from splic_ext.defenses.registry import (
    DEFENSES,
    as_defense,
    create_defense,
    defense_from_spec,
    register_defense,
)
from splic_ext.defenses.simple import JPEG, BitDepth, Compose, Identity
from splic_ext.defenses.splic import SPLIC, SRF

__all__ = [
    "DEFENSES",
    "JPEG",
    "SPLIC",
    "SRF",
    "USVT",
    "Bilateral",
    "BitDepth",
    "Compose",
    "Defended",
    "Defense",
    "GaussianBlur",
    "GuidedFilter",
    "Identity",
    "Index",
    "ModuleDefense",
    "NuclearNorm",
    "RandomDefense",
    "SoftImpute",
    "TotalVariation",
    "as_defense",
    "create_defense",
    "defense_from_spec",
    "frozen_masks",
    "gradient_mode",
    "register_defense",
    "seeded_masks",
]
