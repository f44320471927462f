"""Random defences: which mask an image gets, and how to hold the masks still."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import torch

from splic_ext.common.checks import check_integer
from splic_ext.defenses.base import Defense, Index

__all__ = ["RandomDefense", "frozen_masks", "seeded_masks"]

_SEEDS = 2**64


class _Draws(threading.local):
    """What this thread holds still, by :func:`frozen_masks` and :func:`seeded_masks`."""

    depth = 0
    frozen: WeakKeyDictionary[RandomDefense, int] | None = None
    sequence: np.random.Generator | None = None
    given: Iterator[int] | None = None  # seeds for what a graph computes
    process = 0  # whose the sequence is: a forked worker would repeat it


_DRAWS = _Draws()


class RandomDefense(Defense):
    """Base class of the defences that draw a mask for each image.

    The mask of an image depends on a seed and the index of the image alone, and comes from the
    generator of the library (:func:`splic_ext.masks.bernoulli_masks`): not from the batch, the
    device or the number of threads.

    Parameters
    ----------
    seed : int, optional
        In [0, 2**64): an image index always gets the same mask, in each forward, copy and process.
        None (the default): fresh masks in each forward, whose seed is drawn from torch's default
        CPU generator. So a run after ``torch.manual_seed`` can be repeated, and each worker of a
        ``DataLoader``, epoch and copy has masks of its own.
    gradient : {"exact", "identity"}
        See :class:`Defense`. A defence without a derivative gets the identity, with a warning.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.

    Notes
    -----
    *Thread safety*: forward may be called from several threads; which thread gets which of the
    fresh masks is then up to chance. *Processes*: a process forked by other means than a
    ``DataLoader`` begins with the generator of its parent, as for ``torch.rand``; seed it.

    Examples
    --------
    >>> from splic_ext.defenses import USVT
    >>> images = torch.rand(2, 3, 8, 8)
    >>> fixed, fresh = USVT(seed=0), USVT()
    >>> torch.equal(fixed(images), fixed(images)), torch.equal(fresh(images), fresh(images))
    (True, False)
    >>> torch.equal(fixed(images)[1:], fixed(images[1:], index=1))
    True
    """

    leaves_torch: ClassVar[bool] = True
    falls_back: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("seed",)

    def __init_subclass__(cls, **keywords: Any) -> None:
        cls.leaves_torch = True  # its seed is an integer, which a graph would keep
        super().__init_subclass__(**keywords)

    def __init__(self, seed: int | None = None, gradient: str = "exact") -> None:
        super().__init__(gradient)
        self.seed = None if seed is None else check_integer("seed", seed, 0, _SEEDS - 1)

    def draw(self) -> int:
        """Return the seed of the masks of one forward.

        Returns
        -------
        int
            `seed` if it was given; else a new one, or that of the first forward inside
            :func:`frozen_masks`.
        """
        if self.seed is not None:
            return self.seed
        if _DRAWS.given is not None:
            return next(_DRAWS.given)
        frozen = _DRAWS.frozen
        if frozen is None:
            return self._fresh()
        if self not in frozen:
            frozen[self] = self._fresh()
        return frozen[self]

    def _compute(self, images: torch.Tensor, index: Index, seed: int | None) -> torch.Tensor:
        """Do it with the masks of that seed; see :class:`Defense`."""
        with _given(seed):
            return super()._compute(images, index, seed)

    def _pull_back(
        self, cotangent: torch.Tensor, images: torch.Tensor, index: Index, seed: int | None
    ) -> torch.Tensor:
        """Do it with the masks of that seed; see :class:`Defense`."""
        with _given(seed):
            return super()._pull_back(cotangent, images, index, seed)

    @property
    def fresh(self) -> bool:
        """Whether each forward draws masks of its own, if nothing holds them still."""
        return self.seed is None

    def _draws(self) -> bool:
        return self.fresh

    def _fresh(self) -> int:
        if _DRAWS.sequence is not None and _DRAWS.process == os.getpid():
            return int(_DRAWS.sequence.integers(_SEEDS, dtype=np.uint64))
        return int(torch.randint(2**63 - 1, (), device="cpu").item())


@contextmanager
def _given(seed: int | None) -> Iterator[None]:
    """Make the draws of this thread `seed`, and numbers that follow from it, if it is not None."""
    outer = _DRAWS.given
    _DRAWS.given = outer if seed is None else _following(seed)
    try:
        yield
    finally:
        _DRAWS.given = outer


def _following(seed: int) -> Iterator[int]:
    yield seed
    later = np.random.Generator(np.random.Philox(seed))
    while True:
        yield int(later.integers(_SEEDS, dtype=np.uint64))


@contextmanager
def frozen_masks() -> Iterator[None]:
    """Hold the masks of all random defences still: one draw per defence and image index.

    Inside, a defence without a seed draws once, in its first forward, and an image index gets the
    same mask from then on; pass ``index=`` when the batches differ. Holds for this thread alone;
    an inner use keeps the masks of the outer one.

    Examples
    --------
    >>> from splic_ext.defenses import USVT
    >>> images, defense = torch.rand(1, 3, 8, 8), USVT()
    >>> with frozen_masks():
    ...     torch.equal(defense(images), defense(images))
    True
    >>> torch.equal(defense(images), defense(images))
    False
    """
    if _DRAWS.frozen is None:
        _DRAWS.frozen = WeakKeyDictionary()
    _DRAWS.depth += 1
    try:
        yield
    finally:
        _DRAWS.depth -= 1
        if _DRAWS.depth == 0:
            _DRAWS.frozen = None


def masks_are_frozen() -> bool:
    """Say whether this thread is inside :func:`frozen_masks`.

    >>> with frozen_masks():
    ...     masks_are_frozen()
    True
    """
    return _DRAWS.frozen is not None


@contextmanager
def seeded_masks(seed: int) -> Iterator[None]:
    """Make the fresh masks of all random defences a function of `seed` alone.

    Inside, a defence without a seed still draws anew in each forward, but from a sequence that
    begins at `seed`, whatever was drawn before: a part of a run can be repeated by itself. Holds
    for this thread alone, and not in the workers of a ``DataLoader``, which draw from torch's
    generator; an inner use has a sequence of its own. A defence with a seed keeps it, and one that
    :func:`frozen_masks` holds still, its mask.

    Parameters
    ----------
    seed : int
        In [0, 2**64).

    Raises
    ------
    TypeError, ValueError
        A seed of the wrong kind, or out of range.

    Examples
    --------
    >>> from splic_ext.defenses import USVT
    >>> images, defense = torch.rand(1, 3, 8, 8), USVT()
    >>> def twice():
    ...     with seeded_masks(3):
    ...         return torch.cat([defense(images), defense(images)])
    >>> first, second = twice(), twice()
    >>> torch.equal(first, second), torch.equal(first[0], first[1])
    (True, False)
    """
    outer = _DRAWS.sequence, _DRAWS.process
    _DRAWS.sequence = np.random.Generator(
        np.random.Philox(check_integer("seed", seed, 0, _SEEDS - 1))
    )
    _DRAWS.process = os.getpid()
    try:
        yield
    finally:
        _DRAWS.sequence, _DRAWS.process = outer
