"""Anchor masks as tensors, drawn on the device that they are for, and which image gets which."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from splic_ext.common.checks import check_integer
from splic_ext.errors import ShapeError
from splic_ext.masks import (
    anchor_threshold,
    bernoulli_masks,
    consecutive_runs,
    count_up,
    philox_rounds,
)
from splic_ext.options import Channels

__all__ = ["image_indices", "masks_on"]


def image_indices(index: int | torch.Tensor | None, count: int) -> npt.NDArray[np.uint64]:
    """Return the index of each of `count` images, given that of the first, or of each."""
    if not isinstance(index, torch.Tensor):
        first = 0 if index is None else check_integer("index", index, 0, 2**64 - 1)
        return count_up(first, count)
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise TypeError(
            f"`index` must be an integer or a tensor of integers, got {index.dtype}; "
            "convert it with `index.long()`"
        )
    if tuple(index.shape) != (count,):
        raise ShapeError(
            f"`index` must have shape (N,) = ({count},), an index for each image, got "
            f"{tuple(index.shape)}; pass an int for the index of the first",
            tuple(index.shape),
            f"({count},)",
        )
    values = index.detach().cpu().numpy()
    if count > 0 and values.min() < 0:
        raise ValueError(f"`index` must not be negative, got {values.min()}; count images from 0")
    return values.astype(np.uint64)


def masks_on(
    images: torch.Tensor,
    indices: npt.NDArray[np.uint64],
    *,
    anchor_fraction: float,
    seed: int,
    stream: int = 0,
    channels: Channels = "stacked",
) -> torch.Tensor:
    """Draw the masks of images of any indices, of shape (N, C, H, W) or (N, 1, H, W), beside them.

    The bits are those of :func:`splic_ext.masks.bernoulli_masks`. On the CPU that function draws
    them; for another device only the indices go there, and the masks are made where they are used.
    """
    if images.device.type != "cpu":
        return draw(images, indices, anchor_fraction, seed, stream, channels)
    _, *sides = images.shape
    parts = [
        bernoulli_masks(
            (run.stop - run.start, *sides),
            anchor_fraction=anchor_fraction,
            seed=seed,
            first_index=int(indices[run.start]),
            stream=stream,
            channels=channels,
        )
        for run in consecutive_runs(indices)
    ]
    return torch.from_numpy(np.concatenate(parts))


def draw(
    images: torch.Tensor,
    indices: npt.NDArray[np.uint64],
    anchor_fraction: float,
    seed: int,
    stream: int,
    channels: Channels,
) -> torch.Tensor:
    """Draw the masks with torch; see :func:`masks_on`."""
    count, n_channels, height, width = images.shape
    device = images.device
    planes = n_channels if channels == "stacked" else 1
    bits = planes * height * width
    halves = [indices & np.uint64(0xFFFFFFFF), indices >> np.uint64(32)]
    low, high = (torch.from_numpy(half.astype(np.int64)).to(device)[:, None] for half in halves)
    block = torch.arange(-(-bits // 4), device=device)[None].expand(count, -1)
    counter = [block, torch.full_like(block, stream), low.expand_as(block), high.expand_as(block)]
    words = philox_rounds(counter, (seed & 0xFFFFFFFF, seed >> 32), 10, int)
    drawn = torch.stack(words, dim=-1).flatten(1)[:, :bits]
    return (drawn < anchor_threshold(anchor_fraction)).reshape(count, planes, height, width)
