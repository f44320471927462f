"""Arrays on CUDA devices, as the libraries that they come from know them."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from splic_ext.arrays.memory import Memory

__all__ = ["OnDevice", "Placement", "beside", "is_captured", "is_foreign", "on_device"]

#: What DLPack calls the default streams, and the CUDA runtime takes as their handles.
LEGACY_STREAM, PER_THREAD_STREAM = 1, 2


@dataclass(frozen=True, eq=False)
class Placement:
    """Where and how a batch on a device is completed.

    Attributes
    ----------
    index : int
        Number of the device.
    stream : int
        Handle of the stream that the work is put on.
    scratch : callable
        Number of bytes -> an object that holds that much memory until it goes, and its address.
        In the order of the stream; MemoryError where there is too little.
    reads : bool
        Whether the record arrays are wanted; the call then waits for the device.
    """

    index: int
    stream: int
    scratch: Callable[[int], tuple[Any, int]]
    reads: bool


class OnDevice(ABC):
    """An array on a CUDA device, and what its library can do there."""

    #: Whether the work has to be done when complete() returns: the library knows of no stream on
    #: which it could wait for it.
    waits = False

    def __init__(self, array: Any, index: int) -> None:
        self.array, self.index = array, index

    @abstractmethod
    def stream(self) -> int:
        """Return the handle of the caller's current stream on the device."""

    @abstractmethod
    def memory(self) -> Memory:
        """Return the memory of the array, which is ready on the current stream."""

    @abstractmethod
    def empty_like(self) -> Any:
        """Return an array of the same shape, dtype, device and, if it may be, layout."""

    @abstractmethod
    def copy(self) -> Any:
        """Return a copy, made on the current stream."""

    @abstractmethod
    def scratch(self, size: int) -> tuple[Any, int]:
        """Allocate memory in the order of the current stream; see :class:`Placement`."""

    @abstractmethod
    def wait(self) -> None:
        """Wait for the caller's current stream on the device."""


class TorchTensor(OnDevice):
    """A tensor of torch: its streams, and its caching allocator.

    The allocator knows of all memory, reuses what torch has freed, and works while a CUDA graph is
    captured; memory of CUDA's own pools would be out of its reach.
    """

    def __init__(self, tensor: Any, torch: Any) -> None:
        super().__init__(tensor, tensor.device.index)
        self._torch = torch

    def stream(self) -> int:
        handle: int = self._torch.cuda.current_stream(self.index).cuda_stream
        return handle

    def memory(self) -> Memory:
        bits = self.array.detach().resolve_neg()
        size = bits.element_size()
        strides = tuple(stride * size for stride in bits.stride())
        return Memory(bits.data_ptr(), tuple(bits.shape), strides, size, self.index, owner=bits)

    def empty_like(self) -> Any:
        with self._torch.inference_mode(self.array.is_inference()):
            return self._torch.empty_like(self.array)

    def copy(self) -> Any:
        return self.array.detach().clone()

    def scratch(self, size: int) -> tuple[Any, int]:
        torch = self._torch
        try:
            block = torch.empty(size, dtype=torch.uint8, device=torch.device("cuda", self.index))
        except torch.cuda.OutOfMemoryError as error:
            raise MemoryError(str(error)) from None
        return block, block.data_ptr()

    def wait(self) -> None:
        self._torch.cuda.current_stream(self.index).synchronize()


class CuPyArray(OnDevice):
    """An array of CuPy: its streams, and its memory pool."""

    def __init__(self, array: Any, cupy: Any) -> None:
        super().__init__(array, array.device.id)
        self._cupy = cupy

    def stream(self) -> int:
        with self._cupy.cuda.Device(self.index):
            handle: int = self._cupy.cuda.get_current_stream().ptr
        return handle

    def memory(self) -> Memory:
        array = self.array
        shape, strides = tuple(array.shape), tuple(array.strides)
        return Memory(array.data.ptr, shape, strides, array.itemsize, self.index, owner=array)

    def empty_like(self) -> Any:
        with self._cupy.cuda.Device(self.index):
            return self._cupy.empty_like(self.array)

    def copy(self) -> Any:
        with self._cupy.cuda.Device(self.index):
            return self.array.copy()

    def scratch(self, size: int) -> tuple[Any, int]:
        with self._cupy.cuda.Device(self.index):
            try:
                block = self._cupy.cuda.alloc(size)
            except self._cupy.cuda.memory.OutOfMemoryError as error:
                raise MemoryError(str(error)) from None
        return block, block.ptr

    def wait(self) -> None:
        with self._cupy.cuda.Device(self.index):
            self._cupy.cuda.get_current_stream().synchronize()


class DLPackArray(OnDevice):
    """An array of any library, through DLPack, on the legacy default stream unless told otherwise.

    It may be immutable, and nobody says when its memory is freed or on which stream it is used
    next: results are made in memory of our own, and finished before they are handed over.
    """

    waits = True

    def __init__(self, array: Any, stream: int = LEGACY_STREAM) -> None:
        super().__init__(array, int(array.__dlpack_device__()[1]))
        self._stream = stream

    def stream(self) -> int:
        return self._stream

    def memory(self) -> Memory:
        ours = isinstance(self.array, _native().DeviceArray)
        shared = _native().Shared(self.array.__dlpack__() if ours else self._capsule())
        shape, strides, index = tuple(shared.shape), tuple(shared.strides), int(shared.device[1])
        return Memory(
            shared.pointer, shape, strides, shared.itemsize, index, shared.read_only, shared
        )

    def _capsule(self) -> Any:
        try:  # since version 1 it says whether the memory is read-only
            return self.array.__dlpack__(stream=self._stream, max_version=(1, 0))
        except TypeError:  # older libraries know no such argument
            return self.array.__dlpack__(stream=self._stream)

    def empty_like(self) -> Any:
        memory = self.memory()
        return _native().DeviceArray(
            list(memory.shape), memory.owner.dtype, memory.itemsize, memory.device
        )

    def copy(self) -> Any:
        return self.array.__array_namespace__().asarray(self.array, copy=True)

    def scratch(self, size: int) -> tuple[Any, int]:
        block = _native().DeviceArray([size], "uint8", 1, self.index)
        return block, block.pointer

    def wait(self) -> None:
        """Do nothing: each call waits."""


def _native() -> Any:
    """Return the compiled module; there is one, or no batch would have come as far."""
    return import_module("splic_ext._cuda")


def on_device(array: Any) -> OnDevice:
    """Open an array on a CUDA device; imports no library."""
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None and isinstance(array, torch.Tensor):
        return TorchTensor(array, torch)
    if cupy is not None and isinstance(array, cupy.ndarray):
        return CuPyArray(array, cupy)
    return DLPackArray(array)


def is_foreign(array: OnDevice, other: OnDevice) -> bool:
    """Whether an array is not of the library of another, or of one of which nothing is known."""
    return array.waits or type(array) is not type(other)


def is_captured(array: OnDevice) -> bool:
    """Whether a CUDA graph takes in what is put on the current stream of an array."""
    return bool(_native().is_capturing(array.index, array.stream()))


def beside(array: OnDevice, other: OnDevice) -> OnDevice:
    """Return an array as one that gets ready on the current stream of another."""
    if not is_foreign(array, other):
        return array
    stream = other.stream()
    # torch knows no stream of a thread; that one waits for the legacy stream.
    stream = LEGACY_STREAM if stream in (0, PER_THREAD_STREAM) else stream
    return DLPackArray(array.array, stream)
