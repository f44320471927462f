"""The thin plate under tension through the visible pixels, by NumPy, for holes of any size.

The surface is that of :class:`splic_ext.fills.ThinPlate`, which keeps matrices for the masks of
certificates; here conjugate gradients and elimination find it for one picture.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from splic_ext.inpainting.energy import energy

__all__ = ["windows", "with_surface"]

Pixels = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Window = tuple[slice, slice]

#: The weight of the slope; that of :class:`splic_ext.fills.ThinPlate`.
TENSION = 0.1
#: Conjugate gradients stop at this share of the first residual.
TOLERANCE = 1e-6
#: Most of their steps before elimination, and where that would be too much work.
FEW_STEPS, MOST_STEPS = 100, 3000
#: Most work of an elimination, as the sum of the cubes of its blocks.
MOST_WORK = 5e10
#: Below this side a window is no longer halved for a first guess.
LEAST_SIDE = 8
#: Side of the cells by which holes that are near each other are found, in pixels.
CELL = 32
#: A hidden pixel depends on those up to two pixels away.
REACH = 2


def with_surface(pixels: Pixels, visible: Mask) -> None:
    """Put the surface into the hidden pixels of an image (C, H, W), of which some are visible."""
    for rows, columns in windows(visible):
        part, seen = pixels[:, rows, columns], visible[rows, columns]
        part[...] = _solved(part, seen)


def windows(visible: Mask) -> Iterator[Window]:
    """Yield windows that hold all hidden pixels, each with what those in it depend on.

    Hidden pixels of two windows are too far from each other to matter. Where nothing visible would
    be in a window, it is the whole image.
    """
    height, width = visible.shape
    for rows, columns in _clusters(~visible):
        inside = ~visible[rows, columns]
        down, right = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        top, left = rows.start + int(down[0]) - REACH, columns.start + int(right[0]) - REACH
        bottom = rows.start + int(down[-1]) + REACH + 1
        end = columns.start + int(right[-1]) + REACH + 1
        yield slice(max(0, top), min(height, bottom)), slice(max(0, left), min(width, end))


def _clusters(hidden: Mask) -> Iterator[Window]:
    """Yield the bounds of groups of cells that hold hidden pixels, and do not touch each other."""
    height, width = hidden.shape
    starts = np.arange(0, height, CELL), np.arange(0, width, CELL)
    cells = np.logical_or.reduceat(np.logical_or.reduceat(hidden, starts[0], 0), starts[1], 1)
    boxes = [[i, i + 1, j, j + 1] for i, j in np.argwhere(cells).tolist()]
    merged = True
    while merged:  # rectangles that touch become one, until none do
        merged, found = False, list[list[int]]()
        for box in boxes:
            for i, other in enumerate(found):
                touch = box[0] <= other[1] and other[0] <= box[1]
                if touch and box[2] <= other[3] and other[2] <= box[3]:
                    box = [
                        min(box[0], other[0]),
                        max(box[1], other[1]),
                        min(box[2], other[2]),
                        max(box[3], other[3]),
                    ]
                    del found[i]
                    merged = True
                    break
            found.append(box)
        boxes = found
    for top, bottom, left, right in boxes:
        rows = slice(top * CELL, min(height, bottom * CELL))
        yield rows, slice(left * CELL, min(width, right * CELL))


def _solved(pixels: Pixels, visible: Mask) -> Pixels:
    """Return an image whose hidden pixels minimise the energy.

    Conjugate gradients begin at the surface of the image of half the size, and suffice for small
    holes. Those that they do not finish in a few steps are solved for directly, if they are not
    too large for that.
    """
    values = np.where(visible, pixels, _guess(pixels, visible))
    direct = _is_direct(visible)
    if not _descend(values, ~visible, FEW_STEPS if direct else MOST_STEPS) and direct:
        _eliminate(values, ~visible)
    return values


def _descend(values: Pixels, hidden: Mask, steps: int) -> bool:
    """Take conjugate gradients, and say whether they have ended.

    Each channel goes by itself: its result does not depend on the others.
    """
    rest = -_gradient(values) * hidden
    step = rest.copy()
    squares = _sums(rest, rest)
    least = TOLERANCE**2 * np.maximum(squares, np.finfo(float).tiny)
    for _ in range(steps):
        going = squares > least
        if not going.any():
            return True
        turned = _gradient(step) * hidden
        below = _sums(step, turned)
        length = np.where(going, squares / np.where(below > 0, below, 1.0), 0.0)
        values += length * step
        rest -= length * turned
        before, squares = squares, _sums(rest, rest)
        step *= np.where(going, squares / np.maximum(before, np.finfo(float).tiny), 0.0)
        step += rest
    return False


def _blocks(visible: Mask) -> npt.NDArray[np.int64]:
    """Return the numbers of hidden pixels in the pairs of rows that elimination goes through."""
    rows = np.count_nonzero(~visible, axis=1)
    return np.add.reduceat(rows, np.arange(0, len(rows), 2)).astype(np.int64)


def _is_direct(visible: Mask) -> bool:
    """Say whether elimination takes neither too long nor too much memory."""
    return min(_cost(_blocks(seen)) for seen in (visible, visible.T)) <= MOST_WORK


def _cost(sizes: npt.NDArray[np.int64]) -> float:
    return float((sizes.astype(np.float64) ** 3).sum())


def _eliminate(values: Pixels, hidden: Mask) -> None:
    """Solve for the hidden pixels, two rows at a time: a pair sees its neighbours alone."""
    if _cost(_blocks(~hidden.T)) < _cost(_blocks(~hidden)):
        values, hidden = values.swapaxes(1, 2), hidden.T
    height, width = hidden.shape
    values[:, hidden] = 0.0
    sides = -_gradient(values)
    place = np.flatnonzero(hidden)
    number = np.full(height * width, -1)
    number[place] = np.arange(len(place))
    ends = np.concatenate([[0], np.cumsum(_blocks(~hidden))])
    energies = {k: v.ravel()[place] for k, v in energy(height, width, TENSION).items()}

    def part(block: int, other: int) -> Pixels:
        """Return the matrix of the pixels of a block, and of those of another one."""
        rows, low = place[ends[block] : ends[block + 1]], ends[other]
        matrix = np.zeros((len(rows), ends[other + 1] - low))
        for (down, right), coefficients in energies.items():
            own = coefficients[ends[block] : ends[block + 1]]
            at = rows + down * width + right
            fits = np.flatnonzero(own)
            columns = number[at[fits]]
            here = (columns >= low) & (columns < ends[other + 1])
            matrix[fits[here], columns[here] - low] = own[fits[here]]
        return matrix

    right = sides.reshape(len(values), -1)[:, place].T
    known: list[Pixels] = []
    upper: list[Pixels] = []
    for block in range(len(ends) - 1):
        square, given = part(block, block), right[ends[block] : ends[block + 1]]
        if block:
            lower = part(block, block - 1)
            square -= lower @ upper[-1]
            given = given - lower @ known[-1]
        above = part(block, block + 1) if block + 2 < len(ends) else np.zeros((len(given), 0))
        solved = np.linalg.solve(square, np.hstack([above, given]))
        upper.append(solved[:, : above.shape[1]])
        known.append(solved[:, above.shape[1] :])
    for block in range(len(known) - 2, -1, -1):
        known[block] -= upper[block] @ known[block + 1]
    values[:, hidden] = np.concatenate(known).T


def _sums(first: Pixels, second: Pixels) -> Pixels:
    """Return the inner product of each channel, (C, 1, 1); BLAS may round with its threads."""
    sums: Pixels = (first * second).sum(axis=(1, 2), keepdims=True)
    return sums


def _guess(pixels: Pixels, visible: Mask) -> Pixels:
    """Return a surface to begin with: that of the halved image, or the mean of what is visible."""
    height, width = visible.shape
    if min(height, width) < LEAST_SIDE:
        seen = np.where(visible, pixels, 0.0)
        return np.broadcast_to(seen.sum(axis=(1, 2), keepdims=True) / visible.sum(), pixels.shape)
    pad = ((0, height % 2), (0, width % 2))
    weight = np.pad(visible.astype(np.float64), pad)
    total = np.pad(np.where(visible, pixels, 0.0), ((0, 0), *pad))
    weight, total = _halved(weight), _halved(total)
    known = weight > 0
    coarse = _solved(total / np.maximum(weight, 1.0), known)
    return _doubled(coarse)[:, :height, :width]


def _halved(array: Pixels) -> Pixels:
    """Return sums of squares of two by two."""
    return (
        array[..., ::2, ::2]
        + array[..., 1::2, ::2]
        + array[..., ::2, 1::2]
        + array[..., 1::2, 1::2]
    )


def _doubled(array: Pixels) -> Pixels:
    """Return an array of twice the sides, interpolated linearly between centres of pixels."""
    for axis in (1, 2):
        last = array.shape[axis] - 1
        place = np.arange(last + 1)
        low = array.take(np.maximum(place - 1, 0), axis)
        high = array.take(np.minimum(place + 1, last), axis)
        pair = np.stack([0.75 * array + 0.25 * low, 0.75 * array + 0.25 * high], axis + 1)
        shape = list(array.shape)
        shape[axis] *= 2
        array = pair.reshape(shape)
    return array


def _gradient(values: Pixels) -> Pixels:
    """Return half the derivative of the energy in each pixel."""
    height, width = values.shape[1:]
    found = np.zeros_like(values)
    for (down, right), coefficients in energy(height, width, TENSION).items():
        # Rows and columns that have such a neighbour: the coefficients of others are 0.
        own = slice(max(0, -down), height - max(0, down))
        side = slice(max(0, -right), width - max(0, right))
        near = slice(max(0, down), height - max(0, -down))
        beside = slice(max(0, right), width - max(0, -right))
        found[:, own, side] += coefficients[own, side] * values[:, near, beside]
    return found
