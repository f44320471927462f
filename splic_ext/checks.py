"""Checks of scalar parameters, with messages that name the parameter and the range."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

__all__ = ["check_integer", "check_number"]


def check_integer(name: str, value: Any, low: int, high: int) -> int:
    """Return `value` as an int in [low, high]; NumPy integers count, bools do not."""
    given: Any = None if isinstance(value, (bool, np.bool_)) else value
    try:
        number = operator.index(given)
    except TypeError:
        raise TypeError(
            f"`{name}` must be an integer, got {value!r} of {type(value).__name__}; "
            "convert it with int()"
        ) from None
    if not low <= number <= high:
        raise ValueError(
            f"`{name}` must be an integer in [{low}, {high}], got {number}; choose one of these"
        )
    return number


def check_number(
    name: str, value: Any, low: float, high: float = math.inf, *, above: bool = False
) -> float:
    """Return `value` as a finite float in [low, high], or in (low, high] if `above`."""
    refused = (bool, str, bytes, bytearray, np.bool_, np.complexfloating)
    n_axes: Any = getattr(value, "ndim", 0)
    given: Any = None if isinstance(value, refused) or n_axes != 0 else value
    try:
        number = float(given)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError):
        raise TypeError(
            f"`{name}` must be a number, got {value!r} of {type(value).__name__}; "
            "convert it with float()"
        ) from None
    if not (math.isfinite(number) and low <= number <= high) or (above and number == low):
        bound = f"in {'(' if above else '['}{low:g}, {high:g}]"
        if high == math.inf:
            bound = f"{'>' if above else '>='} {low:g}"
        raise ValueError(
            f"`{name}` must be finite and {bound}, got {number!r}; choose one of these"
        )
    return number
