"""Proofs that no attack within bounds can change an answer, by hiding pixels and filling them.

Patches: :class:`MaskedVote` answers, :func:`certify_patches` proves. Single pixels, wherever they
are: :class:`AblatedVote` and :func:`certify_pixels`, by randomised ablation. Of data sets:
:func:`evaluate_patches` and :func:`evaluate_pixels`.

>>> import torch
>>> from splic_ext.models import build_model
>>> network = build_model("digits_cnn").eval()
>>> MaskedVote(network, patch=2, masks=3, fill="splic")(torch.rand(3, 1, 8, 8)).shape
torch.Size([3])
"""

from __future__ import annotations

from splic_ext.common.optional import optional

with optional("`splic_ext.certify`", "torch", "torch"):
    import torch as _torch  # noqa: F401

from splic_ext.certify.ablation import certify_pixels
from splic_ext.certify.ablation_bounds import (
    ablation_delta,
    certified_radius,
    clopper_pearson_lower,
    least_draws,
)
from splic_ext.certify.ablation_masks import ablation_masks
from splic_ext.certify.ablation_records import PixelRecord, PixelReport, PixelSeconds
from splic_ext.certify.ablation_vote import ABSTAINED, AblatedVote
from splic_ext.certify.attack import PatchAttackResult, attack_patches
from splic_ext.certify.examples import Examples
from splic_ext.certify.masks import MaskSet
from splic_ext.certify.patches import certify_patches, evaluate_patches
from splic_ext.certify.pixel_records import PixelEvaluation
from splic_ext.certify.pixel_search import PixelAttack, greedy_pixel_search
from splic_ext.certify.pixels import evaluate_pixels
from splic_ext.certify.records import (
    CertificateReport,
    FillSeconds,
    PatchCertificate,
    PatchRecord,
)
from splic_ext.certify.vote import MaskedVote

__all__ = [
    "ABSTAINED",
    "AblatedVote",
    "CertificateReport",
    "Examples",
    "FillSeconds",
    "MaskSet",
    "MaskedVote",
    "PatchAttackResult",
    "PatchCertificate",
    "PatchRecord",
    "PixelAttack",
    "PixelEvaluation",
    "PixelRecord",
    "PixelReport",
    "PixelSeconds",
    "ablation_delta",
    "ablation_masks",
    "attack_patches",
    "certified_radius",
    "certify_patches",
    "certify_pixels",
    "clopper_pearson_lower",
    "evaluate_patches",
    "evaluate_pixels",
    "greedy_pixel_search",
    "least_draws",
]
