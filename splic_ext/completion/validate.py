"""Checks of the arrays that complete() is handed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.arrays.dtypes import decode, rounding
from splic_ext.arrays.memory import Memory
from splic_ext.arrays.views import ArrayView, view_array
from splic_ext.backends.base import CompletionInfo
from splic_ext.common.checks import out_of_range
from splic_ext.errors import ShapeError
from splic_ext.options import MAX_SIDE, SolverOptions

__all__ = [
    "check_converged",
    "check_mask",
    "check_mask_place",
    "check_out",
    "check_sides",
    "check_single",
    "check_values",
    "unrepeated",
]

#: Most entries of one image: the solvers count them in 32 bits.
MAX_ENTRIES = 2**31 - 1

#: Values are checked this many bytes at a time, to bound the memory.
CHECK_BYTES = 1 << 22


def check_out(out: Any, source: ArrayView) -> ArrayView:
    """Return the view of `out`, or raise unless it is an array like the batch."""
    result = view_array("out", out)
    if result.place != source.place:
        raise ValueError(
            f"`out` must be on the device of `batch`, {source.place!r}, got {result.place!r}; "
            "move one of them"
        )
    if not result.same_kind(source) or result.dtype != source.dtype:
        raise TypeError(
            f"`out` must be a {type(source.array).__name__} of {source.dtype} like `batch`, got a "
            f"{type(out).__name__} of {result.dtype}; convert it, or leave it out"
        )
    if result.shape != source.shape:
        raise ShapeError(
            f"`out` must have the shape of `batch`, {source.shape}, got {result.shape}; reshape "
            "it, or leave it out",
            result.shape,
            str(source.shape),
        )
    memory = result.memory()
    if memory.read_only:
        raise ValueError("`out` must be writable, got a read-only array; pass a copy")
    if memory.overlaps_itself():
        raise ValueError(
            f"`out` must have memory of its own for every element, got strides "
            f"{memory.strides} for the shape {memory.shape}; make it contiguous"
        )
    return result


def check_mask(mask: Any, source: ArrayView, images: Memory, channel_axis: int) -> ArrayView:
    """Return the view of `mask`, or raise unless it fits the images."""
    view = view_array("mask", mask)
    check_mask_place(view.place, source.place)
    if view.dtype != "bool":
        raise TypeError(
            f"`mask` must be of bool (True = anchor pixel, kept), got {view.dtype}; "
            "convert it with `mask > 0`"
        )
    shape = view.shape
    count, channels, height, width = images.shape
    ndim = len(source.shape)
    shapes: list[tuple[int, ...]] = [(height, width)]
    if ndim > 2:
        batch = (count,) if ndim == 4 else ()
        last = source.shape[-1] == channels and int(channel_axis) in (-1, ndim - 1)
        for planes in (1, channels):
            shapes.append(
                (*batch, height, width, planes) if last else (*batch, planes, height, width)
            )
    if shape not in shapes:
        expected = " or ".join(map(str, dict.fromkeys(shapes)))
        hint = "; reshape it"
        if ndim == 4 and shape == (count, height, width):
            hint = "; add an axis with `mask[:, None]`" if not last else "; use `mask[..., None]`"
        raise ShapeError(
            f"`mask` must have shape {expected} for a batch of shape {source.shape}, got "
            f"{shape}{hint}",
            shape,
            expected,
        )
    source.check_graph("mask", view)
    return view


def check_mask_place(place: str, batch: str) -> None:
    """Raise unless the device of the mask is that of the batch."""
    if place != batch:
        raise ValueError(
            f"`mask` must be on the device of `batch`, {batch!r}, got {place!r}; move one of them"
        )


def check_single(options: SolverOptions) -> None:
    """Raise if several completions are asked for with one given mask."""
    if options.n_masks > 1:
        raise ValueError(
            f"`n_masks` must be 1 with a given `mask`, got {options.n_masks}: all the "
            "completions would be the same; leave `mask` out to draw several"
        )


def check_sides(sides: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Raise unless images of these sides (N, C, H, W) can be completed; `shape` is the caller's."""
    _, channels, height, width = sides
    if channels < 1 or not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        expected = f"at least one channel, and height and width from 1 to {MAX_SIDE}"
        raise ShapeError(
            f"`batch` must have {expected}, got {channels} channels of {height} x {width}; "
            "set `channel_axis=-1` for channel-last images, and resize or tile larger ones",
            shape,
            expected,
        )
    if channels * height * width > MAX_ENTRIES:
        expected = f"at most {MAX_ENTRIES} entries in an image"
        raise ShapeError(
            f"`batch` must have {expected}, got {channels} channels of {height} x {width}; "
            "split the channels",
            shape,
            expected,
        )


def check_values(
    images: npt.NDArray[Any],
    dtype: str,
    data_range: float,
    mask: npt.NDArray[np.bool_] | None = None,
    options: SolverOptions | None = None,
) -> bool:
    """Raise unless all values are finite and in [0, data_range]; names the first image at fault.

    An excess of a few roundings is no fault; return whether there is one, to be clipped. With a
    given `mask` in the shape of the images, what it hides from a single pass counts only where the
    result depends on it.
    """
    if dtype == "uint8" and data_range >= 255:
        return False
    if options is not None and (options.alternate or options.start == "image"):
        mask = None  # the second pass, or the start, sees what the first pass does not
    excess = False
    slack = rounding(dtype) * data_range
    step = max(1, CHECK_BYTES // max(1, images[0].nbytes))
    once = unrepeated(images)
    for start in range(0, len(once), step):
        low, high = _bounds(once[start : start + step], dtype)
        if low >= 0 and high <= data_range:
            continue
        parts = images if len(once) < len(images) else images[start : start + step]
        for i, image in enumerate(parts, start):
            seen = None if mask is None or options is None else _seen(mask[i], options)
            low, high = _bounds(image, dtype, seen)
            if not (low >= -slack and high <= data_range + slack):
                raise out_of_range(i, low, high, data_range)
            excess = excess or low < 0 or high > data_range
    return excess


def unrepeated(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the view of an array without repetitions: axes of stride 0 have length 1."""
    return array[tuple(slice(1 if step == 0 else None) for step in array.strides)]


def _seen(mask: npt.NDArray[np.bool_], options: SolverOptions) -> npt.NDArray[np.bool_]:
    """Return the pixels of an image (C, H, W) that the result of a single pass depends on."""
    if options.empty_value is not None:
        return mask
    matrix = (1, 2) if options.channels == "separate" else (0, 1, 2)
    return mask | ~mask.any(axis=matrix, keepdims=True)


def check_converged(info: CompletionInfo, options: SolverOptions) -> None:
    """Raise if the iteration diverged on an image."""
    diverged = np.flatnonzero(~np.isfinite(info.residual).all(axis=1))
    if diverged.size:
        raise ArithmeticError(
            f"the iteration diverged on image {diverged[0]} ({diverged.size} in all) with "
            f"`step_size={options.step_size}`, `tv_weight={options.tv_weight}` and "
            f"`gradient_step={options.gradient_step!r}`; it is stable for step_size <= 1 and "
            "step_size * tv_weight <= 0.25 with the 'srf' step: use smaller ones"
        )


def _bounds(
    values: npt.NDArray[Any], dtype: str, seen: npt.NDArray[np.bool_] | None = None
) -> tuple[float, float]:
    """Return the least and the largest of the values that are seen; 0 if none is."""
    if seen is not None:
        values = values[seen]
        if values.size == 0:
            return 0.0, 0.0
    with np.errstate(invalid="ignore"):
        if dtype == "bfloat16":
            values = decode(values, dtype)
        return float(values.min()), float(values.max())
