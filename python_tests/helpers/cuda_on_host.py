"""The CUDA solver on a runtime of our own (csrc/tests/cuda_on_host), and arrays on its devices.

Used where SPLIC_CUDA_ON_HOST names the folder of the build.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import types
from contextlib import contextmanager
from pathlib import Path

import numpy as np

DEVICES = 2
#: Kinds of cudaMemcpy; errors of the runtime that tests choose.
UP, DOWN = 1, 2
INVALID_VALUE, OUT_OF_MEMORY, ILLEGAL_ADDRESS = 1, 2, 700
NON_BLOCKING = 1
COUNTS = ("device 0", "bytes 0", "device 1", "bytes 1", "pinned", "pinned bytes")
COUNTS += ("streams", "events", "queued")


def folder():
    """Return the folder of the build, or None."""
    place = os.environ.get("SPLIC_CUDA_ON_HOST")
    return Path(place) if place else None


def install(place=None):
    """Load the module as `splic_ext._cuda`, and have it find the stand-in for cuSOLVER."""
    place = Path(place or folder())
    (path,) = place.glob("_cuda*.so")
    if hasattr(sys.modules.get("splic_ext._cuda"), "status"):
        raise RuntimeError(
            f"{sys.modules['splic_ext._cuda'].__file__} is loaded, and a process has room for one "
            "CUDA module; take an installation that was built with SPLIC_CUDA=OFF"
        )
    spec = importlib.util.spec_from_file_location("splic_ext._cuda", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["splic_ext._cuda"] = module
    import splic_ext
    from splic_ext.backends import cuda, cusolver

    splic_ext._cuda = cuda._cuda = module
    cuda._REASON = None
    cuda._status.cache_clear()
    cusolver.candidates = lambda: (str(place / "libsplic_cusolver.so"),)
    return Runtime(place)


class CudaCallError(RuntimeError):
    """A function of the runtime has failed."""


class Runtime:
    """The runtime's own functions, and what tests ask of it."""

    def __init__(self, place):
        self.library = ctypes.CDLL(str(place / "libsplic_cudart.so"))
        self.cusolver = ctypes.CDLL(str(place / "libsplic_cusolver.so"))
        self.library.cudaGetErrorName.restype = ctypes.c_char_p
        self.library.cuda_on_host_fail.restype = ctypes.c_long
        self.library.cuda_on_host_calls.restype = ctypes.c_long

    def call(self, name, *arguments):
        """Call a function; raise where it fails."""
        function = getattr(self.library, name)
        status = function(*arguments)
        if status:
            self.library.cudaGetLastError()
            raise CudaCallError(f"{name}: {self.library.cudaGetErrorName(status).decode()}")

    # ---- tests ----

    def seed(self, number):
        """Draw all orders anew."""
        self.library.cuda_on_host_seed(ctypes.c_uint64(number))

    def violations(self):
        """Return what was wrong since the last time, a line each."""
        text = ctypes.create_string_buffer(5000)
        self.library.cuda_on_host_violations(text, ctypes.c_size_t(len(text)))
        return text.value.decode().splitlines()

    def fail(self, at, status=INVALID_VALUE):
        """Make a call fail, counted from now on; 0: none. Return how many calls there were."""
        return self.library.cuda_on_host_fail(ctypes.c_long(at), status)

    def failed(self):
        """Return the name of the call that was made to fail, or nothing."""
        text = ctypes.create_string_buffer(200)
        self.library.cuda_on_host_failed(text, ctypes.c_size_t(len(text)))
        return text.value.decode()

    def calls(self, name):
        """Return how often a function was called since this was asked last."""
        return self.library.cuda_on_host_calls(name.encode())

    def limit(self, device, size):
        """Leave a device so many bytes; device 2: pinned memory. 0: enough."""
        self.library.cuda_on_host_limit(device, ctypes.c_size_t(size))

    def limit_shared(self, size):
        """Give a block that many bytes of shared memory at most; 0: as many as a real one has."""
        self.library.cuda_on_host_limit_shared(ctypes.c_size_t(size))

    def living(self):
        """Count what has been allocated and not been given back."""
        counts = (ctypes.c_size_t * len(COUNTS))()
        self.library.cuda_on_host_living(counts)
        return dict(zip(COUNTS, counts, strict=True))

    def handles(self):
        """Count the handles of cuSOLVER, and its parameters."""
        counts = (ctypes.c_size_t * 2)()
        self.cusolver.cusolver_on_host_living(counts)
        return tuple(counts)

    def fail_matrix(self, matrix, info):
        """Let cuSOLVER fail on a matrix of each batch; info 0: on none."""
        self.cusolver.cusolver_on_host_fail(ctypes.c_int64(matrix), ctypes.c_int32(info))

    # ---- what a library of arrays does ----

    def set_device(self, device):
        self.call("cudaSetDevice", device)

    def device(self):
        found = ctypes.c_int()
        self.call("cudaGetDevice", ctypes.byref(found))
        return found.value

    @contextmanager
    def on(self, device):
        """Make a device the current one within."""
        before = self.device()
        self.set_device(device)
        try:
            yield
        finally:
            self.set_device(before)

    def malloc(self, size):
        pointer = ctypes.c_void_p()
        self.call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(size))
        return pointer.value

    def free(self, pointer):
        self.call("cudaFree", ctypes.c_void_p(pointer))

    def copy(self, to, source, size, kind, stream=0):
        arguments = (ctypes.c_void_p(to), ctypes.c_void_p(source), ctypes.c_size_t(size))
        self.call("cudaMemcpyAsync", *arguments, kind, ctypes.c_void_p(stream))

    def stream(self, flags=NON_BLOCKING):
        stream = ctypes.c_void_p()
        self.call("cudaStreamCreateWithFlags", ctypes.byref(stream), flags)
        return stream.value

    def destroy(self, stream):
        self.call("cudaStreamDestroy", ctypes.c_void_p(stream))

    def synchronize(self, stream=0):
        self.call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def wait(self, stream, other):
        """Let a stream wait for what has been put on another one."""
        event = ctypes.c_void_p()
        self.call("cudaEventCreateWithFlags", ctypes.byref(event), 2)
        try:
            self.call("cudaEventRecord", event, ctypes.c_void_p(other))
            self.call("cudaStreamWaitEvent", ctypes.c_void_p(stream), event, 0)
        finally:
            self.library.cudaEventDestroy(event)

    def begin_capture(self, stream, mode=0):
        self.call("cudaStreamBeginCapture", ctypes.c_void_p(stream), mode)

    def end_capture(self, stream):
        graph = ctypes.c_void_p()
        self.call("cudaStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        return graph.value

    def replay(self, graph, stream):
        self.call("cudaGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def destroy_graph(self, graph):
        self.call("cudaGraphDestroy", ctypes.c_void_p(graph))

    def is_capturing(self, stream):
        status = ctypes.c_int()
        function = self.library.cudaStreamIsCapturing
        return function(ctypes.c_void_p(stream), ctypes.byref(status)) != 0 or status.value != 0


# ---- memory and arrays ----


class Block:
    """Memory of a device, as long as this lives."""

    def __init__(self, runtime, size, device):
        self.runtime, self.size, self.index = runtime, size, device
        with runtime.on(device):
            self.ptr = runtime.malloc(max(size, 1))

    def __del__(self):
        if hasattr(self, "ptr"):
            self.runtime.library.cudaFree(ctypes.c_void_p(self.ptr))


def span(array):
    """Return the offset of the first element in the memory of a view, and the bytes of it all."""
    steps = [(n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)]
    low = sum(step for step in steps if step < 0)
    return -low, sum(step for step in steps if step > 0) - low + array.itemsize


class DeviceView:
    """An array on a device: the layout of a NumPy view, in a block of its own or in a given one."""

    def __init__(self, runtime, values, device=0, stream=0, block=None, offset=0, dtype=None):
        values = np.asarray(values)
        self.runtime, self.stream = runtime, stream
        self.shape, self.strides, self.itemsize = values.shape, values.strides, values.itemsize
        self.kind, self.dtype_name = values.dtype, dtype or values.dtype.name
        first, self.size = span(values) if values.size else (0, 0)
        self.block = block or Block(runtime, self.size, device)
        self.base = self.block.ptr + offset
        self.pointer = self.base + first
        self.index = self.block.index
        if self.size:
            host = (ctypes.c_char * self.size).from_address(values.ctypes.data - first)
            with runtime.on(self.index):
                runtime.copy(self.base, ctypes.addressof(host), self.size, UP, stream)
                runtime.synchronize(stream)

    def numpy(self, stream=None):
        """Return a copy on the host of what a stream leaves there."""
        held = np.empty(self.size, np.uint8)
        stream = self.stream if stream is None else stream
        if self.size:
            with self.runtime.on(self.index):
                self.runtime.copy(held.ctypes.data, self.base, self.size, DOWN, stream)
        shape = (self.shape, self.kind, held, self.pointer - self.base, self.strides)
        return np.ndarray(*shape).copy() if self.size else np.empty(self.shape, self.kind)


class DLDevice(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("id", ctypes.c_int32))


class DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", DLDevice),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    )


class DLManaged(ctypes.Structure):
    _fields_ = (("tensor", DLTensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class DLVersioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    )


TYPES = {"uint8": (1, 8), "float16": (2, 16), "bfloat16": (4, 16), "float32": (2, 32)}
TYPES |= {"float64": (2, 64), "bool": (6, 8)}
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_exported = {}


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def _deleter(address):
    del _exported[address]


def exported():
    """Count the DLPack tensors that nobody has given back."""
    return len(_exported)


def capsule(view, versioned=False, read_only=False):
    """Return a real DLPack capsule of an array on a device."""
    axes = len(view.shape)
    shape = (ctypes.c_int64 * axes)(*view.shape)
    strides = (ctypes.c_int64 * axes)(*(step // view.itemsize for step in view.strides))
    managed = DLVersioned(1, 1) if versioned else DLManaged()
    code, bits = TYPES[view.dtype_name]
    tensor = DLTensor(view.pointer, DLDevice(2, view.index), axes, code, bits, 1)
    tensor.shape, tensor.strides = ctypes.addressof(shape), ctypes.addressof(strides)
    managed.tensor = tensor
    managed.deleter = ctypes.cast(_deleter, ctypes.c_void_p)
    if versioned:
        managed.flags = int(read_only)
    address = ctypes.addressof(managed)
    _exported[address] = (view, shape, strides, managed)
    return _new_capsule(address, b"dltensor_versioned" if versioned else b"dltensor", None)


def _pointer_of(given):
    """Return DLPack's tensor behind a capsule of the module, and its deleter's structure."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    return DLManaged.from_address(get(given, b"dltensor")).tensor


class PlainArray(DeviceView):
    """An array of a library of which nothing is known but DLPack; notes the streams asked for."""

    def __init__(self, runtime, values, *more, versioned=True, read_only=False, **others):
        super().__init__(runtime, values, *more, **others)
        self.versioned, self.read_only, self.streams = versioned, read_only, []

    @property
    def dtype(self):
        return self.dtype_name

    def __dlpack__(self, *, stream=None, **others):
        if others and not self.versioned:
            raise TypeError("unexpected keyword argument 'max_version'")
        self.streams.append(stream)
        if stream not in (None, self.stream):
            self.runtime.wait(stream, self.stream)
        return capsule(self, bool(others), self.read_only)

    def __dlpack_device__(self):
        return 2, self.index

    def __array_namespace__(self):
        def from_dlpack(other):
            given = other.__dlpack__()
            tensor = _pointer_of(given)
            made = object.__new__(PlainArray)
            made.__dict__ |= self.__dict__
            made.shape = tuple((ctypes.c_int64 * tensor.ndim).from_address(tensor.shape))
            made.strides = np.empty(made.shape, self.kind).strides
            made.pointer = made.base = tensor.data
            made.index = tensor.device.id
            made.size = int(np.prod(made.shape)) * self.itemsize
            made.block, made.streams = (other, given), []
            return made

        def asarray(other, copy):
            assert copy
            return PlainArray(other.runtime, other.numpy(), other.index, other.stream)

        return types.SimpleNamespace(from_dlpack=from_dlpack, asarray=asarray)


def cupy_on_host(runtime):
    """Return a module with what is used of CuPy, whose pool gives freed memory out again at once.

    As CuPy's it does so in the order of the stream that had the memory.
    """
    cupy = types.ModuleType("cupy")
    streams, current, pools = {}, [0], {}
    streams.update(dict.fromkeys(range(DEVICES), 0))

    class Device:
        def __init__(self, index):
            self.id = index

        def __enter__(self):
            current.append(self.id)
            self.before = runtime.device()
            runtime.set_device(self.id)
            return self

        def __exit__(self, *_):
            current.pop()
            runtime.set_device(self.before)

    class OutOfMemoryError(MemoryError):
        pass

    class Pooled:
        def __init__(self, block, key):
            self.block, self.ptr, self.index, self._key = block, block.ptr, block.index, key

        def __del__(self):
            pools.setdefault(self._key, []).append(self.block)

    def alloc(size):
        key = (current[-1], streams[current[-1]], size)
        if pools.get(key):
            return Pooled(pools[key].pop(), key)
        if cupy.room is not None and size > cupy.room:
            raise OutOfMemoryError(f"no {size} bytes")
        try:
            block = Block(runtime, size, current[-1])
        except CudaCallError as error:
            raise OutOfMemoryError(str(error)) from None
        cupy.allocated.append(size)
        return Pooled(block, key)

    def keep(count=2):
        """Let the pool have memory of all sizes so far for the current stream: none can be got
        while a graph is captured."""
        held = [alloc(size) for size in list(cupy.allocated) for _ in range(count)]
        del held

    class ndarray(DeviceView):  # noqa: N801
        def __init__(self, values, index=0, **others):
            with Device(index):
                stream = streams[index]
                super().__init__(runtime, values, index, stream, **others)
            self.device = Device(index)
            self.data = types.SimpleNamespace(ptr=self.pointer)

        @property
        def dtype(self):
            return self.kind

        def copy(self):
            return ndarray(self.numpy(), self.index)

        def __dlpack__(self, *, stream=None):
            if stream not in (None, streams[self.index]):
                runtime.wait(stream, streams[self.index])
            return capsule(self)

        def __dlpack_device__(self):
            return 2, self.index

    class Stream:
        """The current stream within; closed, its handle is CUDA's again."""

        def __init__(self, index=0, flags=NON_BLOCKING):
            self.index = index
            with Device(index):
                self.ptr = runtime.stream(flags)

        def __enter__(self):
            self.before, streams[self.index] = streams[self.index], self.ptr
            return self

        def __exit__(self, *_):
            streams[self.index] = self.before

        def close(self):
            runtime.destroy(self.ptr)

    def get_current_stream():
        handle = streams[current[-1]]

        def synchronize():
            cupy.waited.append(handle)
            runtime.synchronize(handle)

        return types.SimpleNamespace(ptr=handle, synchronize=synchronize)

    def empty_like(array):
        made = object.__new__(ndarray)
        made.__dict__ |= array.__dict__
        made.strides = np.empty_like(
            np.lib.stride_tricks.as_strided(np.empty(1, array.kind), array.shape, array.strides)
        ).strides
        made.size = int(np.prod(array.shape)) * array.itemsize
        made.block = alloc(made.size)
        made.base = made.pointer = made.block.ptr
        made.data = types.SimpleNamespace(ptr=made.pointer)
        made.stream = streams[current[-1]]
        return made

    cupy.waited, cupy.allocated, cupy.room = [], [], None
    cupy.ndarray, cupy.empty_like, cupy.pools, cupy.keep = ndarray, empty_like, pools, keep
    cupy.cuda = types.SimpleNamespace(
        Device=Device,
        Stream=Stream,
        get_current_stream=get_current_stream,
        alloc=alloc,
        memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    )
    return cupy
