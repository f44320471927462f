"""Images with hidden pixels in more channels, which tell the network what is hidden."""

from __future__ import annotations

from typing import ClassVar

import torch

from splic_ext.fills.base import Fill

__all__ = ["Null"]


class Null(Fill):
    """The channels x and 1 - x, and 0 in both where a pixel is hidden [1]_.

    So hidden is told from every colour: a visible pixel has a sum of 1 in the two, a hidden one
    of 0. The network must take 2C channels, first all x, then all 1 - x.

    References
    ----------
    .. [1] A. Levine, S. Feizi, "Robustness Certificates for Sparse Adversarial Attacks by
       Randomized Ablation", AAAI 2020.

    Examples
    --------
    >>> mask = torch.tensor([[True, True, False]])
    >>> Null()(torch.tensor([[[[0.25, 0.0, 0.75]]]]), mask)[0, :, 0]
    tensor([[0.2500, 0.0000, 0.0000],
            [0.7500, 1.0000, 0.0000]])
    """

    outputs: ClassVar[int] = 2

    def fill(self, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return both."""
        visible = mask.to(images.dtype)
        return torch.cat([images * visible, (1 - images) * visible], dim=1)
