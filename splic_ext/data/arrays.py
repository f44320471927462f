"""Images in arrays and tensors of any library, as bytes with the channels first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.common.checks import reason_of, told_apart
from splic_ext.data.dataset import conversion
from splic_ext.errors import ShapeError

__all__ = ["ROUNDED", "array_of", "bytes_of", "channels_first", "layout_of"]

#: Most that a value in [0, 1] may be off the 256 levels, in levels: float16 is off by 0.07.
OFF = 0.1

#: So many values are converted at a time.
CHUNK = 2**22

ROUNDED = "images in [0, 1] lie between the 256 levels and are rounded"


def array_of(values: Any) -> npt.NDArray[Any]:
    """Return what an array, a tensor or a list of either holds, on the CPU, without a cast."""
    try:
        if hasattr(values, "detach"):
            values = values.detach().cpu()
        elif hasattr(values, "__cuda_array_interface__") and hasattr(values, "get"):
            values = values.get()  # CuPy
        elif isinstance(values, (list, tuple)):
            return np.stack([array_of(value) for value in values])
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise TypeError(
            f"`images` must be an array or a tensor, got {type(values).__name__}: "
            f"{reason_of(error)}; convert it with `np.asarray`, or of other sizes give a data set "
            "of items (image, label) and `resize`"
        ) from None


def layout_of(shape: tuple[int, ...]) -> str:
    """Say how images (N, ...) of a shape are to be read: "gray", "first" or "last" channels.

    >>> layout_of((9, 28, 28)), layout_of((9, 3, 32, 32)), layout_of((9, 32, 32, 3))
    ('gray', 'first', 'last')
    """
    if len(shape) == 3:
        return "gray"
    if len(shape) != 4:
        raise ShapeError(
            f"`images` must have shape (N, H, W), (N, C, H, W) or (N, H, W, C), got {shape}; "
            "reshape them",
            shape,
            "(N, C, H, W)",
        )
    last, first = shape[3] in (1, 3, 4), shape[1] in (1, 2, 3, 4)
    if last and first and not (shape[1] in (1, 3) and shape[3] == 4):
        raise ShapeError(
            f"`images` of shape {shape} may have their channels first or last; make a "
            "`Dataset(name, images, labels, classes)` of them, which takes (N, C, H, W)",
            shape,
            "(N, C, H, W)",
        )
    return "last" if last and not first else "first"


def channels_first(images: npt.NDArray[Any], layout: str) -> npt.NDArray[Any]:
    """Return images of a layout as (N, C, H, W), without a copy."""
    if layout == "gray":
        return images[:, None]
    return images.transpose(0, 3, 1, 2) if layout == "last" else images


def bytes_of(images: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], bool]:
    """Return images as uint8, floats in [0, 1] as rint(255 x), and whether some were rounded."""
    if images.dtype == np.uint8:
        return images, False
    if images.dtype.kind != "f":
        got, fix = conversion(images)
        raise TypeError(f"`images` must be uint8, or floats in [0, 1], got {got}; convert {fix}")
    result, off = np.empty(images.shape, np.uint8), 0.0
    rows = max(1, CHUNK // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(images), rows):
        with np.errstate(all="ignore"):  # of NaN and huge numbers, which are refused
            values = images[start : start + rows].astype(np.float64)
        if not (values.min(initial=0.0) >= 0 and values.max(initial=0.0) <= 1):
            _refuse(images)
        values *= 255
        levels = np.rint(values)
        off = max(off, float(np.abs(values - levels).max(initial=0.0)))
        result[start : start + rows] = levels
    return result, off > OFF


def _refuse(images: npt.NDArray[Any]) -> None:
    """Raise the error on floats that are not in [0, 1]."""
    got, fix = "NaN or infinity", "replace them, for example with numpy.nan_to_num"
    if np.isfinite(images).all():
        low, high = float(images.min()), float(images.max())
        fix = "leave out what normalises them: networks take images in [0, 1]"
        got = f"values in [{told_apart(low, 0.0)}, {told_apart(high, 1.0)}]"
        if low >= 0 and 1.5 < high <= 255:
            fix = "divide them by 255"
    raise ValueError(f"`images` must be uint8, or floats in [0, 1], got {got}; {fix}")
