"""Proofs that no attack within bounds changes an answer, by hiding pixels and filling them.

Randomised ablation, :func:`certify_pixels`: no change of up to so many pixels changes the answer.

>>> import torch
>>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)).eval()
>>> weight = torch.tensor([[1.0], [-1.0]]).expand(2, 64)
>>> _ = network.load_state_dict({"1.weight": weight, "1.bias": torch.zeros(2)})
>>> report = certify_pixels(
...     network, torch.full((1, 1, 8, 8), 0.75), [0], kept=6, encoding="mean", draws=200
... )
>>> report.records[0].answer, report.records[0].radius
(0, 6)
"""

from __future__ import annotations

from splic_ext.optional import optional

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
from splic_ext.certify.pixel_search import PixelAttack, greedy_pixel_search

__all__ = [
    "ABSTAINED",
    "AblatedVote",
    "PixelAttack",
    "PixelRecord",
    "PixelReport",
    "PixelSeconds",
    "ablation_delta",
    "ablation_masks",
    "certified_radius",
    "certify_pixels",
    "clopper_pearson_lower",
    "greedy_pixel_search",
    "least_draws",
]
