"""Sets of masks that cover every place of a patch, with the proof that they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.common.checks import check_integer, shortened

__all__ = ["Box", "MaskSet", "Patch", "parse_patch"]

#: Side of a square patch, height and width, or several of these.
Patch = int | tuple[int, int] | Sequence[tuple[int, int]]

#: Top, left, height, width, in pixels.
Box = tuple[int, int, int, int]

#: Most pairs of masks that are asked of one image; two patches come to thousands soon.
MOST_PAIRS = 200_000


@dataclass(frozen=True, eq=False)
class MaskSet:
    r"""Masks of which one hides the whole patch, wherever it is ([1]_, section 3.2).

    Along an axis of n pixels, a patch of p pixels begins at one of n - p + 1 places. With k masks
    and the stride :math:`s = \lceil (n - p + 1) / k \rceil`, mask i begins at
    :math:`\min(i s, n - m)` and hides :math:`m = p + s - 1` pixels. A patch that begins at a has
    :math:`i s \le a < (i + 1) s` for some i < k, so that it ends before
    :math:`a + p \le i s + s - 1 + p = i s + m`: mask i hides it. Where the mask was moved back to
    end at n, it still begins at or before :math:`i s \le a` and the patch ends by n. In two
    dimensions a mask is the product of two of these; for several shapes the sets are joined; for
    several patches a mask is the union of as many.

    Parameters
    ----------
    height, width : int
        Of the images, in pixels.
    patch : int, (int, int) or sequence of (int, int)
        Side of a square, height and width of a rectangle, or several rectangles, of which the
        attacker may choose one.
    masks : int or (int, int), default 6
        Masks along each axis, or along height and width: more -> smaller masks, and more pairs.
    patches : {1, 2}, default 1
        How many patches the attacker may place.

    Attributes
    ----------
    boxes : tuple of (top, left, height, width)
        What the masks for one patch hide.
    visible : ndarray of shape (M, H, W), bool
        The masks of round one, True = visible. One for each box; for two patches, one for each
        union of two boxes.
    pairs : ndarray of shape (P, 2), int
        Masks i <= j, whose union both rounds of the vote ask for: one pair for each union of two
        masks that differs from all others. (i, i) is mask i itself, and comes first.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind; a patch larger than the image; more than 200,000 pairs.

    References
    ----------
    .. [1] C. Xiang, S. Mahloujifar, P. Mittal, "PatchCleanser: Certifiably Robust Defense against
       Adversarial Patches for Any Image Classifier", USENIX Security 2022.

    Examples
    --------
    >>> masks = MaskSet(32, 32, patch=5)
    >>> masks.boxes[0], masks.boxes[-1], len(masks), len(masks.pairs)
    ((0, 0, 9, 9), (23, 23, 9, 9), 36, 666)
    >>> masks.uncovered()
    []
    """

    height: int
    width: int
    patch: Patch = 5
    masks: int | tuple[int, int] = 6
    patches: int = 1

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), 1))
        shapes = _shapes(self.patch)
        counts = _sides("masks", self.masks)
        if min(counts) < 2:
            raise ValueError(
                f"`masks` must be at least 2 along each axis, got {self.masks!r}: a single mask "
                "would hide the whole axis; 3 to 6 are usual"
            )
        number = check_integer("patches", self.patches, 1, 2)
        for patch in shapes:
            if patch[0] > self.height or patch[1] > self.width:
                raise ValueError(
                    f"`patch` must fit into the images of {self.height} x {self.width}, got "
                    f"{patch[0]} x {patch[1]}; a patch that covers all of an image has no defence"
                )
        boxes = tuple(
            dict.fromkeys(
                box for patch in shapes for box in _boxes((self.height, self.width), patch, counts)
            )
        )
        hidden = np.zeros((len(boxes), self.height, self.width), bool)
        for mask, (top, left, high, wide) in zip(hidden, boxes, strict=True):
            mask[top : top + high, left : left + wide] = True
        unions = _unions(hidden, number)
        count = len(unions) * (len(unions) + 1) // 2
        if count > MOST_PAIRS:
            raise ValueError(
                f"`masks` must give at most {MOST_PAIRS} pairs, got {count} of {len(unions)} masks "
                f"for `patches={number}`; use fewer `masks`"
            )
        object.__setattr__(self, "_values", (boxes, ~unions, _pairs(unions)))

    def __len__(self) -> int:
        return len(self.visible)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MaskSet) and np.array_equal(self.visible, other.visible)

    def __hash__(self) -> int:
        return hash(self.visible.tobytes())

    @property
    def boxes(self) -> tuple[Box, ...]:
        """What the masks for one patch hide: top, left, height, width."""
        return self._values[0]  # type: ignore[attr-defined,no-any-return]

    @property
    def visible(self) -> npt.NDArray[np.bool_]:
        """The masks of round one, shape (M, H, W)."""
        return self._values[1]  # type: ignore[attr-defined,no-any-return]

    @property
    def pairs(self) -> npt.NDArray[np.int64]:
        """Masks i <= j whose unions differ, shape (P, 2)."""
        return self._values[2]  # type: ignore[attr-defined,no-any-return]

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Heights and widths that a patch may have."""
        return _shapes(self.patch)

    def uncovered(self) -> list[tuple[Box, ...]]:
        """Return the places of patches that no mask hides, by trying all; there are none.

        Returns
        -------
        list of tuples of boxes
            A tuple has a box for each patch. For two patches only places of two that a single
            mask for one patch hides are tried apart, which is enough: their union is a mask.
        """
        alone = [self._hidden_alone(box) for box in self._places()]
        return [(box,) for box, covered in alone if not covered]

    def _places(self) -> list[Box]:
        return [
            (top, left, high, wide)
            for high, wide in _shapes(self.patch)
            for top in range(self.height - high + 1)
            for left in range(self.width - wide + 1)
        ]

    def _hidden_alone(self, box: Box) -> tuple[Box, bool]:
        """Return the box, and whether a box of a mask holds it."""
        top, left, high, wide = box
        return box, any(
            t <= top and s <= left and top + high <= t + h and left + wide <= s + w
            for t, s, h, w in self.boxes
        )


def parse_patch(text: str) -> Patch:
    """Read a patch as the command line takes it: ``5``, ``3x8`` or ``3x8,8x3``.

    Raises
    ------
    ValueError
        A text of another form.

    Examples
    --------
    >>> parse_patch("5"), parse_patch("3x8"), parse_patch("3x8,8x3")
    (5, (3, 8), ((3, 8), (8, 3)))
    """
    shapes = []
    for part in str(text).split(","):
        sides = part.strip().split("x")
        if not 1 <= len(sides) <= 2 or not all(s.isascii() and s.isdigit() for s in sides):
            raise ValueError(
                f"`patch` must be a side such as 5, a height and width such as 3x8, or several "
                f"such as 3x8,8x3, got {shortened(repr(text))}"
            )
        shapes.append((int(sides[0]), int(sides[-1])))
    if len(shapes) > 1:
        return tuple(shapes)
    return shapes[0][0] if "x" not in text else shapes[0]


def _sides(name: str, value: Any) -> tuple[int, int]:
    """Return one number for both axes, or two."""
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise ValueError(
            f"`{name}` must be an integer, or two for height and width, got {len(pair)} values"
        )
    return check_integer(name, pair[0], 1), check_integer(name, pair[1], 1)


def _shapes(patch: Any) -> tuple[tuple[int, int], ...]:
    """Return the heights and widths that a patch may have."""
    several = isinstance(patch, (tuple, list)) and any(
        isinstance(part, (tuple, list)) for part in patch
    )
    shapes = tuple(patch) if several else (patch,)
    return tuple(_sides("patch", shape) for shape in shapes)


def _boxes(image: tuple[int, int], patch: tuple[int, int], counts: tuple[int, int]) -> list[Box]:
    axes = []
    for n, p, k in zip(image, patch, counts, strict=True):
        stride = -(-(n - p + 1) // k)
        size = p + stride - 1
        axes.append([(min(i * stride, n - size), size) for i in range(k)])
    return [(top, left, high, wide) for top, high in axes[0] for left, wide in axes[1]]


def _unions(hidden: npt.NDArray[np.bool_], number: int) -> npt.NDArray[np.bool_]:
    """Return the unions of `number` masks, without repetition."""
    if number == 1:
        return hidden
    indices = np.array(list(combinations_with_replacement(range(len(hidden)), number)))
    found: npt.NDArray[np.bool_] = hidden[indices].any(axis=1)
    return found[_first_of_each(found)]


def _pairs(unions: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    count = len(unions)
    same = np.arange(count)
    other = np.array(list(combinations(range(count), 2)), np.int64).reshape(-1, 2)
    pairs = np.concatenate([np.stack([same, same], axis=1), other])
    packed = np.packbits(unions.reshape(count, -1), axis=1)
    return pairs[_first_of_each(packed[pairs[:, 0]] | packed[pairs[:, 1]])]


def _first_of_each(rows: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the indices of rows that differ from all before them, ascending."""
    flat = np.ascontiguousarray(rows.reshape(len(rows), -1))
    keys = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).ravel()
    return np.sort(np.unique(keys, return_index=True)[1])
