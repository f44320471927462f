"""Arrays on CUDA devices: what is asked of the library that they come from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from splic_ext.arrays.memory import Memory

__all__ = ["Library", "Placement", "is_foreign", "library_of", "library_on"]

#: What DLPack calls the legacy default stream, and the CUDA runtime takes as its handle.
LEGACY_STREAM = 1


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


class Library(Protocol):
    """What is asked of a library of arrays on CUDA devices."""

    #: Whether the work has to be done when complete() returns: the library knows of no stream on
    #: which it could wait for it.
    waits: bool

    def index(self, array: Any) -> int:
        """Return the number of the device of an array."""

    def stream(self, index: int) -> int:
        """Return the handle of the caller's current stream on a device."""

    def memory(self, array: Any) -> Memory:
        """Return the memory of an array, which is ready on the current stream."""

    def empty_like(self, array: Any) -> Any:
        """Return an array of the same shape, dtype, device and, if it may be, layout."""

    def copy(self, array: Any) -> Any:
        """Return a copy, made on the current stream."""

    def scratch(self, size: int, index: int) -> tuple[Any, int]:
        """Allocate memory in the order of the current stream; see :class:`Placement`."""

    def wait(self, index: int) -> None:
        """Wait for the caller's current stream on a device."""


class TorchLibrary:
    """Tensors of torch: its streams, and its caching allocator.

    The allocator knows of all memory, reuses what torch has freed, and works while a CUDA graph is
    captured; memory of CUDA's own pools would be out of its reach.
    """

    waits = False

    def __init__(self, torch: Any) -> None:
        self._torch = torch

    def index(self, array: Any) -> int:
        index: int = array.device.index
        return index

    def stream(self, index: int) -> int:
        handle: int = self._torch.cuda.current_stream(index).cuda_stream
        return handle

    def memory(self, array: Any) -> Memory:
        bits = array.detach().resolve_neg()
        size = bits.element_size()
        strides = tuple(stride * size for stride in bits.stride())
        shape = tuple(bits.shape)
        return Memory(bits.data_ptr(), shape, strides, size, self.index(bits), owner=bits)

    def empty_like(self, array: Any) -> Any:
        with self._torch.inference_mode(array.is_inference()):
            return self._torch.empty_like(array)

    def copy(self, array: Any) -> Any:
        return array.detach().clone()

    def scratch(self, size: int, index: int) -> tuple[Any, int]:
        torch = self._torch
        try:
            block = torch.empty(size, dtype=torch.uint8, device=torch.device("cuda", index))
        except torch.cuda.OutOfMemoryError as error:
            raise MemoryError(str(error)) from None
        return block, block.data_ptr()

    def wait(self, index: int) -> None:
        self._torch.cuda.current_stream(index).synchronize()


class CuPyLibrary:
    """Arrays of CuPy: its streams, and its memory pool."""

    waits = False

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy

    def index(self, array: Any) -> int:
        index: int = array.device.id
        return index

    def stream(self, index: int) -> int:
        with self._cupy.cuda.Device(index):
            handle: int = self._cupy.cuda.get_current_stream().ptr
        return handle

    def memory(self, array: Any) -> Memory:
        return Memory(
            array.data.ptr,
            tuple(array.shape),
            tuple(array.strides),
            array.itemsize,
            self.index(array),
            owner=array,
        )

    def empty_like(self, array: Any) -> Any:
        with self._cupy.cuda.Device(self.index(array)):
            return self._cupy.empty_like(array)

    def copy(self, array: Any) -> Any:
        with self._cupy.cuda.Device(self.index(array)):
            return array.copy()

    def scratch(self, size: int, index: int) -> tuple[Any, int]:
        with self._cupy.cuda.Device(index):
            try:
                block = self._cupy.cuda.alloc(size)
            except self._cupy.cuda.memory.OutOfMemoryError as error:
                raise MemoryError(str(error)) from None
        return block, block.ptr

    def wait(self, index: int) -> None:
        with self._cupy.cuda.Device(index):
            self._cupy.cuda.get_current_stream().synchronize()


class DLPackLibrary:
    """Arrays of any library, through DLPack, on the legacy default stream.

    They may be immutable, and nobody says when their memory is freed or on which stream they are
    used next: results are made in memory of our own, and finished before they are handed over.
    """

    waits = True

    def __init__(self, stream: int = LEGACY_STREAM) -> None:
        self._stream = stream

    def index(self, array: Any) -> int:
        return int(array.__dlpack_device__()[1])

    def stream(self, index: int) -> int:
        return self._stream

    def memory(self, array: Any) -> Memory:
        if isinstance(array, _native().DeviceArray):
            shared = _native().Shared(array.__dlpack__())
        else:
            shared = _native().Shared(self._capsule(array))
        return Memory(
            shared.pointer,
            tuple(shared.shape),
            tuple(shared.strides),
            shared.itemsize,
            int(shared.device[1]),
            shared.read_only,
            shared,
        )

    def _capsule(self, array: Any) -> Any:
        try:  # since version 1 it says whether the memory is read-only
            return array.__dlpack__(stream=self._stream, max_version=(1, 0))
        except TypeError:  # older libraries know no such argument
            return array.__dlpack__(stream=self._stream)

    def empty_like(self, array: Any) -> Any:
        memory = self.memory(array)
        return _native().DeviceArray(
            list(memory.shape), memory.owner.dtype, memory.itemsize, memory.device
        )

    def copy(self, array: Any) -> Any:
        return array.__array_namespace__().asarray(array, copy=True)

    def scratch(self, size: int, index: int) -> tuple[Any, int]:
        block = _native().DeviceArray([size], "uint8", 1, index)
        return block, block.pointer

    def wait(self, index: int) -> None:
        """Do nothing: each call waits."""


def _native() -> Any:
    """Return the compiled module; there is one, or no batch would have come as far."""
    return import_module("splic_ext._cuda")


def library_of(array: Any) -> Library:
    """Return the library of an array on a CUDA device; imports none."""
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None and isinstance(array, torch.Tensor):
        return TorchLibrary(torch)
    if cupy is not None and isinstance(array, cupy.ndarray):
        return CuPyLibrary(cupy)
    return DLPackLibrary()


def is_foreign(array: Any, like: Any) -> bool:
    """Whether an array is not of the library of another, or of one of which nothing is known."""
    library = library_of(array)
    return library.waits or type(library) is not type(library_of(like))


def library_on(array: Any, like: Any) -> Library:
    """Return the library by which an array is made ready on the current stream of another."""
    library = library_of(like)
    if not is_foreign(array, like):
        return library
    return DLPackLibrary(library.stream(library.index(like)) or LEGACY_STREAM)
