"""Masks of randomised ablation: functions of a seed, the index of an image and of a draw."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from splic_ext.common.checks import check_integer, check_number
from splic_ext.errors import ShapeError
from splic_ext.masks import anchor_threshold, philox4x32

__all__ = ["MOST_DRAWS", "SEEDS", "Kept", "Scheme", "ablation_masks"]

Scheme = Literal["bernoulli", "exact-k"]

#: Seeds and indices of images are below this.
SEEDS = 2**64
#: Draws of an image are told apart by 32 bits.
MOST_DRAWS = 2**30
_LOW = 0xFFFFFFFF


@dataclass(frozen=True)
class Kept:
    """How many pixels a mask keeps: k of them, or each with a probability.

    Attributes
    ----------
    scheme : {"bernoulli", "exact-k"}
    amount : int or float
        k; or the probability as the masks have it, a multiple of 2**-32.
    height, width : int

    Examples
    --------
    >>> Kept.of(0.1, 8, 8)
    Kept(scheme='bernoulli', amount=0.10000000009313226, height=8, width=8)
    >>> Kept.of(6, 8, 8).share
    0.09375
    """

    scheme: Scheme
    amount: int | float
    height: int
    width: int

    @classmethod
    def of(cls, kept: Any, height: int, width: int) -> Kept:
        """Return what an int (k) or a float (a probability) says, or raise."""
        try:
            operator.index(kept)
        except TypeError:
            probability = check_number("kept", kept, 0.0, 1.0, above=True)
            threshold = max(1, anchor_threshold(probability))
            return cls("bernoulli", threshold / 2**32, height, width)
        return cls("exact-k", check_integer("kept", kept, 1, height * width), height, width)

    @classmethod
    def parse(cls, text: str) -> int | float:
        """Return what a text says: ``100`` pixels, or each with the probability ``0.1``.

        >>> Kept.parse("100"), Kept.parse("0.1")
        (100, 0.1)
        """
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
        raise ValueError(
            f"`kept` must be a number of pixels such as 100, or a share such as 0.1, got {text!r}; "
            "write one of them"
        )

    @property
    def text(self) -> str:
        """What is kept, as :meth:`parse` reads it.

        >>> Kept.of(0.1, 8, 8).text, Kept.of(6, 8, 8).text
        ('0.1', '6')
        """
        return f"{self.amount:.6g}" if self.scheme == "bernoulli" else str(self.amount)

    @property
    def pixels(self) -> int:
        """Number of pixels of an image."""
        return self.height * self.width

    @property
    def share(self) -> float:
        """Probability of a pixel to be kept."""
        return self.amount if isinstance(self.amount, float) else self.amount / self.pixels

    def masks(
        self, seed: int, index: npt.NDArray[np.uint64], draw: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.bool_]:
        """Return the mask of each pair of an image's index and a draw, of shape (P, 1, H, W)."""
        words = 2 if self.scheme == "exact-k" else 1
        random = _words(seed, index, draw, words * self.pixels)
        if isinstance(self.amount, float):
            bits: npt.NDArray[np.bool_] = random < np.uint64(round(self.amount * 2**32))
        else:
            # The k smallest of random keys of 64 bits are a uniform choice, but for equal keys,
            # which a mask has with a probability below pixels**2 / 2**65.
            keys = random.astype(np.uint64).reshape(len(index), self.pixels, 2)
            order = keys[..., 0] | (keys[..., 1] << np.uint64(32))
            bits = np.zeros((len(index), self.pixels), dtype=np.bool_)
            if self.amount < self.pixels:
                chosen = np.argpartition(order, self.amount, axis=1)[:, : self.amount]
                np.put_along_axis(bits, chosen, True, axis=1)
            else:
                bits[:] = True
        return bits.reshape(len(index), 1, self.height, self.width)


def ablation_masks(
    shape: tuple[int, int],
    kept: int | float,
    *,
    index: Any,
    draw: Any,
    seed: int = 0,
) -> npt.NDArray[np.bool_]:
    """Return masks of randomised ablation [1]_, one for each pair of an image and a draw.

    The mask of a pair is a function of `seed`, its index and its draw alone. Bernoulli masks are
    those of :func:`splic_ext.masks.bernoulli_masks` with the draw as `stream` and channels
    ``"separate"``; an exact k keeps the pixels of the k smallest random keys of 64 bits, from the
    same generator, which are words 2p (low) and 2p + 1 of pixel p.

    Parameters
    ----------
    shape : tuple of two int
        (H, W).
    kept : int or float
        An int: so many pixels are kept, in [1, H * W], chosen uniformly without replacement. A
        float: each pixel is kept with this probability, in (0, 1], rounded to a multiple of
        2**-32.
    index : int or sequence of int, shape (P,)
        Index of the image, in [0, 2**64).
    draw : int or sequence of int, shape (P,)
        Number of the draw, in [0, 2**32). One of `index` and `draw` may be single.
    seed : int, default 0
        In [0, 2**64).

    Returns
    -------
    ndarray of shape (P, 1, H, W), bool
        True = kept, visible.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.
    ShapeError
        A `ValueError`: shapes of `index` and `draw` that do not fit.

    References
    ----------
    .. [1] A. Levine, S. Feizi, "Robustness Certificates for Sparse Adversarial Attacks by
       Randomized Ablation", AAAI 2020.

    Examples
    --------
    >>> masks = ablation_masks((8, 8), 6, index=0, draw=range(100))
    >>> masks.shape, set(masks.sum(axis=(1, 2, 3)).tolist())
    ((100, 1, 8, 8), {6})
    >>> again = ablation_masks((8, 8), 6, index=[0], draw=[99])
    >>> bool((again == masks[99:]).all())
    True
    """
    sides = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if len(sides) != 2:
        raise ShapeError(
            f"`shape` must be (H, W), got {shape!r}; masks are shared by the channels",
            sides,
            "(H, W)",
        )
    height, width = (check_integer(f"shape[{i}]", side, 1) for i, side in enumerate(sides))
    plan = Kept.of(kept, height, width)
    seed = check_integer("seed", seed, 0, SEEDS - 1)
    images = _numbers("index", index, SEEDS - 1)
    draws = _numbers("draw", draw, _LOW)
    if len(images) != len(draws) and 1 not in (len(images), len(draws)):
        raise ShapeError(
            f"`index` and `draw` must be as many, or one of them single, got {len(images)} and "
            f"{len(draws)}; give a pair for each mask",
            (len(images), len(draws)),
            "(P,) and (P,)",
        )
    images, draws = np.broadcast_arrays(images, draws)
    return plan.masks(seed, images, draws)


def _numbers(name: str, values: Any, most: int) -> npt.NDArray[np.uint64]:
    """Return integers, checked one by one."""
    given = np.atleast_1d(np.asarray(values, dtype=object)).ravel().tolist()
    return np.array([check_integer(name, value, 0, most) for value in given], dtype=np.uint64)


def _words(
    seed: int, index: npt.NDArray[np.uint64], draw: npt.NDArray[np.uint64], count: int
) -> npt.NDArray[np.uint32]:
    """Return random words of shape (P, count): counters are (block, draw, index low, high)."""
    blocks = math.ceil(count / 4)
    counter = np.empty((len(index), blocks, 4), dtype=np.uint32)
    counter[..., 0] = np.arange(blocks, dtype=np.uint32)
    counter[..., 1] = draw.astype(np.uint32)[:, None]
    counter[..., 2] = (index & np.uint64(_LOW)).astype(np.uint32)[:, None]
    counter[..., 3] = (index >> np.uint64(32)).astype(np.uint32)[:, None]
    words = philox4x32(counter, (seed & _LOW, seed >> 32))
    return words.reshape(len(index), 4 * blocks)[:, :count]
