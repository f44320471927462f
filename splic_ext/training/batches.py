"""Batches of an epoch: order, shifts and mirror images, each a function of the seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from splic_ext.runs.fingerprints import derive_seed

__all__ = ["EpochPlan", "batch_bounds", "shift_and_mirror"]


def batch_bounds(images: int, batch_size: int) -> list[int]:
    """Return where the batches of an epoch begin, and where the last one ends.

    They are as few as can be, and differ by one image at most.

    >>> batch_bounds(10, 4)
    [0, 3, 6, 10]
    """
    count = -(-images // batch_size)
    return [images * k // count for k in range(count + 1)]


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """The order of an epoch, and how its images are shifted and mirrored.

    All of it follows from the seed, the number of the epoch and the image: nothing has a state,
    so that an epoch can be taken up in its middle, and shared by any number of processes.

    `offsets` are those of the image at each position: rows and columns, in [0, 2 crop].

    >>> plan = EpochPlan(seed=0, number=3, images=6, crop=2, flip=False)
    >>> sorted(plan.order.tolist()), int(plan.mirrored.sum())
    ([0, 1, 2, 3, 4, 5], 0)
    """

    seed: int
    number: int
    images: int
    crop: int
    flip: bool
    order: npt.NDArray[np.int64] = field(init=False)
    offsets: npt.NDArray[np.int64] = field(init=False)
    mirrored: npt.NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        count = self.images
        offsets = self._generator("offsets").integers(0, 2 * self.crop + 1, (count, 2))
        mirrored = self._generator("mirrored").integers(0, 2, count).astype(bool)
        self._set("order", self._generator("order").permutation(count))
        self._set("offsets", offsets)
        self._set("mirrored", mirrored & self.flip)

    def _generator(self, purpose: str) -> np.random.Generator:
        seed = derive_seed(self.seed, purpose, self.number)
        return np.random.Generator(np.random.Philox(seed))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


def shift_and_mirror(
    images: torch.Tensor,
    offsets: npt.NDArray[np.int64],
    mirrored: npt.NDArray[np.bool_],
    crop: int,
) -> torch.Tensor:
    """Return images (N, C, H, W) that are shifted, with zeros moving in, and mirrored.

    An offset of `crop` is no shift.

    >>> images = torch.tensor([[[[1, 2, 3]]], [[[1, 2, 3]]]])
    >>> shift_and_mirror(images, np.array([[1, 2], [1, 1]]), np.array([False, True]), 1).flatten()
    tensor([2, 3, 0, 3, 2, 1])
    """
    if crop == 0 and not mirrored.any():
        return images
    count, _, height, width = images.shape
    rows = offsets[:, :1] + np.arange(height)
    columns = offsets[:, 1:] + np.where(mirrored[:, None], np.arange(width)[::-1], np.arange(width))
    padded = torch.nn.functional.pad(images, (crop, crop, crop, crop))
    place = images.device
    taken = padded[
        torch.arange(count, device=place)[:, None, None],
        :,
        torch.from_numpy(rows).to(place)[:, :, None],
        torch.from_numpy(columns).to(place)[:, None, :],
    ]
    return taken.permute(0, 3, 1, 2).contiguous()
