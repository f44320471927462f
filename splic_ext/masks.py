"""Anchor masks from a counter-based generator, the same on every back end and machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from splic_ext.common.checks import Channels, check_integer, check_number

__all__ = ["bernoulli_masks", "philox4x32"]

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF


def philox4x32(
    counter: npt.NDArray[np.uint32], key: tuple[int, int], rounds: int = 10
) -> npt.NDArray[np.uint32]:
    """Philox4x32 random bits [1]_.

    Parameters
    ----------
    counter : ndarray of shape (..., 4), uint32
        The counters, one block of four words each.
    key : tuple of two int
        The key words, each in [0, 2**32).
    rounds : int, default 10
        Number of rounds; 10 is the published generator.

    Returns
    -------
    ndarray of shape (..., 4), uint32
        Four random words for each counter.

    References
    ----------
    .. [1] J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Examples
    --------
    >>> [hex(word) for word in philox4x32(np.zeros(4, np.uint32), (0, 0))]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    words = philox_rounds(
        [counter[..., i].astype(np.uint64) for i in range(4)], key, rounds, np.uint64
    )
    return np.stack(words, axis=-1).astype(np.uint32)


def philox_rounds(
    words: Sequence[Any], key: tuple[int, int], rounds: int, number: Callable[[int], Any]
) -> list[Any]:
    """Return the four words of Philox4x32, given those of the counters in arrays of any library.

    They are integers of 64 bits, whose products may wrap; `number` makes a constant that goes with
    them.
    """
    low, high = key
    first_factor, second_factor = map(number, _MULTIPLIERS)
    mask, shift = number(_LOW), number(32)
    for _ in range(rounds):
        first = first_factor * words[0]
        second = second_factor * words[2]
        # (With the mask, it does not matter whether the shift brings in copies of a sign.)
        words = [
            ((second >> shift) & mask) ^ words[1] ^ number(low),
            second & mask,
            ((first >> shift) & mask) ^ words[3] ^ number(high),
            first & mask,
        ]
        low = (low + _WEYL[0]) & _LOW
        high = (high + _WEYL[1]) & _LOW
    return list(words)


def bernoulli_masks(
    shape: tuple[int, int, int, int],
    *,
    anchor_fraction: float = 0.5,
    seed: int = 0,
    first_index: int = 0,
    stream: int = 0,
    channels: Channels = "stacked",
) -> npt.NDArray[np.bool_]:
    """Draw the anchor masks that :func:`splic_ext.complete` uses.

    The mask of an image depends on ``(seed, image index, stream)`` alone. Bit p of an image is
    word ``p % 4`` of the Philox block with key ``(seed low, seed high)`` and counter
    ``(p // 4, stream, index low, index high)``, compared with ``anchor_fraction * 2**32``;
    p counts the entries of the matrix (C H, W) in row order, or of (H, W) for ``"separate"``.

    Parameters
    ----------
    shape : tuple of four int
        (N, C, H, W) of the batch.
    anchor_fraction : float, default 0.5
        Probability that an entry is an anchor, in [0, 1].
    seed : int, default 0
        In [0, 2**64).
    first_index : int, default 0
        Index of the first image; image i of the batch has the index ``first_index + i``.
    stream : int, default 0
        Number of the mask, for means over several masks.
    channels : {"stacked", "separate"}, default "stacked"
        A bit for every entry, or one mask shared by the channels of an image.

    Returns
    -------
    ndarray of shape (N, C, H, W) or (N, 1, H, W), bool
        True = anchor pixel, kept; False = target pixel, re-estimated.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.

    Examples
    --------
    >>> bernoulli_masks((1, 1, 2, 4), seed=7)[0, 0].astype(int)
    array([[0, 0, 1, 1],
           [1, 0, 1, 0]])
    """
    seed = check_integer("seed", seed, 0, 2**64 - 1)
    first_index = check_integer("first_index", first_index, 0, 2**64 - 1)
    stream = check_integer("stream", stream, 0, 2**32 - 1)
    anchor_fraction = check_number("anchor_fraction", anchor_fraction, 0.0, 1.0)
    if not isinstance(channels, str) or channels not in get_args(Channels):
        expected = ", ".join(map(repr, get_args(Channels)))
        raise ValueError(f"`channels` must be one of {expected}, got {channels!r}")
    sides = tuple(shape)
    if len(sides) != 4:
        raise ValueError(f"`shape` must be (N, C, H, W), got {shape!r}; use 1 for what is missing")
    count, n_channels, height, width = (
        check_integer(f"shape[{i}]", side, 0) for i, side in enumerate(sides)
    )
    planes = n_channels if channels == "stacked" else 1
    n_bits = planes * height * width
    n_blocks = -(-n_bits // 4)
    counter = np.zeros((count, n_blocks, 4), dtype=np.uint32)
    index = count_up(first_index, count)
    counter[..., 0] = np.arange(n_blocks, dtype=np.uint32)
    counter[..., 1] = stream
    counter[..., 2] = (index & np.uint64(_LOW)).astype(np.uint32)[:, None]
    counter[..., 3] = (index >> np.uint64(32)).astype(np.uint32)[:, None]
    words = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))
    threshold = np.uint64(anchor_threshold(anchor_fraction))
    bits: npt.NDArray[np.bool_] = words.reshape(count, 4 * n_blocks)[:, :n_bits] < threshold
    return bits.reshape(count, planes, height, width)


def anchor_threshold(anchor_fraction: float) -> int:
    """Return the number in [0, 2**32] below which a random word makes an anchor."""
    return round(anchor_fraction * 2**32)


def count_up(first_index: int, count: int) -> npt.NDArray[np.uint64]:
    """Return the indices of a batch whose first image has that index; 0 follows the largest."""
    return np.array([(first_index + i) % 2**64 for i in range(count)], dtype=np.uint64)


def consecutive_runs(indices: npt.NDArray[np.uint64]) -> list[slice]:
    """Return the parts of `indices` that count up by one."""
    edges = np.flatnonzero(indices[1:] != indices[:-1] + np.uint64(1)) + 1
    return [slice(start, stop) for start, stop in pairwise([0, *edges.tolist(), len(indices)])]
