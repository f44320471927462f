"""What only a GPU can show: arrays on it, streams, graphs, memory, cuSOLVER."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.cuda import wavy as images

from splic_ext import SolverOptions, complete

QUICK = SolverOptions(max_iterations=14)
SHAPE = (5, 3, 32, 32)


class Torch:
    """How to put arrays on a device with torch, and to get them back."""

    def __init__(self):
        self.module = pytest.importorskip("torch")
        if not self.module.cuda.is_available():
            pytest.skip("torch has no CUDA device")

    def put(self, values):
        return self.module.from_numpy(np.ascontiguousarray(values)).cuda()

    def get(self, array):
        assert array.is_cuda
        return array.cpu().numpy()


class CuPy:
    def __init__(self):
        self.module = pytest.importorskip("cupy")

    def put(self, values):
        return self.module.asarray(values)

    def get(self, array):
        assert isinstance(array, self.module.ndarray)
        return array.get()


class Jax:
    def __init__(self):
        self.module = pytest.importorskip("jax")
        if self.module.default_backend() != "gpu":
            pytest.skip("jax has no CUDA device")

    def put(self, values):
        if values.dtype == np.float64:
            pytest.skip("jax has no float64 by default")
        return self.module.numpy.asarray(values)

    def get(self, array):
        assert isinstance(array, self.module.Array)
        assert array.device.platform == "gpu"
        return np.asarray(array)


@pytest.fixture(params=[Torch, CuPy, Jax], ids=["torch", "cupy", "jax"])
def library(request, cuda_row):
    return request.param()


def on_host(cuda_row, values, mask=None, **arguments):
    return cuda_row.complete(values, mask, **{"options": QUICK, **arguments})


# ---- the same as for arrays of the CPU, to the last bit ----


@pytest.mark.parametrize("n_masks", [1, 3])
@pytest.mark.parametrize("channels", ["stacked", "separate"])
def test_arrays_on_the_device(cuda_row, library, channels, n_masks):
    options = QUICK.replace(channels=channels, n_masks=n_masks)
    values = images(dtype=cuda_row.dtype)
    result = complete(library.put(values), options=options, seed=3)
    expected = on_host(cuda_row, values, options=options, seed=3)
    assert np.array_equal(library.get(result), expected)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32", "float64"])
def test_types(gpu, dtype):
    batch = gpu.from_numpy(images(dtype="uint8" if dtype == "uint8" else "float64"))
    batch = batch.to(getattr(gpu, dtype))
    result = complete(batch.cuda(), options=QUICK)
    assert result.is_cuda
    assert result.dtype == batch.dtype
    assert gpu.equal(result.cpu(), complete(batch, options=QUICK, backend="cuda"))


def test_layouts(cuda_row, gpu):
    values = images(dtype=cuda_row.dtype)
    expected = on_host(cuda_row, values)
    batch = gpu.from_numpy(values).cuda()
    wide = gpu.zeros(tuple(2 * n for n in SHAPE), dtype=batch.dtype, device="cuda")
    wide[::2, ::2, ::2, ::2] = batch
    spaced = wide[::2, ::2, ::2, ::2]
    last = batch.contiguous(memory_format=gpu.channels_last)
    raw = gpu.zeros(batch.nbytes + 16, dtype=gpu.uint8, device="cuda")
    shifted = raw[batch.element_size() :][: batch.nbytes].view(batch.dtype).view(SHAPE)
    shifted.copy_(batch)
    for array in (spaced, last, shifted):
        result = complete(array, options=QUICK)
        assert np.array_equal(result.cpu().numpy(), expected)
        assert complete(array, options=QUICK, out=array) is array
        assert np.array_equal(array.cpu().numpy(), expected)
    assert last.is_contiguous(memory_format=gpu.channels_last)
    flat = batch[:1].expand(SHAPE)
    again = complete(flat, options=QUICK)
    assert np.array_equal(again.cpu().numpy(), on_host(cuda_row, flat.cpu().numpy()))


def test_given_masks(cuda_row, library):
    values, mask = images(dtype=cuda_row.dtype), np.random.default_rng(1).random(SHAPE) < 0.5
    batch = library.put(values)
    for given in (mask, mask[:, :1], mask[0, 0]):
        result = complete(batch, library.put(given), options=QUICK)
        assert np.array_equal(library.get(result), on_host(cuda_row, values, given))


def test_a_mask_of_another_library(cuda_row, gpu):
    cupy = pytest.importorskip("cupy")
    values, mask = images(dtype=cuda_row.dtype), np.random.default_rng(1).random(SHAPE) < 0.5
    result = complete(gpu.from_numpy(values).cuda(), cupy.asarray(mask), options=QUICK)
    assert np.array_equal(result.cpu().numpy(), on_host(cuda_row, values, mask))


def test_two_halves_are_the_whole(cuda_row, gpu):
    batch = gpu.from_numpy(images((301, 3, 32, 32), cuda_row.dtype)).cuda()
    whole = complete(batch, options=QUICK, seed=5)
    for cut in (1, 150, 300):
        parts = [
            complete(batch[:cut], options=QUICK, seed=5),
            complete(batch[cut:], options=QUICK, seed=5, first_index=cut),
        ]
        assert gpu.equal(gpu.cat(parts), whole)
    assert gpu.equal(complete(batch, options=QUICK, seed=5), whole)


def test_info(cuda_row, library):
    values = images(dtype=cuda_row.dtype)
    _, info = complete(library.put(values), options=QUICK, return_info=True)
    _, expected = on_host(cuda_row, values, return_info=True)
    for name in ("iterations", "residual", "delta"):
        assert np.array_equal(getattr(info, name), getattr(expected, name))
    assert (info.seconds > 0).all()


# ---- errors without waiting ----


@pytest.mark.parametrize("algorithm", ["fused", "tiled", "cusolver"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.25, 1.5])
def test_wrong_values(cuda_row, gpu, bad, algorithm):
    """They come out as NaN; with the records they are an error that names the image."""
    options = QUICK.replace(algorithm=algorithm)
    batch = gpu.from_numpy(images(dtype=cuda_row.dtype)).cuda()
    expected = complete(batch, options=options)
    batch[1, 2, 3, 4] = bad
    result = complete(batch, options=options)
    assert result[1].isnan().all()
    others = [0, 2, 3, 4]
    assert gpu.equal(result[others], expected[others])
    with pytest.raises(ValueError, match="in image 1"):
        complete(batch, options=options, return_info=True)


def test_divergence(cuda_row, gpu):
    batch = gpu.from_numpy(images(dtype=cuda_row.dtype)).cuda()
    options = SolverOptions(step_size=50.0, tv_weight=5.0)
    assert complete(batch, options=options).isnan().all()
    with pytest.raises(ArithmeticError, match="diverged"):
        complete(batch, options=options, return_info=True)


# ---- streams, graphs, devices, memory ----


def test_the_current_stream_is_used_and_nobody_waits(gpu):
    values = images((64, 3, 32, 32))
    expected = complete(values, options=QUICK, backend="cuda")
    batch = gpu.zeros(values.shape, device="cuda")
    real = gpu.from_numpy(values).cuda()
    gpu.cuda.synchronize()
    stream = gpu.cuda.Stream()
    with gpu.cuda.stream(stream):
        complete(real, options=QUICK)  # kernels are loaded, and torch has memory for this stream
    gpu.cuda.synchronize()
    with gpu.cuda.stream(stream):
        gpu.cuda._sleep(int(2e9))  # about a second
        batch.copy_(real)
        result = complete(batch, options=QUICK.replace(n_masks=1))
        assert not stream.query(), "the call waited for the device"
    stream.synchronize()
    assert np.array_equal(result.cpu().numpy(), expected)


def test_threads_with_different_shapes(cuda_row):
    """What one launch of a kernel is allowed is not taken from the launch of another thread."""
    batches = [images((2, *shape), cuda_row.dtype) for shape in [(3, 40, 40), (1, 9, 9)]]
    expected = [on_host(cuda_row, values) for values in batches]

    def agrees(number):
        return np.array_equal(on_host(cuda_row, batches[number]), expected[number])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(agrees, [0, 1] * 100))


def test_the_current_stream_of_cupy(cuda_row):
    cupy = pytest.importorskip("cupy")
    values = images(dtype=cuda_row.dtype)
    expected = on_host(cuda_row, values)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        batch = cupy.asarray(values)
        result = complete(batch, options=QUICK)
        stream.synchronize()
        assert np.array_equal(result.get(), expected)


@pytest.mark.parametrize("n_masks", [1, 3])
def test_graph(cuda_row, gpu, n_masks):
    options = QUICK.replace(n_masks=n_masks)
    first, second = (gpu.from_numpy(images(dtype=cuda_row.dtype, seed=k)).cuda() for k in (1, 2))
    expected = [complete(batch, options=options, seed=4) for batch in (first, second)]
    batch = first.clone()
    side = gpu.cuda.Stream()
    side.wait_stream(gpu.cuda.current_stream())
    with gpu.cuda.stream(side):
        complete(batch, options=options, seed=4)
    gpu.cuda.current_stream().wait_stream(side)
    graph = gpu.cuda.CUDAGraph()
    with gpu.cuda.graph(graph):
        result = complete(batch, options=options, seed=4)
    for values, want in zip((second, first), expected[::-1], strict=True):
        batch.copy_(values)
        graph.replay()
        assert gpu.equal(result, want)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"return_info": True}, "return_info"), ({"algorithm": "cusolver"}, "fused")],
)
def test_what_a_graph_cannot_take_in(gpu, changes, message):
    options = QUICK.replace(algorithm=changes.get("algorithm", "fused"))
    batch = gpu.from_numpy(images()).cuda()
    complete(batch, options=options)
    graph = gpu.cuda.CUDAGraph()
    info = changes.get("return_info", False)
    with gpu.cuda.graph(graph):
        batch.add(1)  # torch warns of a graph without any work
        with pytest.raises(RuntimeError, match=message):
            complete(batch, options=options, return_info=info)
    gpu.cuda.synchronize()
    assert not complete(batch, options=options).isnan().any()


def test_several_devices(cuda_row, gpu):
    if gpu.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    values = images(dtype=cuda_row.dtype)
    expected = on_host(cuda_row, values)
    batch = gpu.from_numpy(values).to("cuda:1")
    result = complete(batch, options=QUICK)
    assert result.device == batch.device
    assert np.array_equal(result.cpu().numpy(), expected)
    assert gpu.cuda.current_device() == 0
    with pytest.raises(ValueError, match="`mask` must be on the device of `batch`, 'cuda:1'"):
        complete(batch, gpu.ones(SHAPE, dtype=gpu.bool, device="cuda:0"))


def test_little_memory(gpu, monkeypatch):
    """Smaller chunks, with the same result; and an error where one image is too many."""
    options = QUICK.replace(n_masks=4, algorithm="fused")
    batch = gpu.from_numpy(images((1024, 3, 32, 32))).cuda()
    expected = complete(batch, options=options)
    sizes, empty = [], gpu.empty

    def allocate(size, *others, **arguments):
        if isinstance(size, int) and arguments.get("dtype") is gpu.uint8:
            sizes.append(size)
            if size > limit:
                raise gpu.cuda.OutOfMemoryError("pretended")
        return empty(size, *others, **arguments)

    monkeypatch.setattr(gpu, "empty", allocate)
    limit = 4 << 20
    assert gpu.equal(complete(batch, options=options), expected)
    assert sizes[0] > limit >= sizes[-1] > 0
    limit = 100
    with pytest.raises(MemoryError, match=r"a chunk of one image needs \d+ bytes"):
        complete(batch, options=options)


def test_no_memory_at_all(gpu):
    """The same, of the real allocator."""
    options = QUICK.replace(n_masks=8, algorithm="fused")
    batch = gpu.from_numpy(images((512, 3, 32, 32))).cuda()
    expected = complete(batch, options=options)
    gpu.cuda.empty_cache()
    try:
        total = gpu.cuda.get_device_properties(0).total_memory
        room = gpu.cuda.memory_reserved() + (24 << 20)
        gpu.cuda.set_per_process_memory_fraction(room / total)
        assert gpu.equal(complete(batch, options=options), expected)
    finally:
        gpu.cuda.set_per_process_memory_fraction(1.0)
        gpu.cuda.empty_cache()


# ---- cuSOLVER ----


@pytest.mark.parametrize("where", ["cpu", "cuda"])
@pytest.mark.parametrize(
    "shape", [(3, 3, 32, 32), (2, 1, 28, 28), (2, 3, 64, 64), (1, 3, 96, 120), (2, 1, 1, 17)]
)
def test_cusolver_agrees(cuda_row, gpu, shape, where):
    values = images(shape, cuda_row.dtype)
    options = SolverOptions(max_iterations=28)
    exact, info = complete(
        values.astype(np.float64), options=options, backend="numpy", return_info=True
    )
    batch = gpu.from_numpy(values)
    batch = batch.cuda() if where == "cuda" else batch
    for algorithm in ("fused", "tiled", "cusolver"):
        result, own = complete(
            batch,
            options=options.replace(algorithm=algorithm),
            backend="cuda",
            return_info=True,
        )
        cuda_row.check(result.cpu().numpy(), exact)
        assert np.array_equal(own.iterations, info.iterations)


def test_cusolver_does_not_depend_on_the_batch(cuda_row, gpu, monkeypatch):
    options = QUICK.replace(algorithm="cusolver", n_masks=2)
    batch = gpu.from_numpy(images((40, 3, 32, 32), cuda_row.dtype)).cuda()
    whole = complete(batch, options=options)
    assert gpu.equal(complete(batch, options=options), whole)
    monkeypatch.setenv("SPLIC_CUDA_WORKSPACE_MB", "8")
    chunked = complete(batch, options=options)
    assert (chunked - whole).abs().max() <= cuda_row.largest
    assert (chunked - whole).abs().mean() <= cuda_row.mean


def test_cusolver_on_two_streams(gpu):
    """Each works with a handle of its own."""
    options = QUICK.replace(algorithm="cusolver")
    batches = [gpu.from_numpy(images(seed=k)).cuda() for k in range(4)]
    expected = [complete(batch, options=options) for batch in batches]
    gpu.cuda.synchronize()
    streams = [gpu.cuda.Stream() for _ in batches]
    results = []
    for stream, batch in zip(streams, batches, strict=True):
        with gpu.cuda.stream(stream):
            results.append(complete(batch, options=options))
    gpu.cuda.synchronize()
    for result, want in zip(results, expected, strict=True):
        assert gpu.equal(result, want)
