"""Memory laid out as an array: one description for the CPU and for CUDA devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Memory"]


# Not frozen: that makes ten times the time of a small object, and complete() makes several.
@dataclass(eq=False, slots=True)
class Memory:
    """Memory laid out as an array, on the CPU or on a CUDA device. Its fields are not changed.

    The compiled CUDA module reads the first four.

    Attributes
    ----------
    pointer : int
        Address of the first element.
    shape, strides : tuple of int
        Strides in bytes, of any sign; 0 where an axis repeats.
    itemsize : int
        Bytes of an element.
    device : int or None
        Number of the CUDA device; None for the CPU.
    read_only : bool
        Whether it must not be written to.
    owner : object
        Keeps the memory alive; on the CPU a NumPy array of the same type.
    """

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int
    device: int | None = None
    read_only: bool = False
    owner: Any = None

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> Memory:
        """Return the memory of a NumPy array."""
        pointer, read_only = array.__array_interface__["data"]
        return cls(
            pointer, array.shape, array.strides, array.itemsize, None, read_only, owner=array
        )

    @property
    def __array_interface__(self) -> dict[str, Any]:
        if self.device is not None:
            raise TypeError(f"an array on {f'cuda:{self.device}'!r} has no NumPy view")
        return {
            "version": 3,
            "data": (self.pointer, self.read_only),
            "shape": self.shape,
            "strides": self.strides,
            "typestr": self.owner.dtype.str,
        }

    def numpy(self) -> npt.NDArray[Any]:
        """Return the NumPy view of memory on the CPU."""
        view: npt.NDArray[Any] = self.owner
        as_it_came = self.shape == view.shape and self.strides == view.strides
        return view if as_it_came else np.asarray(self)

    def exported(self) -> Any:
        """Return what a back end is handed: a NumPy view on the CPU, itself on a device."""
        return self.numpy() if self.device is None else self

    def moved(self, axis: int, place: int) -> Memory:
        """Return the same memory with an axis moved."""
        shape, strides = self.shape, self.strides
        if axis % len(shape) == place % len(shape):
            return self
        order = list(range(len(shape)))
        order.insert(place % len(order), order.pop(axis % len(order)))
        return self._laid_out(tuple(shape[i] for i in order), tuple(strides[i] for i in order))

    def expanded(self, count: int) -> Memory:
        """Return the same memory with axes of length 1 before the others."""
        return self._laid_out((1,) * count + self.shape, (0,) * count + self.strides)

    def broadcast_to(self, shape: tuple[int, ...]) -> Memory:
        """Return the same memory with axes of length 1 repeated, read-only."""
        repeated = zip(self.shape, self.strides, strict=True)
        result = self._laid_out(shape, tuple(0 if n == 1 else stride for n, stride in repeated))
        result.read_only = True
        return result

    def _laid_out(self, shape: tuple[int, ...], strides: tuple[int, ...]) -> Memory:
        return Memory(
            self.pointer, shape, strides, self.itemsize, self.device, self.read_only, self.owner
        )

    def extent(self) -> tuple[int, int]:
        """Return the first address and the one beyond the last."""
        if 0 in self.shape:
            return self.pointer, self.pointer
        spans = [(size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True)]
        low = self.pointer + sum(span for span in spans if span < 0)
        return low, self.pointer + sum(span for span in spans if span > 0) + self.itemsize

    def is_same(self, other: Memory) -> bool:
        """Whether two of one shape are the same memory in the same layout."""
        return self.pointer == other.pointer and self.strides == other.strides

    def may_overlap(self, other: Memory) -> bool:
        """Whether two on one device may share memory; True in doubt."""
        (low, high), (start, end) = self.extent(), other.extent()
        return low < end and start < high

    def overlaps_itself(self) -> bool:
        """Whether two elements may share memory: each axis must step over all shorter ones."""
        span = self.itemsize
        for stride, length in sorted(zip(map(abs, self.strides), self.shape, strict=True)):
            if length > 1:
                if stride < span:
                    return True
                span = stride * (length - 1) + span
        return False
