"""Images with hidden pixels of every shape."""

from __future__ import annotations

import numpy as np
import torch

from splic_ext import fills


def images_of(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random(shape)).float()


def masks_of(height, width):
    """Masks (7, 1, H, W): a hole inside, at two corners, scattered; two pixels, one, none."""
    masks = torch.ones(7, 1, height, width, dtype=torch.bool)
    masks[0, :, 1 : height - 1, 2 : width - 2] = False
    masks[1, :, : height // 2, : width // 2] = False
    masks[2, :, height // 2 :, width // 2 :] = False
    masks[3] = torch.from_numpy(np.random.default_rng(1).random((1, height, width)) < 0.4)
    masks[4:] = False
    masks[4, :, height - 1, 0] = masks[4, :, 0, width // 2] = True
    masks[5, :, height // 2, width - 1] = True
    return masks


class White(fills.Fill):
    """At module level, so that it can be pickled."""

    def fill(self, images, mask):
        return torch.ones_like(images)


def diagonal(images, mask):
    """A function for FunctionFill."""
    return images.flip(2) * 0.5
