"""The energy of a thin plate under tension on a grid: bending, and tension times slope."""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

__all__ = ["energy"]


@lru_cache(maxsize=4)
def energy(
    height: int, width: int, tension: float
) -> dict[tuple[int, int], npt.NDArray[np.float64]]:
    """Return half the second derivatives of the energy: offset -> of each pixel and that one."""
    bent = [(0, 1.0), (1, -2.0), (2, 1.0)]
    slope = [(0, -1.0), (1, 1.0)]
    terms = [
        (1.0, [(d, 0, v) for d, v in bent]),
        (1.0, [(0, d, v) for d, v in bent]),
        (2.0, [(d, e, v * w) for d, v in slope for e, w in slope]),
        (tension, [(d, 0, v) for d, v in slope]),
        (tension, [(0, d, v) for d, v in slope]),
    ]
    found: dict[tuple[int, int], npt.NDArray[np.float64]] = {}
    for weight, stencil in terms:
        high = height - max(d for d, _, _ in stencil)
        wide = width - max(e for _, e, _ in stencil)
        if high < 1 or wide < 1:
            continue
        for (d, e, v), (f, g, w) in product(stencil, repeat=2):
            sums = found.setdefault((f - d, g - e), np.zeros((height, width)))
            sums[d : d + high, e : e + wide] += weight * v * w
    return found
