"""A stand-in for the compiled CUDA module, whose devices are memory of the CPU, and arrays."""

from __future__ import annotations

import ctypes
import types

import numpy as np

from splic_ext.arrays.dtypes import DTYPES
from splic_ext.backends import reference
from splic_ext.backends.base import CompletionInfo, Problem
from splic_ext.options import SolverOptions

SHARED = 227 << 10


def wavy(shape=(5, 3, 32, 32), dtype="float32", seed=0):
    """Smooth images with some noise, as float arrays or uint8."""
    rng = np.random.default_rng(seed)
    rows, columns = np.linspace(0, 3, shape[-2])[:, None], np.linspace(0, 3, shape[-1])
    values = 0.05 * rng.standard_normal(shape)
    for k in range(4):
        phase, amount = rng.random((2, *shape[:-2], 1, 1))
        values += amount * np.cos(k * rows + 6 * phase) * np.cos((4 - k) * columns + phase)
    values = np.clip(values / 4 + 0.5, 0, 1)
    return np.round(255 * values).astype(np.uint8) if dtype == "uint8" else values.astype(dtype)


def view(memory, dtype):
    """Return the NumPy view of memory of a pretended device."""
    kind = np.dtype(bool if dtype == "bool" else DTYPES[dtype])
    spans = [(n - 1) * s for n, s in zip(memory.shape, memory.strides, strict=True)]
    low = sum(span for span in spans if span < 0)
    high = sum(span for span in spans if span > 0) + memory.itemsize
    block = (ctypes.c_char * (high - low)).from_address(memory.pointer + low)
    return np.ndarray(memory.shape, kind, block, -low, memory.strides)


class Capsule:
    """What __dlpack__ of a pretended device returns: an array, and what was asked for."""

    def __init__(self, values, index, read_only=False):
        self.values, self.index, self.read_only = values, index, read_only


class FakeCuda(types.ModuleType):
    """The functions and classes of splic_ext._cuda; notes how it was called.

    free: bytes that an allocator has; per_image: workspace that an image takes.
    """

    def __init__(self, fits=True, cusolver="12.0.4", per_image=0, free=1 << 40):
        super().__init__("splic_ext._cuda")
        self.calls, self.allocated = [], []
        self.per_image, self.free, self.failing, self.cusolver = per_image, free, {}, cusolver
        self._fits, self.capturing = fits, False
        fake = self

        class DeviceBatch:
            def __init__(self, source, target, dtype, mask, *, info, **arguments):
                self.arrays, self.dtype, self.info = (source, target, mask), dtype, info
                self.arguments = arguments
                fake.calls.append(
                    {"dtype": dtype, "records": info is not None, "memory": source, **arguments}
                )

            def fitting(self, limit):
                count = self.arrays[0].shape[0]
                return max(1, min(count, limit // fake.per_image if fake.per_image else count))

            def bytes(self, images):
                return images * fake.per_image

            def run(self, workspace, images):
                fake.calls[-1] |= {"workspace": workspace, "images": images}
                source, target, mask = self.arrays
                fake.complete(
                    view(source, self.dtype),
                    view(target, self.dtype),
                    None if mask is None else view(mask, "bool"),
                    self.dtype,
                    self.info,
                    **self.arguments,
                )

        class Shared:
            def __init__(self, capsule):
                values = capsule.values
                self.owner = capsule
                self.pointer = values.ctypes.data
                self.dtype, self.itemsize = values.dtype.name, values.itemsize
                self.shape, self.strides = list(values.shape), list(values.strides)
                self.read_only, self.device = capsule.read_only, (2, capsule.index)

        class DeviceArray:
            def __init__(self, shape, dtype, itemsize, device):
                fake.allocate(int(np.prod(shape)) * itemsize)
                self.values = np.empty(shape, DTYPES[dtype])
                self.pointer, self.index = self.values.ctypes.data, device

            def __dlpack__(self, **_):
                return Capsule(self.values, self.index)

            def __dlpack_device__(self):
                return 2, self.index

        self.DeviceBatch, self.Shared, self.DeviceArray = DeviceBatch, Shared, DeviceArray

    def allocate(self, size):
        if size > self.free:
            raise MemoryError(f"no {size} bytes")
        self.allocated.append(size)

    def complete(self, source, target, mask, dtype, info, **arguments):
        options = SolverOptions.from_dict(arguments["options"])
        count = len(source)
        records = CompletionInfo.empty(count, 2 if options.alternate else 1)
        with np.errstate(all="ignore"):
            reference.BACKEND.solve(
                Problem(
                    source=source,
                    target=target,
                    dtype=dtype,
                    mask=mask,
                    seed=arguments["seed"],
                    first_index=arguments["first_index"],
                    options=options,
                    data_range=arguments["data_range"],
                    largest=arguments["largest"],
                    empty=None if arguments["empty"] < 0 else arguments["empty"],
                    threads=1,
                    info=records,
                )
            )
        if info is None:
            return
        for name in ("iterations", "residual", "delta", "seconds"):
            info[name][...] = getattr(records, name)
        for image, number in self.failing.items():
            info["failed"][image] = number
        if "low" in info:
            flat = source.reshape(count, -1).astype(float)
            wrong = ~np.isfinite(flat).all(axis=1)
            info["low"][...] = np.where(wrong, np.nan, flat.min(axis=1))
            info["high"][...] = np.where(wrong, np.nan, flat.max(axis=1))

    def solve(self, source, target, dtype, mask, *, failed, algorithm, device, workspace, **others):
        self.calls.append({"dtype": dtype, "algorithm": algorithm, "device": device})
        names = ("iterations", "residual", "delta", "seconds")
        info = {name: others.pop(name) for name in names} | {"failed": failed}
        self.complete(source, target, mask, dtype, info, **others)

    def status(self):
        devices = [{"index": i, "name": "Pretended", "shared_memory": SHARED} for i in (0, 1)]
        return {"available": True, "reason": "", "devices": devices}

    def fits(self, **_):
        return self._fits

    def is_capturing(self, device, stream):
        return self.capturing

    def load_cusolver(self, files):
        if self.cusolver is None:
            raise RuntimeError(f"{files[0]}: no such file")
        return {"path": files[0], "version": self.cusolver}


class StubNamespace:
    @staticmethod
    def from_dlpack(array):
        capsule = array.__dlpack__()
        return StubArray(capsule.values, capsule.index)

    @staticmethod
    def asarray(array, copy):
        assert copy
        return StubArray(array.values.copy(), array.index)


class StubArray:
    """An array of a library of which nothing is known but DLPack; notes the streams asked for.

    read_only: of version 1, which alone can say so; else of an older one.
    """

    def __init__(self, values, index=0, read_only=None):
        self.values, self.index, self.read_only, self.streams = values, index, read_only, []

    shape = property(lambda self: self.values.shape)
    dtype = property(lambda self: self.values.dtype)

    def __dlpack__(self, *, stream=None, **others):
        if self.read_only is None and others:
            raise TypeError("unexpected keyword argument 'max_version'")
        self.streams.append(stream)
        return Capsule(self.values, self.index, bool(self.read_only and others))

    def __dlpack_device__(self):
        return 2, self.index

    def __array_namespace__(self):
        return StubNamespace


def fake_cupy(native):
    """Return a module with what is used of CuPy; its arrays lie on a pretended device."""
    cupy = types.ModuleType("cupy")
    current = [0]

    class Device:
        def __init__(self, index):
            self.id = index

        def __enter__(self):
            current.append(self.id)

        def __exit__(self, *_):
            current.pop()

    class ndarray:  # noqa: N801
        def __init__(self, values, index=0):
            self.values, self.device = values, Device(index)
            self.data = types.SimpleNamespace(ptr=values.ctypes.data)

        shape = property(lambda self: self.values.shape)
        strides = property(lambda self: self.values.strides)
        itemsize = property(lambda self: self.values.itemsize)
        dtype = property(lambda self: self.values.dtype)

        def copy(self):
            return ndarray(self.values.copy(), current[-1])

        def __dlpack__(self, *, stream=None):
            cupy.exported.append(stream)
            return Capsule(self.values, self.device.id)

        def __dlpack_device__(self):
            return 2, self.device.id

    class OutOfMemoryError(MemoryError):
        pass

    def alloc(size):
        try:
            native.allocate(size)
        except MemoryError as error:
            raise OutOfMemoryError(str(error)) from None
        return types.SimpleNamespace(ptr=4096)

    cupy.exported, cupy.waited = [], []
    cupy.ndarray = ndarray
    cupy.empty_like = lambda array: ndarray(np.empty_like(array.values), current[-1])
    cupy.cuda = types.SimpleNamespace(
        Device=Device,
        get_current_stream=lambda: types.SimpleNamespace(
            ptr=700 + current[-1], synchronize=lambda: cupy.waited.append(current[-1])
        ),
        alloc=alloc,
        memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    )
    return cupy
