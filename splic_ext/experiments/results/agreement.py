"""Whether a number of the paper agrees with ours: the one judgement of pages and reports."""

from __future__ import annotations

from enum import Enum

__all__ = ["Agreement", "agreement"]


class Agreement(Enum):
    """Where the paper's number lies, seen from the interval of ours."""

    WITHIN = "within"
    BELOW = "below"
    ABOVE = "above"


def agreement(printed: float, low: float, high: float) -> Agreement:
    """Compare a printed number with an interval, all in % and rounded as they are shown."""
    if round(low, 1) <= printed <= round(high, 1):
        return Agreement.WITHIN
    return Agreement.ABOVE if printed > high else Agreement.BELOW
