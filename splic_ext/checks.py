"""Checks of scalar parameters, with messages that name the parameter and the range."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["check_integer", "check_number"]


def check_integer(name: str, value: Any, low: int, high: int) -> int:
    """Return `value` as an int in [low, high]; NumPy integers count, bools do not."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"`{name}` must be an integer, got {value!r} of {type(value).__name__}")
    number = int(value.__index__())
    if not low <= number <= high:
        raise ValueError(f"`{name}` must be an integer in [{low}, {high}], got {number}")
    return number


def check_number(
    name: str, value: Any, low: float, high: float = math.inf, *, above: bool = False
) -> float:
    """Return `value` as a finite float in [low, high], or in (low, high] if `above`."""
    if isinstance(value, (bool, str)) or not hasattr(value, "__float__"):
        raise TypeError(f"`{name}` must be a number, got {value!r} of {type(value).__name__}")
    number = float(value)
    if not (math.isfinite(number) and low <= number <= high) or (above and number == low):
        bound = f"in {'(' if above else '['}{low:g}, {high:g}]"
        if high == math.inf:
            bound = f"{'>' if above else '>='} {low:g}"
        raise ValueError(f"`{name}` must be finite and {bound}, got {number!r}")
    return number
