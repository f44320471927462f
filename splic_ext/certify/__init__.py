"""Proofs that no attack can break: patches, by masks whose hidden pixels are filled.

>>> import torch
>>> from splic_ext import certify
>>> from splic_ext.models import build_model
>>> vote = certify.MaskedVote(build_model("digits_cnn").eval(), patch=2, masks=3, fill="splic")
>>> vote(torch.rand(3, 1, 8, 8)).shape
torch.Size([3])
"""

from __future__ import annotations

from splic_ext.optional import optional

with optional("`splic_ext.certify`", "torch", "torch"):
    import torch as _torch  # noqa: F401

from splic_ext.certify.attack import PatchAttackResult, attack_patches
from splic_ext.certify.masks import MaskSet
from splic_ext.certify.patches import certify_patches, evaluate_patches
from splic_ext.certify.records import (
    CertificateReport,
    FillSeconds,
    PatchCertificate,
    PatchRecord,
)
from splic_ext.certify.vote import MaskedVote

__all__ = [
    "CertificateReport",
    "FillSeconds",
    "MaskSet",
    "MaskedVote",
    "PatchAttackResult",
    "PatchCertificate",
    "PatchRecord",
    "attack_patches",
    "certify_patches",
    "evaluate_patches",
]
