"""Fills that know nothing of structure: one value, or the mean of what is visible."""

from __future__ import annotations

from typing import ClassVar

import torch

from splic_ext.common.checks import check_number
from splic_ext.fills.base import Fill

__all__ = ["Constant", "Mean"]


class Constant(Fill):
    """One value for all hidden pixels; 0.5 is the gray of PatchCleanser [1]_.

    Parameters
    ----------
    value : float, default 0.5
        In [0, 1].

    Raises
    ------
    TypeError, ValueError
        `value` of the wrong kind, or out of its range.

    References
    ----------
    .. [1] C. Xiang, S. Mahloujifar, P. Mittal, "PatchCleanser: Certifiably Robust Defense against
       Adversarial Patches for Any Image Classifier", USENIX Security 2022.

    Examples
    --------
    >>> Constant()(torch.zeros(1, 1, 1, 2), torch.tensor([[True, False]]))
    tensor([[[[0.0000, 0.5000]]]])
    """

    shown: ClassVar[tuple[str, ...]] = ("value",)

    def __init__(self, value: float = 0.5) -> None:
        super().__init__()
        self.value = check_number("value", value, 0.0, 1.0)

    def fill(self, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the value everywhere."""
        return torch.full_like(images, self.value)


class Mean(Fill):
    """The mean of the visible pixels, channel by channel.

    Examples
    --------
    >>> Mean()(torch.tensor([[[[0.25, 0.75, 1.0]]]]), torch.tensor([[True, True, False]]))
    tensor([[[[0.2500, 0.7500, 0.5000]]]])
    """

    def fill(self, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the means everywhere."""
        seen = torch.where(mask, images, images.new_zeros(()))
        # Threads would share the sum of a whole image, if there is but one.
        total = seen.sum(dim=3, keepdim=True).sum(dim=2, keepdim=True)
        count = mask.sum(dim=(2, 3), keepdim=True).clamp(min=1)
        return (total / count).expand_as(images)
