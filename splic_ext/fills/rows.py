"""Fills that are NumPy functions of one image at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

__all__ = ["fill_rows"]


def fill_rows(
    inpaint: Callable[[Any, Any], Any], images: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Return each image as `inpaint` leaves it; one with nothing or all visible as it is.

    >>> images, mask = torch.zeros(1, 1, 1, 2), torch.tensor([[[[True, False]]]])
    >>> fill_rows(lambda image, mask: image + 0.5, images, mask)
    tensor([[[[0.5000, 0.5000]]]])
    """
    still = images.detach().cpu().numpy()
    seen = mask.cpu().numpy()[:, 0]
    result = still.copy()
    for row in range(len(still)):
        if 0 < np.count_nonzero(seen[row]) < seen[row].size:
            result[row] = inpaint(still[row], seen[row])
    return torch.from_numpy(result).to(images.device)
