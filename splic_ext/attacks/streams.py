"""Random numbers of an attack: a function of its seed and the index of the image."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Streams"]


@dataclass(frozen=True, eq=False)
class Streams:
    """Random numbers for each image of a batch, which do not depend on the rest of the batch.

    >>> images = torch.zeros(3, 1, 2, 2)
    >>> both = Streams(7, np.array([0, 1, 5], np.uint64)).uniform(images, "start", 0)
    >>> alone = Streams(7, np.array([5], np.uint64)).uniform(images[:1], "start", 0)
    >>> torch.equal(both[2:], alone)
    True
    """

    seed: int
    indices: npt.NDArray[np.uint64]

    def derive(self, purpose: str, *numbers: int) -> int:
        """Return a seed in [0, 2**64), unrelated to that of another purpose or number.

        Numbers are those of a step, a draw and the like; at least 0.
        """
        sequence = np.random.SeedSequence(self.seed, spawn_key=(_number(purpose), *numbers))
        return int(sequence.generate_state(1, np.uint64)[0])

    def generators(self, purpose: str, number: int = 0) -> Iterator[np.random.Generator]:
        """Yield a generator for each image; `number` is that of a restart, a step or the like."""
        seed = self.derive(purpose, number)
        for index in self.indices:
            key = np.array([seed, index], dtype=np.uint64)
            yield np.random.Generator(np.random.Philox(key=key))

    def uniform(self, like: torch.Tensor, purpose: str, number: int = 0) -> torch.Tensor:
        """Return even random numbers in [0, 1), of shape, dtype and device of a tensor (N, ...)."""
        shape = tuple(like.shape[1:])
        draws = [g.random(shape, np.float32) for g in self.generators(purpose, number)]
        return torch.from_numpy(np.stack(draws)).to(like)

    def normal(self, like: torch.Tensor, purpose: str, number: int = 0) -> torch.Tensor:
        """Return standard normal random numbers; see :meth:`uniform`."""
        shape = tuple(like.shape[1:])
        draws = [g.standard_normal(shape, np.float32) for g in self.generators(purpose, number)]
        return torch.from_numpy(np.stack(draws)).to(like)


def _number(purpose: str) -> int:
    """Return the same number for a word in every process, which hash() would not."""
    return zlib.crc32(purpose.encode())
