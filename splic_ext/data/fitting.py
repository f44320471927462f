"""Images brought to one size: resized, and cut out of the centre."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.common.checks import check_integer, printable, shortened
from splic_ext.data.pictures import MAX_PIXELS, UnreadableError, pillow
from splic_ext.errors import ShapeError

__all__ = ["Fitting", "make_fitting"]

#: The longest side that an image may be brought to.
MOST_SIDE = 8192
INTERPOLATIONS = ("bilinear", "bicubic")

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Fitting:
    """What is done to each image; by default nothing."""

    resize: int | tuple[int, int] | None = None
    center_crop: tuple[int, int] | None = None
    interpolation: str = "bilinear"

    def __bool__(self) -> bool:
        return self.resize is not None or self.center_crop is not None

    def __call__(self, image: Pixels, key: str) -> Pixels:
        """Return an image (C, H, W) resized and cut; `key` names it in messages."""
        if self.resize is not None:
            image = self._resized(image, self._target(*image.shape[1:]))
        if self.center_crop is not None:
            image = self._cut(image, *self.center_crop, key)
        return image

    def _target(self, height: int, width: int) -> tuple[int, int]:
        """Return the size after resizing: a single number is that of the shorter side."""
        if not isinstance(self.resize, int):
            assert self.resize is not None
            return self.resize
        if height <= width:
            return self.resize, self.resize * width // height
        return self.resize * height // width, self.resize

    def _resized(self, image: Pixels, size: tuple[int, int]) -> Pixels:
        if image.shape[1:] == size:
            return image
        if size[0] * size[1] > MAX_PIXELS:
            raise UnreadableError(f"resized it would have {size[0]} x {size[1]} pixels")
        module = pillow()
        kernel = module.Resampling[self.interpolation.upper()]

        def scaled(plane: Any) -> Any:
            return np.asarray(module.fromarray(plane).resize(size[::-1], kernel))

        if image.shape[0] == 3:
            colours = np.ascontiguousarray(image.transpose(1, 2, 0))
            return np.asarray(scaled(colours).transpose(2, 0, 1))
        return np.stack([scaled(np.ascontiguousarray(plane)) for plane in image])

    def _cut(self, image: Pixels, height: int, width: int, key: str) -> Pixels:
        rows, columns = image.shape[1:]
        if rows < height or columns < width:
            raise ShapeError(
                f"`center_crop` must fit into each image, got {height} x {width} for "
                f"'{shortened(printable(key), 120)}' of {rows} x {columns}; make them larger first "
                "with `resize`",
                (rows, columns),
                f"at least {height} x {width}",
            )
        top, left = (rows - height) // 2, (columns - width) // 2
        return image[:, top : top + height, left : left + width]


def make_fitting(resize: Any, center_crop: Any, interpolation: Any) -> Fitting:
    """Check sizes, such as 32, "32", "28x32" or (28, 32), and make a fitting of them.

    >>> make_fitting("256", 224, "bicubic")
    Fitting(resize=256, center_crop=(224, 224), interpolation='bicubic')
    """
    if not isinstance(interpolation, str) or interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"`interpolation` must be one of {', '.join(INTERPOLATIONS)}, got "
            f"{shortened(repr(interpolation))}; choose one"
        )
    shorter = None if resize is None else _size("resize", resize)
    cut = None if center_crop is None else _size("center_crop", center_crop)
    return Fitting(shorter, (cut, cut) if isinstance(cut, int) else cut, interpolation)


def _size(name: str, given: Any) -> int | tuple[int, int]:
    """Return a size that is given as a number, a pair or a text."""
    parts = given
    if isinstance(given, str):
        found = re.fullmatch(r"\s*(\d{1,9})(?:\s*[x×]\s*(\d{1,9}))?\s*", given)  # noqa: RUF001
        if found is None:
            raise ValueError(
                f"`{name}` must be a side such as 32, or height x width such as 28x32, got "
                f"{shortened(repr(given))}; write it so"
            )
        parts = [int(part) for part in found.groups() if part is not None]
        parts = parts[0] if len(parts) == 1 else tuple(parts)
    if isinstance(parts, (tuple, list)):
        if len(parts) != 2:
            raise ValueError(
                f"`{name}` must be a side, or a pair of height and width, got {len(parts)} "
                "numbers; give one or two"
            )
        return check_integer(name, parts[0], 1, MOST_SIDE), check_integer(
            name, parts[1], 1, MOST_SIDE
        )
    return check_integer(name, parts, 1, MOST_SIDE)
