"""Arrays on CUDA devices, as far as it can be tested without one: a stand-in plays the module."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from helpers.cuda import FakeCuda, StubArray, fake_cupy

import splic_ext
from splic_ext import SolverOptions, complete
from splic_ext.backends import cuda

QUICK = SolverOptions(max_iterations=5)
SHAPE = (3, 2, 6, 5)


def images(shape=SHAPE, dtype="float32", seed=0):
    values = np.random.default_rng(seed).random(shape)
    return (255 * values).astype(dtype) if dtype == "uint8" else values.astype(dtype)


@pytest.fixture
def native(monkeypatch):
    """Put a stand-in in the place of the compiled module."""

    def install(**arguments):
        fake = FakeCuda(**arguments)
        monkeypatch.setattr(cuda, "_cuda", fake)
        monkeypatch.setitem(sys.modules, "splic_ext._cuda", fake)
        monkeypatch.setattr(splic_ext, "_cuda", fake, raising=False)
        cuda._status.cache_clear()
        return fake

    yield install
    cuda._status.cache_clear()


@pytest.fixture
def cupy(monkeypatch, native):
    def install(**arguments):
        fake = native(**arguments)
        module = fake_cupy(fake)
        monkeypatch.setitem(sys.modules, "cupy", module)
        return fake, module

    return install


def expected(values, mask=None, **arguments):
    return complete(values, mask, backend="numpy", **{"options": QUICK, **arguments})


# ---- containers and their way back ----


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_dlpack_arrays_come_back_as_such(native, dtype):
    fake = native()
    batch = StubArray(images(dtype=dtype), index=1)
    result = complete(batch, options=QUICK)
    assert type(result) is StubArray
    assert (result.index, result.values.dtype) == (1, np.dtype(dtype))
    assert np.array_equal(result.values, expected(batch.values))
    (call,) = fake.calls
    # Nobody knows the stream that such a library goes on with: the result is waited for.
    assert (call["device"], call["stream"], call["records"]) == (1, 1, True)
    assert set(batch.streams) == {1}


@pytest.mark.parametrize("index", [0, 1])
def test_cupy_arrays_stay_on_their_device_and_stream(cupy, index):
    fake, module = cupy()
    batch = module.ndarray(images(), index)
    result = complete(batch, options=QUICK)
    assert type(result) is module.ndarray
    assert result.device.id == index
    assert np.array_equal(result.values, expected(batch.values))
    (call,) = fake.calls
    assert (call["device"], call["stream"], call["records"]) == (index, 700 + index, False)
    assert call["memory"].pointer == batch.values.ctypes.data, "the batch was copied"


def test_return_info_waits_for_the_device(cupy):
    fake, module = cupy()
    _, info = complete(module.ndarray(images()), options=QUICK, return_info=True)
    assert fake.calls[0]["records"]
    assert (info.iterations == 5).all()


@pytest.mark.parametrize(
    "layout",
    [
        lambda a: np.asfortranarray(a),
        lambda a: a[:, ::-1, ::-1],
        lambda a: np.broadcast_to(a[:1], a.shape),
        lambda a: np.repeat(a, 2, axis=3)[..., ::2],
    ],
)
def test_strides_are_passed_on(cupy, layout):
    _, module = cupy()
    values = layout(images())
    result = complete(module.ndarray(values), options=QUICK)
    assert np.array_equal(result.values, expected(values.copy()))


def test_channel_axis_and_fewer_axes(cupy):
    _, module = cupy()
    values = images()
    last = np.ascontiguousarray(np.moveaxis(values, 1, -1))
    result = complete(module.ndarray(last), options=QUICK, channel_axis=-1)
    assert np.array_equal(np.moveaxis(result.values, -1, 1), expected(values))
    assert np.array_equal(
        complete(module.ndarray(values[0]), options=QUICK).values, expected(values[0])
    )
    assert np.array_equal(
        complete(module.ndarray(values[0, 0]), options=QUICK).values, expected(values[0, 0])
    )


def test_out_and_in_place(cupy):
    _, module = cupy()
    values = images()
    want = expected(values)
    out = module.ndarray(np.zeros_like(values))
    batch = module.ndarray(values.copy())
    assert complete(batch, options=QUICK, out=out) is out
    assert np.array_equal(out.values, want)
    assert complete(batch, options=QUICK, out=batch) is batch
    assert np.array_equal(batch.values, want)


def test_out_that_overlaps_in_part(cupy):
    """And a mask that lies in it: both are copied on the device."""
    fake, module = cupy()
    block = np.zeros(4 * 60, np.float32)
    block[:180] = images().ravel()
    batch, out = (module.ndarray(block[i : i + 180].reshape(SHAPE)) for i in (0, 60))
    want = expected(batch.values.copy())
    complete(batch, options=QUICK, out=out)
    assert np.array_equal(out.values, want)
    assert fake.calls[0]["memory"].pointer != block.ctypes.data

    bits = block[60:240].view(bool)[:180].reshape(SHAPE)
    bits[...] = images(seed=1) < 0.5
    values, given = images(seed=2), bits.copy()
    complete(module.ndarray(values), module.ndarray(bits), options=QUICK, out=out)
    assert np.array_equal(out.values, expected(values, given))


def test_given_masks(cupy):
    fake, module = cupy()
    values, mask = images(), images(seed=1) < 0.5
    want = expected(values, mask)
    result = complete(module.ndarray(values), module.ndarray(mask), options=QUICK)
    assert np.array_equal(result.values, want)
    one = mask[:, :1]
    result = complete(module.ndarray(values), module.ndarray(one), options=QUICK)
    assert np.array_equal(result.values, expected(values, one))
    assert module.waited == []
    # A mask of another library is handed over in the order of the stream of the batch; and the call
    # waits, since that library may reuse the memory of a mask that is gone on any stream.
    foreign = StubArray(mask)
    result = complete(module.ndarray(values), foreign, options=QUICK)
    assert module.waited == [0]
    assert np.array_equal(result.values, want)
    assert foreign.streams == [700]
    assert len(fake.calls) == 3


@pytest.fixture
def on_device(torch):
    """Make tensors of the CPU that say they are on a device."""

    class OnDevice(torch.Tensor):
        device = property(lambda self: torch.device("cuda", 1))

    return lambda tensor: tensor.as_subclass(OnDevice)


def test_torch_tensors(native, torch, on_device, monkeypatch):
    """Where they lie and on which stream, torch says; and it gives the memory."""
    fake, empty = native(per_image=1000), torch.empty
    streams = []

    def allocate(size, dtype, device):
        fake.allocate(size)
        assert (dtype, device) == (torch.uint8, torch.device("cuda", 1))
        return empty(size, dtype=dtype)

    def stream(index):
        streams.append(index)
        return type("Stream", (), {"cuda_stream": 1234})

    monkeypatch.setattr(torch.cuda, "current_stream", stream)
    monkeypatch.setattr(torch, "empty", allocate)
    values = images()
    batch = on_device(torch.from_numpy(values))
    result = complete(batch, options=QUICK)
    assert type(result) is type(batch)
    assert np.array_equal(result.as_subclass(torch.Tensor).numpy(), expected(values))
    (call,) = fake.calls
    assert (call["device"], call["stream"], call["records"]) == (1, 1234, False)
    assert call["memory"].pointer == values.ctypes.data, "the batch was copied"
    assert fake.allocated == [3000]
    assert set(streams) == {1}
    half = torch.from_numpy(values).bfloat16()
    result = complete(on_device(half), options=QUICK)
    assert result.dtype == torch.bfloat16
    assert torch.equal(
        result.as_subclass(torch.Tensor), complete(half, options=QUICK, backend="numpy")
    )
    with pytest.raises(TypeError, match="requires grad"):
        complete(batch.clone().requires_grad_(), options=QUICK)
    version = batch._version
    complete(batch, options=QUICK, out=batch)
    assert batch._version > version


def test_a_defence_leaves_images_where_they_are(native, torch, on_device, monkeypatch):
    from splic_ext.defenses import SPLIC

    fake = native()
    stream = type("Stream", (), {"cuda_stream": 1234})
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: stream)
    plain = torch.from_numpy(images())
    defense = SPLIC(QUICK, seed=3, backend="auto")
    want = defense(plain)

    def refused(self, *_, **__):
        raise AssertionError("images were copied to the CPU")

    for name in ("cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, refused)
    result = defense(on_device(plain))
    assert len(fake.calls) == 1
    monkeypatch.undo()
    assert np.abs((result.as_subclass(torch.Tensor) - want).numpy()).max() < 1e-4


# ---- what is refused ----


def test_the_device_decides_the_back_end(native):
    native()
    assert splic_ext.backend_info()["cuda"].devices == ("cpu", "cuda")
    with pytest.raises(ValueError, match="'cpu' takes arrays on cpu, got one on 'cuda'"):
        complete(StubArray(images()), backend="cpu")


def test_no_back_end_for_the_device(monkeypatch):
    monkeypatch.setattr(cuda, "_cuda", None)
    monkeypatch.setattr(cuda, "_REASON", "it was not built")
    with pytest.raises(splic_ext.BackendUnavailableError, match="cuda: it was not built"):
        complete(StubArray(images()))


def test_arrays_on_several_devices(cupy):
    _, module = cupy()
    batch = module.ndarray(images(), 0)
    with pytest.raises(ValueError, match="`mask` must be on the device of `batch`, 'cuda:0'"):
        complete(batch, module.ndarray(images() < 0.5, 1))
    with pytest.raises(ValueError, match="device of `batch`, 'cuda:0', got 'cpu'; move one"):
        complete(batch, images() < 0.5)
    with pytest.raises(ValueError, match="`out` must be on the device of `batch`, 'cuda:0'"):
        complete(batch, out=module.ndarray(images(), 1))


def test_out_of_another_kind(cupy):
    _, module = cupy()
    batch = module.ndarray(images())
    with pytest.raises(TypeError, match="`out` must be a ndarray of float32"):
        complete(batch, out=StubArray(images()))
    with pytest.raises(splic_ext.ShapeError, match="`out` must have the shape"):
        complete(batch, out=module.ndarray(images()[:2]))
    with pytest.raises(ValueError, match="memory of its own for every element"):
        complete(batch, out=module.ndarray(np.broadcast_to(images()[:1], SHAPE)))
    stub = StubArray(images())
    with pytest.raises(ValueError, match="`out` must be writable"):
        complete(stub, out=StubArray(images(), read_only=True))


@pytest.mark.parametrize(
    ("bad", "message"),
    [(np.nan, "must be finite, got NaN or infinity in image 1"), (1.5, "maximum 1.5 in image 1")],
)
def test_values_are_checked_with_the_records_alone(cupy, bad, message):
    """Looking at them would wait for the device."""
    _, module = cupy()
    values = images()
    values[1, 0, 0, 0] = bad
    with pytest.raises(ValueError, match=message):
        complete(module.ndarray(values), options=QUICK, return_info=True)
    complete(module.ndarray(values), options=QUICK)


def test_divergence_is_told_of_with_the_records_alone(cupy):
    _, module = cupy()
    wild = SolverOptions(step_size=50.0, tv_weight=5.0)
    with pytest.raises(ArithmeticError, match="the iteration diverged on image 0"):
        complete(module.ndarray(images()), options=wild, return_info=True)
    complete(module.ndarray(images()), options=wild)


# ---- memory ----


def test_no_workspace_no_allocation(cupy):
    fake, module = cupy()
    complete(module.ndarray(images()), options=QUICK)
    assert fake.allocated == []
    assert fake.calls[0]["workspace"] == 0


def test_workspace_bounds_the_chunks(cupy, monkeypatch):
    fake, module = cupy(per_image=1 << 19)
    monkeypatch.setenv("SPLIC_CUDA_WORKSPACE_MB", "1")
    complete(module.ndarray(images()), options=QUICK)
    assert (fake.calls[0]["images"], fake.allocated) == (2, [1 << 20])


def test_less_memory_smaller_chunks(cupy):
    fake, module = cupy(per_image=1000, free=2100)
    batch = module.ndarray(images((8, 1, 4, 4)))
    result = complete(batch, options=QUICK)
    assert (fake.calls[0]["images"], fake.allocated) == (2, [2000])
    assert np.array_equal(result.values, expected(batch.values))


def test_no_memory_for_one_image(cupy):
    _, module = cupy(per_image=1000, free=999)
    with pytest.raises(MemoryError, match="a chunk of one image needs 1000 bytes; free some"):
        complete(module.ndarray(images()), options=QUICK)


# ---- algorithms ----


@pytest.mark.parametrize("backend", ["cpu", "numpy"])
def test_back_ends_with_one_algorithm(backend):
    if backend not in splic_ext.available_backends():
        pytest.skip(f"no back end {backend!r}")
    options = SolverOptions(algorithm="fused")
    with pytest.raises(ValueError, match="`algorithm` must be 'auto' for the back end"):
        complete(images(), options=options, backend=backend)


@pytest.mark.parametrize("where", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("fits", "asked", "used"),
    [
        (True, "auto", "fused"),
        (False, "auto", "tiled"),
        (False, "fused", "fused"),
        (True, "tiled", "tiled"),
        (True, "cusolver", "cusolver"),
    ],
)
def test_algorithm(cupy, where, fits, asked, used):
    fake, module = cupy(fits=fits)
    batch = images() if where == "cpu" else module.ndarray(images())
    complete(batch, options=QUICK.replace(algorithm=asked), backend="cuda")
    assert fake.calls[0]["algorithm"] == used


@pytest.mark.parametrize("fits", [False, True])
def test_cusolver_that_is_absent(native, fits):
    native(fits=fits, cusolver=None)
    complete(images(), options=QUICK, backend="cuda")  # does without
    options = QUICK.replace(algorithm="cusolver")
    with pytest.raises(splic_ext.BackendUnavailableError) as caught:
        complete(images(), options=options, backend="cuda")
    for part in ("`algorithm='cusolver'`", "2 channels of 6 x 5", "no such file", "cuda13"):
        assert part in str(caught.value)


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_cusolver_that_fails_on_an_image(cupy, where):
    fake, module = cupy()
    fake.failing = {2: 7}
    batch = images() if where == "cpu" else module.ndarray(images())
    with pytest.raises(ArithmeticError, match=r"no eigenvectors for image 2 \(1 in all; info = 7"):
        complete(batch, options=QUICK, backend="cuda", return_info=True)
