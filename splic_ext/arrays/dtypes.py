"""Element types of a batch, and their way into and out of float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "DTYPES",
    "decode",
    "default_data_range",
    "encode",
    "largest_value",
    "nearest_range",
    "rounding",
]

#: Name -> NumPy type that holds the bits; NumPy has no bfloat16.
DTYPES: dict[str, type[np.generic]] = {
    "uint8": np.uint8,
    "float16": np.float16,
    "bfloat16": np.uint16,
    "float32": np.float32,
    "float64": np.float64,
}


def default_data_range(dtype: str) -> float:
    """Return the largest value that images of that type hold by convention."""
    return 255.0 if dtype == "uint8" else 1.0


def nearest_range(data_range: float, dtype: str) -> float:
    """Return the data range as the type holds it: 0.3 of float32 images is float32(0.3)."""
    if dtype == "uint8" or data_range >= largest_value(dtype):
        return data_range
    bits = np.empty(1, DTYPES[dtype])
    encode(np.array([data_range]), bits, dtype)
    return float(decode(bits, dtype)[0]) or data_range


def rounding(dtype: str) -> float:
    """Return the relative error of a few roundings; 0 where that is a visible step."""
    if dtype not in ("float16", "float32", "float64"):
        return 0.0
    return min(4 * float(np.finfo(dtype).eps), 1e-3)


def largest_value(dtype: str, data_range: float = math.inf) -> float:
    """Return the largest value in [0, data_range] that the type holds."""
    if dtype == "uint8":
        return math.floor(min(255.0, data_range))
    largest = float.fromhex("0x1.fep127") if dtype == "bfloat16" else float(np.finfo(dtype).max)
    return min(largest, data_range)


def decode(array: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.float64]:
    """Return the values of an array of bits as a new float64 array."""
    if dtype == "bfloat16":
        array = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.astype(np.float64)


def encode(values: npt.NDArray[np.float64], target: npt.NDArray[Any], dtype: str) -> None:
    """Round values to the nearest of the type, ties to even, and store them in `target`."""
    if dtype == "bfloat16":
        bits = values.astype(np.float32).view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        target[...] = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    elif dtype == "uint8":
        target[...] = np.rint(values)
    else:
        target[...] = values
