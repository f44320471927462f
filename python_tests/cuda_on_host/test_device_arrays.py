"""Arrays of a device through the CUDA back end, on the host: streams, graphs, memory, devices."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import pytest
from helpers.cuda import wavy
from helpers.cuda_on_host import Block, PlainArray

import splic_ext
from splic_ext import SolverOptions

SHAPE = (3, 3, 8, 8)
QUICK = SolverOptions(max_iterations=3)


@pytest.fixture(params=["cupy", "dlpack"])
def put(request, cupy, runtime):
    """How to put arrays on a device: as of CuPy, or of a library that knows DLPack alone."""
    if request.param == "cupy":
        return cupy.ndarray
    return lambda values, index=0, **others: PlainArray(runtime, values, index, **others)


# ---- the same as for arrays of the CPU, to the last bit ----


@pytest.mark.parametrize(("channels", "n_masks"), [("stacked", 1), ("stacked", 3), ("separate", 2)])
def test_arrays_on_the_device(complete, put, channels, n_masks, kernel):
    options = QUICK.replace(channels=channels, n_masks=n_masks, algorithm=kernel.algorithm)
    for dtype in kernel.dtypes:
        values = wavy(kernel.shape(SHAPE), dtype)
        batch = put(values)
        result = splic_ext.complete(batch, options=options, seed=3)
        assert type(result) is type(batch)
        expected = complete(values, options=options, seed=3)
        assert np.array_equal(result.numpy(), expected)
        assert np.array_equal(batch.numpy(), values)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16"])
def test_types(complete, put, torch, dtype):
    values = wavy(SHAPE, "uint8" if dtype == "uint8" else "float32")
    if dtype == "bfloat16":
        tensor = torch.from_numpy(values).bfloat16()
        if put.__name__ == "ndarray":
            pytest.skip("CuPy has no bfloat16")
        batch = put(tensor.view(torch.int16).numpy().view(np.uint16), dtype="bfloat16")
        expected = complete(tensor, options=QUICK).view(torch.int16).numpy().view(np.uint16)
    else:
        values = values.astype(dtype)
        batch, expected = put(values), complete(values, options=QUICK)
    assert np.array_equal(splic_ext.complete(batch, options=QUICK).numpy(), expected)


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda a: a[:, ::-1, ::-1],
        lambda a: np.broadcast_to(a[:1], a.shape),
        lambda a: np.repeat(a, 2, axis=3)[..., ::2],
    ],
)
def test_layouts(complete, put, layout):
    values = layout(wavy(SHAPE))
    result = splic_ext.complete(put(values), options=QUICK)
    assert np.array_equal(result.numpy(), complete(values.copy(), options=QUICK))


def test_an_odd_address(complete, runtime, cupy):
    """Elements need not be aligned."""
    values = wavy(SHAPE)
    block = Block(runtime, values.nbytes + 3, 0)
    batch = cupy.ndarray(values, block=block, offset=3)
    assert np.array_equal(
        splic_ext.complete(batch, options=QUICK).numpy(), complete(values, options=QUICK)
    )


def test_out_and_in_place(complete, cupy):
    values = wavy(SHAPE)
    batch, out = (
        cupy.ndarray(values),
        cupy.ndarray(np.zeros((6, 3, 8, 16), np.float32)[::2, :, :, ::2]),
    )
    want = complete(values, options=QUICK)
    assert splic_ext.complete(batch, options=QUICK, out=out) is out
    assert np.array_equal(out.numpy(), want)
    splic_ext.complete(batch, options=QUICK, out=batch)
    assert np.array_equal(batch.numpy(), want)


def test_out_that_overlaps_in_part(complete, runtime, cupy):
    values = wavy(SHAPE)
    block = Block(runtime, values.nbytes + 256, 0)
    out = cupy.ndarray(np.zeros_like(values), block=block, offset=256)
    batch = cupy.ndarray(values, block=block)
    splic_ext.complete(batch, options=QUICK, out=out)
    assert np.array_equal(out.numpy(), complete(values, options=QUICK))


def test_given_masks(complete, put, kernel):
    options = QUICK.replace(algorithm=kernel.algorithm)
    values = wavy(kernel.shape(SHAPE))
    mask = np.random.default_rng(1).random(values.shape) < 0.5
    for given in (mask, mask[:, :1], mask[0, 0]):
        result = splic_ext.complete(put(values), put(given), options=options)
        assert np.array_equal(result.numpy(), complete(values, given, options=options))


def test_parts_and_chunks(complete, cupy, monkeypatch, kernel):
    options = QUICK.replace(n_masks=2, algorithm=kernel.algorithm)
    shape = kernel.shape((7, 1, 24, 24))
    values = wavy(shape if kernel.name == "warp" else (7, 1, 24, 24))
    whole = complete(values, options=options, seed=5)
    parts = [cupy.ndarray(values[:2]), cupy.ndarray(values[2:])]
    results = [
        splic_ext.complete(part, options=options, seed=5, first_index=first).numpy()
        for part, first in zip(parts, (0, 2), strict=True)
    ]
    assert np.array_equal(np.concatenate(results), whole)
    monkeypatch.setattr("splic_ext.backends.cuda.workspace_bytes", lambda: 30_000)
    result, info = splic_ext.complete(
        cupy.ndarray(values), options=options, seed=5, return_info=True
    )
    assert np.array_equal(result.numpy(), whole)
    assert (info.iterations == 3).all()


def test_less_memory_smaller_chunks(complete, cupy):
    options = QUICK.replace(n_masks=4, algorithm="cusolver")
    values = wavy((6, 1, 16, 16))
    cupy.room = 80_000
    batch = cupy.ndarray(values)
    result = splic_ext.complete(batch, options=options)
    assert np.array_equal(result.numpy(), complete(values, options=options))
    cupy.room = values.nbytes
    cupy.pools.clear()
    with pytest.raises(MemoryError, match=r"a chunk of one image needs \d+ bytes; free some"):
        splic_ext.complete(batch, options=options)


# ---- values, told of with the records alone ----


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.25, 1.5])
def test_wrong_values(cupy, bad, kernel):
    options = QUICK.replace(algorithm=kernel.algorithm)
    values = wavy(kernel.shape(SHAPE))
    expected = splic_ext.complete(cupy.ndarray(values), options=options).numpy()
    values[1, 0, 0, 0] = bad
    batch = cupy.ndarray(values)
    result = splic_ext.complete(batch, options=options).numpy()
    assert np.isnan(result[1]).all()
    assert np.array_equal(result[[0, 2]], expected[[0, 2]])
    with pytest.raises(ValueError, match="in image 1"):
        splic_ext.complete(batch, options=options, return_info=True)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_half_that_is_no_number(cupy, bad):
    """Not 65536 or 98304, which a large data range would let pass."""
    values = wavy(SHAPE, "float16")
    values[1, 0, 0, 0] = bad
    for data_range in (1.0, 1e5):
        batch = cupy.ndarray(values)
        result = splic_ext.complete(batch, options=QUICK, data_range=data_range).numpy()
        assert np.isnan(result[1]).all()
        assert np.isfinite(result[[0, 2]]).all()
        with pytest.raises(ValueError, match="must be finite, got NaN or infinity in image 1"):
            splic_ext.complete(batch, options=QUICK, data_range=data_range, return_info=True)


def test_divergence(cupy, kernel):
    wild = SolverOptions(step_size=50.0, tv_weight=5.0, algorithm=kernel.algorithm)
    batch = cupy.ndarray(wavy(kernel.shape(SHAPE)))
    assert np.isnan(splic_ext.complete(batch, options=wild).numpy()).all()
    with pytest.raises(ArithmeticError, match="the iteration diverged on image 0"):
        splic_ext.complete(batch, options=wild, return_info=True)


def test_cusolver_that_fails_on_a_matrix(cupy, runtime):
    options = QUICK.replace(algorithm="cusolver")
    batch = cupy.ndarray(wavy(SHAPE))
    expected = splic_ext.complete(batch, options=options).numpy()
    runtime.fail_matrix(2, 7)
    result = splic_ext.complete(batch, options=options).numpy()
    assert np.isnan(result[2]).all()
    assert np.array_equal(result[:2], expected[:2])
    with pytest.raises(ArithmeticError, match=r"no eigenvectors for image 2 \(1 in all; info = 7"):
        splic_ext.complete(batch, options=options, return_info=True)


# ---- streams ----


def test_nobody_waits(cupy, runtime, kernel):
    options = QUICK.replace(algorithm=kernel.algorithm)
    batch = cupy.ndarray(wavy(kernel.shape(SHAPE)))
    expected = splic_ext.complete(batch, options=options).numpy()
    runtime.calls("cudaStreamSynchronize")
    for seed in range(3):
        runtime.seed(seed)
        with cupy.cuda.Stream() as stream:
            result = splic_ext.complete(batch, options=options)
            assert runtime.calls("cudaStreamSynchronize") == 0
            assert runtime.living()["queued"] > 0, "the call has waited for the device"
            assert np.array_equal(result.numpy(), expected)
        runtime.calls("cudaStreamSynchronize")
        stream.close()


def test_streams_at_a_time(cupy, runtime, kernel):
    """Each works in memory, and with a handle of cuSOLVER, of its own."""
    options = QUICK.replace(algorithm=kernel.algorithm, n_masks=2)
    batches = [cupy.ndarray(wavy(kernel.shape(SHAPE), seed=k)) for k in range(3)]
    expected = [splic_ext.complete(batch, options=options).numpy() for batch in batches]
    for seed in range(3):
        runtime.seed(seed)
        streams, results = [cupy.cuda.Stream() for _ in batches], []
        for stream, batch in zip(streams, batches, strict=True):
            with stream:
                results.append(splic_ext.complete(batch, options=options))
        for result, want in zip(results, expected, strict=True):
            assert np.array_equal(result.numpy(), want)
        for stream in streams:
            stream.close()


def test_a_stream_that_is_gone(cupy, runtime, kernel):
    """It is told of where CUDA tells of it."""
    options = QUICK.replace(algorithm=kernel.algorithm)
    batch = cupy.ndarray(wavy(kernel.shape(SHAPE)))
    expected = splic_ext.complete(batch, options=options).numpy()
    gone = cupy.cuda.Stream()
    gone.close()
    with gone, pytest.raises(RuntimeError, match="stream of `batch` does not exist any more; make"):
        splic_ext.complete(batch, options=options)
    assert runtime.violations() == ["a stream is used that does not exist"]
    assert np.array_equal(splic_ext.complete(batch, options=options).numpy(), expected)


def test_a_stream_at_the_address_of_another(cupy, runtime):
    """A stream is gone before its work is done, and a new one gets its address."""
    options = QUICK.replace(algorithm="cusolver")
    batches = [cupy.ndarray(wavy(SHAPE, seed=k)) for k in range(2)]
    expected = [splic_ext.complete(batch, options=options).numpy() for batch in batches]
    for seed in range(8):
        runtime.seed(seed)
        results, addresses, kept = [], set(), []
        for batch in batches:
            with cupy.cuda.Stream() as stream:
                results.append(splic_ext.complete(batch, options=options))
                addresses.add(stream.ptr)
            stream.close()
            kept.append(dict(cupy.pools))  # freeing would wait, and so would the pool's next user
            cupy.pools.clear()
        assert len(addresses) == 1
        runtime.call("cudaDeviceSynchronize")
        assert runtime.violations() == []
        for result, want in zip(results, expected, strict=True):
            assert np.array_equal(result.numpy(0), want)


@pytest.mark.parametrize("stream", [0, 2])
def test_default_streams(complete, cupy, runtime, stream):
    """The mask is made on the legacy stream; the one of the thread waits for that."""

    class Strict(PlainArray):
        def __dlpack__(self, *, stream=None, **others):
            if stream == 2:
                raise BufferError("per-thread default stream is not supported.")
            return super().__dlpack__(stream=stream, **others)

    values, bits = wavy(SHAPE), np.random.default_rng(1).random(SHAPE) < 0.5
    want = complete(values, bits, options=QUICK)
    for seed in range(3):
        runtime.seed(seed)
        handle = cupy.cuda.Stream()
        handle.close()
        handle.ptr = stream
        with handle:
            batch = cupy.ndarray(values)
            mask = Strict(runtime, bits)
            result = splic_ext.complete(batch, mask, options=QUICK)
            assert np.array_equal(result.numpy(), want)
        assert mask.streams == [1]


def test_a_mask_of_another_library_is_ready_and_waited_for(complete, cupy, runtime):
    values, bits = wavy(SHAPE), np.random.default_rng(1).random(SHAPE) < 0.5
    want = complete(values, bits, options=QUICK)
    for seed in range(4):
        runtime.seed(seed)
        other = runtime.stream()
        with cupy.cuda.Stream() as stream:
            batch = cupy.ndarray(values)
            mask = PlainArray(runtime, bits, 0, other)
            result = splic_ext.complete(batch, mask, options=QUICK)
            assert cupy.waited == [stream.ptr]
            assert mask.streams == [stream.ptr]
            cupy.waited.clear()
            assert np.array_equal(result.numpy(), want)
        stream.close()
        runtime.destroy(other)


# ---- devices ----


def test_the_device_of_the_batch_is_used(complete, put, runtime, kernel):
    options = QUICK.replace(algorithm=kernel.algorithm, n_masks=2)
    values = wavy(kernel.shape(SHAPE))
    result = splic_ext.complete(put(values, 1), options=options)
    assert result.index == 1
    assert runtime.device() == 0
    assert np.array_equal(result.numpy(), complete(values, options=options))


def test_arrays_on_several_devices(cupy):
    batch = cupy.ndarray(wavy(SHAPE), 1)
    with pytest.raises(ValueError, match="`mask` must be on the device of `batch`, 'cuda:1'"):
        splic_ext.complete(batch, cupy.ndarray(np.ones(SHAPE, bool), 0))
    with pytest.raises(ValueError, match="`out` must be on the device of `batch`, 'cuda:1'"):
        splic_ext.complete(batch, out=cupy.ndarray(wavy(SHAPE), 0))


# ---- graphs ----


@pytest.mark.parametrize(
    ("algorithm", "shape", "changes"),
    [
        ("fused", SHAPE, {}),
        ("fused", SHAPE, {"n_masks": 3}),
        ("tiled", SHAPE, {}),
        ("tiled", SHAPE, {"n_masks": 3}),
        ("tiled", (1, 1, 70, 40), {"rank": 6, "max_iterations": 2}),
    ],
)
def test_a_graph(cupy, runtime, algorithm, shape, changes):
    options = QUICK.replace(algorithm=algorithm, **changes)
    first, second = (wavy(shape, seed=k) for k in (1, 2))
    expected = [
        splic_ext.complete(cupy.ndarray(values), options=options, seed=4).numpy()
        for values in (first, second)
    ]
    with cupy.cuda.Stream() as stream:
        batch = cupy.ndarray(first)
        splic_ext.complete(batch, options=options, seed=4)
        cupy.keep()
        runtime.begin_capture(stream.ptr)
        result = splic_ext.complete(batch, options=options, seed=4)
        graph = runtime.end_capture(stream.ptr)
        for values, want in ((second, expected[1]), (first, expected[0])):
            fresh = cupy.ndarray(values)
            runtime.copy(batch.base, fresh.base, values.nbytes, 3, stream.ptr)
            runtime.replay(graph, stream.ptr)
            assert np.array_equal(result.numpy(), want)
        runtime.destroy_graph(graph)
    stream.close()


def captured(runtime, stream, result, expected):
    """End a capture that nothing has broken; its graph makes the result."""
    assert runtime.is_capturing(stream.ptr)
    graph = runtime.end_capture(stream.ptr)
    runtime.replay(graph, stream.ptr)
    assert np.array_equal(result.numpy(), expected)
    runtime.destroy_graph(graph)


@pytest.mark.parametrize("mode", [0, 1, 2], ids=["global", "thread", "relaxed"])
def test_a_graph_of_others_is_left_alone(complete, cupy, runtime, kernel, mode):
    """Arrays of the CPU are completed on streams of their own, while another one is captured."""
    values = wavy(kernel.shape(SHAPE))
    options = QUICK.replace(algorithm=kernel.algorithm)
    expected = complete(values, options=options)
    batch = cupy.ndarray(values)
    with cupy.cuda.Stream() as stream:
        graphed = QUICK.replace(algorithm="fused")
        want = splic_ext.complete(batch, options=graphed).numpy()
        cupy.keep()
        runtime.begin_capture(stream.ptr, mode)
        result = splic_ext.complete(batch, options=graphed)
        assert np.array_equal(complete(values, options=options), expected)
        captured(runtime, stream, result, want)
    stream.close()


@pytest.mark.parametrize("case", ["info", "cusolver", "mask", "plain"])
def test_what_a_graph_cannot_take_in(cupy, runtime, case):
    """It is refused, and the capture goes on."""
    values = wavy(SHAPE)
    foreign = PlainArray(runtime, np.ones(SHAPE, bool))
    with cupy.cuda.Stream(0, 0 if case == "plain" else 1) as stream:
        batch = cupy.ndarray(values)
        expected = splic_ext.complete(batch, options=QUICK).numpy()
        cupy.keep()
        runtime.begin_capture(stream.ptr)
        result = splic_ext.complete(batch, options=QUICK)
        if case == "info":
            with pytest.raises(RuntimeError, match="leave out `return_info`"):
                splic_ext.complete(batch, options=QUICK, return_info=True)
        elif case == "cusolver":
            with pytest.raises(RuntimeError, match="use `algorithm='fused'`"):
                splic_ext.complete(batch, options=QUICK.replace(algorithm="cusolver"))
        elif case == "mask":
            with pytest.raises(RuntimeError, match="a `mask` of another library than `batch`"):
                splic_ext.complete(batch, foreign, options=QUICK)
        elif case == "plain":
            plain = PlainArray.__new__(PlainArray)
            plain.__dict__ |= batch.__dict__
            plain.versioned, plain.read_only, plain.streams, plain.stream = True, False, [], 1
            with pytest.raises(RuntimeError, match="while another stream captures a CUDA graph"):
                splic_ext.complete(plain, options=QUICK)
        captured(runtime, stream, result, expected)
    stream.close()
    assert np.array_equal(splic_ext.complete(values, options=QUICK, backend="cuda"), expected)


def test_memory_that_is_let_go_of_does_not_break_a_capture(cupy, runtime):
    """Python frees when it likes, in whatever thread; others may capture a graph then."""
    owned = splic_ext.complete(PlainArray(runtime, wavy(SHAPE)), options=QUICK)
    with cupy.cuda.Stream() as stream:
        runtime.begin_capture(stream.ptr)
        del owned
        gc.collect()
        runtime.destroy_graph(runtime.end_capture(stream.ptr))
    stream.close()


def test_memory_is_let_go_of_without_the_gil(runtime):
    """Freeing waits for the device, and others must go on meanwhile."""
    holds_it = ctypes.cast(ctypes.pythonapi.PyGILState_Check, ctypes.c_void_p)
    for make, expected in (
        (lambda: Block(runtime, 64, 0), 0),  # (ctypes lets go of it)
        (lambda: splic_ext._cuda.DeviceArray([64], "uint8", 1, 0), 0),
    ):
        memory = make()
        runtime.library.cuda_on_host_ask_at_free(holds_it)
        del memory
        assert runtime.library.cuda_on_host_ask_at_free(None) == expected
