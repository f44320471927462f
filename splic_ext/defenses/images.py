"""Checks of the images that a defence gets: dtype, axes, range."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from splic_ext.arrays.views import looks_channel_last
from splic_ext.common.checks import told_apart
from splic_ext.errors import ShapeError

__all__ = ["RANGE_TOLERANCE", "check_form", "check_images", "values_checked"]

#: Images may exceed [0, 1] by this much, as rounding makes them; the excess is clipped.
RANGE_TOLERANCE = 1e-4

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class _Trust(threading.local):
    """Whether this thread is inside :func:`values_checked`."""

    depth = 0


_TRUST = _Trust()


@contextmanager
def values_checked() -> Iterator[None]:
    """Leave out the check of image values for a while, in this thread: the caller has made it.

    The check has to wait for the device that the images are on.

    >>> with values_checked():
    ...     check_images(torch.full((1, 1, 2, 2), 7.0))
    """
    _TRUST.depth += 1
    try:
        yield
    finally:
        _TRUST.depth -= 1


def check_images(images: Any) -> None:
    """Raise unless `images` is a float tensor (N, C, H, W) in [0, 1]; warn of (N, H, W, C)."""
    check_form(images)
    shape = tuple(images.shape)
    if len(images) == 0 or _TRUST.depth > 0:
        return
    if looks_channel_last(shape, -3):
        warnings.warn(
            f"`images` of shape {shape} looks channel last; use images.permute(0, 3, 1, 2)",
            stacklevel=2,
        )
    values = images.detach()
    if values.dtype in (torch.float16, torch.bfloat16):  # not every torch compares these
        values = values.float()
    low, high = (bound.item() for bound in values.aminmax())
    if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
        raise ValueError(
            f"`images` must be finite and lie in [0, 1], got minimum {told_apart(low, 0.0)} and "
            f"maximum {told_apart(high, 1.0)}; scale or clip them, and normalise after the defence"
        )


def check_form(images: Any) -> None:
    """Do it without a look at the values, which a graph does not have."""
    if not isinstance(images, torch.Tensor):
        raise TypeError(
            f"`images` must be a torch tensor, got {type(images).__name__}; "
            "convert it with torch.as_tensor()"
        )
    if images.dtype not in _DTYPES:
        raise TypeError(
            "`images` must be of float16, bfloat16, float32 or float64 in [0, 1], got "
            f"{images.dtype}; convert 8-bit images with `images.float() / 255`"
        )
    shape = tuple(images.shape)
    if len(shape) != 4 or 0 in shape[1:]:
        raise ShapeError(
            f"`images` must have shape (N, C, H, W) with at least one channel and pixel, got "
            f"{shape}; add an axis with `images[None]` to a single image",
            shape,
            "(N, C, H, W)",
        )
