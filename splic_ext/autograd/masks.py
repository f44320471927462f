"""Anchor masks as tensors, drawn on the device that they are for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from splic_ext.masks import anchor_threshold, bernoulli_masks, philox_rounds
from splic_ext.options import Channels

__all__ = ["masks_on"]


def masks_on(
    device: torch.device,
    shape: tuple[int, ...],
    indices: npt.NDArray[np.uint64],
    *,
    anchor_fraction: float,
    seed: int,
    stream: int = 0,
    channels: Channels = "stacked",
) -> torch.Tensor:
    """Draw the masks of images of any indices.

    The bits are those of :func:`splic_ext.masks.bernoulli_masks`. On the CPU that function draws
    them; for another device only the indices go there, and the masks are made where they are used.

    Parameters
    ----------
    device : torch.device
        Of the result.
    shape : tuple of int
        (N, C, H, W) of the batch.
    indices : ndarray of shape (N,), uint64
        Index of each image.
    anchor_fraction, seed, stream, channels
        As there, and checked by the caller.

    Returns
    -------
    tensor of shape (N, C, H, W) or (N, 1, H, W), bool

    Examples
    --------
    >>> indices = np.array([3, 0], np.uint64)
    >>> masks_on(torch.device("cpu"), (2, 1, 1, 4), indices, anchor_fraction=0.5, seed=7).int()
    tensor([[[[0, 1, 1, 0]]],
    <BLANKLINE>
    <BLANKLINE>
            [[[0, 0, 1, 1]]]], dtype=torch.int32)
    """
    _, n_channels, height, width = shape
    if device.type == "cpu":
        parts = [
            bernoulli_masks(
                (len(run), n_channels, height, width),
                anchor_fraction=anchor_fraction,
                seed=seed,
                first_index=int(run[0]),
                stream=stream,
                channels=channels,
            )
            for run in np.split(indices, np.flatnonzero(np.diff(indices) != 1) + 1)
        ]
        return torch.from_numpy(np.concatenate(parts))
    return draw(device, shape, indices, anchor_fraction, seed, stream, channels)


def draw(
    device: torch.device,
    shape: tuple[int, ...],
    indices: npt.NDArray[np.uint64],
    anchor_fraction: float,
    seed: int,
    stream: int,
    channels: Channels,
) -> torch.Tensor:
    """Draw the masks with torch; see :func:`masks_on`."""
    count, n_channels, height, width = shape
    planes = n_channels if channels == "stacked" else 1
    bits = planes * height * width
    halves = [indices & np.uint64(0xFFFFFFFF), indices >> np.uint64(32)]
    low, high = (torch.from_numpy(half.astype(np.int64)).to(device)[:, None] for half in halves)
    block = torch.arange(-(-bits // 4), device=device)[None].expand(count, -1)
    counter = [block, torch.full_like(block, stream), low.expand_as(block), high.expand_as(block)]
    words = philox_rounds(counter, (seed & 0xFFFFFFFF, seed >> 32), 10, int)
    drawn = torch.stack(words, dim=-1).flatten(1)[:, :bits]
    return (drawn < anchor_threshold(anchor_fraction)).reshape(count, planes, height, width)
