"""The compiled back ends against the reference; threads, memory, fork, instruction sets."""

from __future__ import annotations

import json
import os
import sys
import threading
import time

import numpy as np
import pytest

import splic_ext
from splic_ext import SolverOptions
from splic_ext.diagnostics import cpu_features

# Real CIFAR-10 images, 8 outer loops, both passes: mean and largest absolute error in [0, 1].
# LAPACK in float32 has 1e-7 and 1e-5; algorithm.md measures 1.6e-6 and 4.6e-4 over more images.
REAL_IMAGES = {"float32": (5e-6, 2e-3), "float64": (1e-9, 1e-6)}

SHORT = SolverOptions(max_iterations=16)


@pytest.fixture(params=["stacked", "separate"])
def channels(request):
    return request.param


def noise(shape, dtype, seed=0):
    return np.random.default_rng(seed).random(shape).astype(dtype)


def test_real_images(native, paper_runs, channels):
    images, options, expected = paper_runs(channels)
    result = native.complete(images.astype(native.dtype), options=options)
    error = np.abs(result - expected)
    if native.precision == "float64":
        # The reference saw the float32 values, and so must the solver.
        assert np.array_equal(images.astype(native.dtype), images)
    mean, largest = REAL_IMAGES[native.precision]
    assert error.mean() <= mean
    assert error.max() <= largest


@pytest.mark.parametrize(
    "changes",
    [
        {"anchor_fraction": 0.7},
        {"anchor_fraction": 0.3},
        {"tv_weight": 0.1, "n_masks": 2},
        {"tv_weight": 0.0},
        {"rank": 16, "delta_decay": 0.6, "anchor_fraction": 0.64},
        {"rank": 3},
        {"gradient_step": "literal"},
        {"tv_gradient": "forward"},
        {"inner_iterations": 3},
    ],
    ids=repr,
)
def test_real_images_with_other_options(native, reference, cifar10, channels, changes):
    images = (cifar10[0][100:112] / 255).astype(native.dtype)
    # The literal step grows as 1 / delta^2: after 4 outer loops the map magnifies 1e-7 to 0.04.
    most = 21 if "gradient_step" in changes else 35
    options = SolverOptions(max_iterations=most, channels=channels, **changes)
    result = native.complete(images, options=options, seed=4)
    error = np.abs(result - reference(images, options=options, seed=4))
    mean, largest = REAL_IMAGES[native.precision]
    # A dozen images, not 64: the mean hangs on a few of them.
    assert error.mean() <= 4 * mean
    assert error.max() <= largest


def test_other_real_images(native, reference, shared_folder, channels):
    """Street-view digits: smoother, and larger parts of them are flat."""
    with np.load(shared_folder / "data" / "svhn_subset_test.npz") as archive:
        images = (archive["x"][:16] / 255).astype(native.dtype)
    options = SolverOptions(max_iterations=56, channels=channels)
    error = np.abs(native.complete(images, options=options) - reference(images, options=options))
    mean, largest = REAL_IMAGES[native.precision]
    assert error.mean() <= 4 * mean
    assert error.max() <= largest


def test_noise(native, reference, channels):
    """No gap anywhere in the spectrum: the hardest case for an iterative decomposition."""
    batch = noise((10, 3, 28, 28), native.dtype)
    options = SolverOptions(max_iterations=35, channels=channels)
    native.check(native.complete(batch, options=options), reference(batch, options=options))


@pytest.mark.parametrize("shape", [(37, 3, 16, 16), (5, 1, 33, 20), (1, 3, 28, 28)])
@pytest.mark.parametrize("changes", [{}, {"n_masks": 2, "tolerance": 3e-4}])
def test_threads_change_no_bit(native, channels, shape, changes):
    batch = noise(shape, native.dtype)
    options = SHORT.replace(channels=channels, **changes)
    expected, info = native.complete(batch, options=options, threads=1, return_info=True)
    for threads in (2, 4, 7, 1000, 2**31 - 1):
        result, other = native.complete(batch, options=options, threads=threads, return_info=True)
        assert np.array_equal(result, expected)
        for name in ("iterations", "residual", "delta"):
            assert np.array_equal(getattr(other, name), getattr(info, name))


@pytest.mark.parametrize("threads", [1, 3])
def test_split_and_order_change_no_bit(native, channels, threads):
    """More images than lanes, and numbers of them that do not divide."""
    batch = noise((53, 3, 12, 10), native.dtype)
    batch[7] = 0
    batch[11, 1] = 0.25
    batch[13] *= 1e-3
    options = SHORT.replace(channels=channels, tolerance=1e-4)
    run = {"options": options, "threads": threads, "seed": 77}
    whole = native.complete(batch, first_index=100, **run)
    for size in (1, 5, 16, 17, 32):
        parts = [
            native.complete(batch[a : a + size], first_index=100 + a, **run)
            for a in range(0, 53, size)
        ]
        assert np.array_equal(np.concatenate(parts), whole)
    masks = splic_ext.masks.bernoulli_masks(batch.shape, seed=77)
    order = np.random.default_rng(1).permutation(53)
    given = native.complete(batch, masks, options=options)
    shuffled = native.complete(batch[order], masks[order], options=options)
    assert np.array_equal(shuffled, given[order])


def test_two_runs_are_equal(native, channels):
    batch = noise((20, 3, 32, 32), native.dtype)
    options = SolverOptions(channels=channels)
    first, info = native.complete(batch, options=options, return_info=True)
    second, again = native.complete(batch, options=options, return_info=True)
    assert np.array_equal(first, second)
    for name in ("iterations", "residual", "delta"):
        assert np.array_equal(getattr(again, name), getattr(info, name))


def test_calls_from_several_threads(native):
    """Different sizes at once, each with threads of its own."""
    shapes = [(9, 3, 16, 16), (5, 1, 28, 28), (17, 3, 8, 12), (3, 1, 40, 20)]
    batches = [noise(shape, native.dtype, seed) for seed, shape in enumerate(shapes)]
    expected = [native.complete(batch, options=SHORT, threads=1) for batch in batches]
    wrong, barrier = [], threading.Barrier(8)

    def work(k):
        barrier.wait()
        for turn in range(10):
            i = (k + turn) % len(batches)
            result = native.complete(batches[i], options=SHORT, threads=1 + k % 3)
            if not np.array_equal(result, expected[i]):
                wrong.append((k, i))

    workers = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.parametrize("threads", [1, 2])
def test_gil_is_released(native, threads):
    """Another Python thread goes on while the solver works."""
    count = 4000 if native.name == "cuda" else 400  # a GPU is done with few of them too soon
    batch = noise((count, 3, 32, 32), native.dtype)
    seen, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            seen.append(time.perf_counter())
            time.sleep(0.001)

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        began = time.perf_counter()
        native.complete(batch, options=SolverOptions(tolerance=0), threads=threads)
        ended = time.perf_counter()
    finally:
        stop.set()
        ticker.join()
    length = ended - began
    assert length > 0.02, "too short to tell"
    middle = [moment for moment in seen if began + 0.2 * length < moment < ended - 0.2 * length]
    assert len(middle) >= 3


FORK = """
import multiprocessing, os, sys, threading
import numpy as np
import splic_ext

batch = np.random.default_rng(0).random((40, 3, 16, 16), dtype=np.float32)
options = splic_ext.SolverOptions(max_iterations=10)

def solve(threads):
    return splic_ext.complete(batch, options=options, backend="cpu", threads=threads)

def check(threads):
    return bool((solve(threads) == expected).all())

expected = solve(4)
for threads in (1, 2, 4):
    child = os.fork()
    if child == 0:
        os._exit(0 if check(threads) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, threads
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(check, [1, 2, 4, 7]) == [True] * 4
assert check(3)
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_after_use(native_cpu, run_python):
    assert run_python(FORK, timeout=120) == "done"


INTERRUPT = """
import os, signal, sys, threading, time
import numpy as np
import splic_ext
shape, threads, changes = eval(sys.argv[1])
options = splic_ext.SolverOptions(tolerance=0, **changes)
batch = np.random.default_rng(0).random(shape, dtype=np.float32)
sent = []
def interrupt():
    time.sleep(0.5)
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    splic_ext.complete(batch, options=options, backend="cpu", threads=threads)
except KeyboardInterrupt:
    print(time.perf_counter() - sent[0])
splic_ext.complete(batch[:1, :, :32, :32], backend="cpu")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no signals to itself")
@pytest.mark.parametrize(
    "problem",
    [
        ((4000, 3, 32, 32), 1, {}),
        ((4000, 3, 32, 32), 3, {}),
        ((4, 3, 512, 512), 2, {}),
        ((400, 3, 64, 64), 2, {"anchor_fraction": 0.05}),
        ((1, 64, 224, 224), 1, {"n_masks": 50}),
    ],
    ids=str,
)
def test_an_interrupt_ends_a_call_at_once(native_cpu, run_python, problem):
    """Within 0.2 s on an idle machine; others may work on this one."""
    code = f"import sys; sys.argv[1:] = [{repr(problem)!r}]\n{INTERRUPT}"
    assert min(float(run_python(code)) for _ in range(2)) < 0.4


#: Bytes of memory at most so far. Not ``ru_maxrss``, which begins at that of the parent process.
PEAK = """
def peak():
    with open("/proc/self/status") as lines:
        (line,) = (line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
"""
needs_peak = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux tells the peak of one process"
)

HUGE = (
    PEAK
    + """
import numpy as np
import splic_ext
options = splic_ext.SolverOptions(
    channels="separate", n_masks=2, max_iterations=1, inner_iterations=2**31 - 1, rank=1
)
batch = np.full((1, 33, 512, 512), 0.5, np.float32)
result = splic_ext.complete(batch, options=options, backend="cpu", threads=2**31 - 1)
few = splic_ext.complete(batch, options=options, backend="cpu", threads=2)
assert np.array_equal(result, few)
print(peak())
"""
)


@needs_peak
def test_threads_without_end_take_no_more_than_the_work(native_cpu, run_python):
    """They overflowed, and each had a workspace."""
    assert int(run_python(HUGE)) < 2**30


def test_counts_at_their_ends(native_cpu):
    batch = noise((3, 2, 9, 5), "float32")
    most = {"max_iterations": 2**31 - 1, "inner_iterations": 2**31 - 1, "tolerance": 1.0}
    result = native_cpu.complete(batch, options=SolverOptions(**most | {"inner_iterations": 3}))
    assert np.isfinite(result).all()
    ends = {"seed": 2**64 - 1, "first_index": 2**64 - 1}
    result = native_cpu.complete(batch, options=SHORT, **ends)
    assert np.array_equal(result[1:], native_cpu.complete(batch[1:], options=SHORT, seed=2**64 - 1))


THREADS = """
import splic_ext
from splic_ext.completion import default_threads
import numpy as np
try:
    print(default_threads(), splic_ext.complete(np.zeros((8, 8)), backend="cpu").sum())
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize("value", ["1", " 3 ", "64"])
def test_environment_sets_the_threads(native_cpu, run_python, value):
    assert run_python(THREADS, SPLIC_NUM_THREADS=value) == f"{int(value)} 0.0"


@pytest.mark.parametrize("value", ["", "  "])
def test_empty_environment_means_all_processors(native_cpu, run_python, value):
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    variables = {"SPLIC_NUM_THREADS": value, "OMP_NUM_THREADS": ""}
    assert run_python(THREADS, **variables) == f"{count} 0.0"


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "99999999999999999999"])
def test_environment_with_a_bad_number(native_cpu, run_python, value):
    said = run_python(THREADS, SPLIC_NUM_THREADS=value)
    assert "SPLIC_NUM_THREADS must be" in said
    assert f"got {value!r}" in said
    assert "unset it" in said


MEMORY = (
    PEAK
    + """
import sys
import numpy as np
import splic_ext

threads, dtype, layout = int(sys.argv[1]), sys.argv[2], sys.argv[3]
shape = (20000, 1, 28, 28) if layout == "gray" else (5000, 3, 32, 32)
batch = np.empty(shape, dtype)
batch[...] = np.random.default_rng(0).integers(0, 2, shape[1:])
out = np.full_like(batch, 1)
options = splic_ext.SolverOptions(max_iterations=1, n_masks=2)
splic_ext.complete(batch[:64], options=options, backend="cpu", threads=threads)
before = peak()
splic_ext.complete(batch, options=options, backend="cpu", threads=threads, out=out)
print(peak() - before)
"""
)


@needs_peak
@pytest.mark.parametrize(
    ("layout", "dtype", "threads"),
    [("gray", "float32", 1), ("gray", "uint8", 7), ("colour", "float32", 7)],
)
def test_memory_does_not_grow_with_the_batch(native_cpu, run_python, threads, dtype, layout):
    """Beyond input and output: the shared part, and at most 2 MB for each thread."""
    code = f"import sys; sys.argv[1:] = {[str(threads), dtype, layout]!r}\n{MEMORY}"
    assert int(run_python(code)) <= (64 + 2 * threads) * 2**20


SIMD = """
import sys
import numpy as np
import splic_ext
batch = np.load(sys.argv[1])
options = splic_ext.SolverOptions.from_json(sys.argv[2])
print(splic_ext.backend_info()["cpu"].details["simd"])
results = [
    splic_ext.complete(batch.astype(dtype), options=options, backend="cpu", threads=threads)
    for dtype, threads in (("float32", 1), ("float64", 1), ("float32", 3), ("float64", 3))
]
np.savez(sys.argv[3], *results)
"""


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def simd(request, native_cpu):
    available = splic_ext.backend_info()["cpu"].details["simd_available"]
    if request.param not in available:
        pytest.skip(f"{request.param} is not among {available} of this processor")
    return request.param


def test_every_instruction_set(simd, run_python, tmp_path, paper_runs, channels):
    images, options, expected = paper_runs(channels)
    np.save(tmp_path / "batch.npy", images[:21])
    arguments = [str(tmp_path / "batch.npy"), options.to_json(), str(tmp_path / "results.npz")]
    code = f"import sys; sys.argv[1:] = {arguments!r}\n{SIMD}"
    assert run_python(code, SPLIC_SIMD=simd) == simd
    with np.load(tmp_path / "results.npz") as archive:
        results = list(archive.values())
    for precision, result, threaded in zip(REAL_IMAGES, results[:2], results[2:], strict=True):
        error = np.abs(result - expected[:21])
        assert error.mean() <= 4 * REAL_IMAGES[precision][0]
        assert error.max() <= REAL_IMAGES[precision][1]
        assert np.array_equal(threaded, result)


def test_unknown_instruction_set_is_refused(native_cpu, run_python):
    code = """
import splic_ext, numpy as np
try:
    splic_ext.complete(np.zeros((8, 8)), backend="cpu")
except Exception as error:
    print(error)
"""
    said = run_python(code, SPLIC_SIMD="sse9")
    assert "SPLIC_SIMD" in said
    assert "sse9" in said


def test_an_unknown_instruction_set_can_be_looked_up(native_cpu, run_python):
    """Someone who set the wrong one asks backend_info() which there are."""
    code = """
import splic_ext
info = splic_ext.backend_info()["cpu"]
print(info.available, info.details["error"])
print(splic_ext.available_backends())
"""
    said = run_python(code, SPLIC_SIMD="sse9")
    assert said.startswith("True the environment variable SPLIC_SIMD must name")
    assert "'cpu', 'numpy'" in said


def test_info_describes_the_build(native_cpu):
    info = splic_ext.backend_info()["cpu"]
    assert info.available
    assert info.precisions == ("float32", "float64")
    assert "baseline" in info.details["simd_available"]
    assert info.details["simd"] in info.details["simd_available"]
    json.dumps(info.details)
    assert splic_ext.available_backends()[0] != "numpy"
    assert "splic_ext._core" in sys.modules


def test_instruction_sets_are_those_of_the_processor(native_cpu):
    details = splic_ext.backend_info()["cpu"].details
    features = cpu_features()
    if features is None:
        pytest.skip("this system does not tell what its processor has")
    wanted = {
        "baseline": set(),
        "avx2": {"avx", "avx2", "fma"},
        "avx512": {"avx", "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl"},
    }
    built = details["simd_built"].split(", ")
    assert details["simd_available"] == [name for name in built if wanted[name] <= set(features)]


def test_photograph(native_cpu):
    """Large images have a flat spectrum at the cut: the block iteration has to go on for long."""
    data = pytest.importorskip("skimage.data", reason="needs the photographs of scikit-image")
    photo = data.astronaut()[:448, :448].astype(np.float64).mean(axis=2)
    photo = photo.reshape(224, 2, 224, 2).mean(axis=(1, 3)) / 255
    options = SolverOptions(max_iterations=14, tolerance=0.0)
    expected = splic_ext.complete(photo, options=options, backend="numpy")
    for dtype, bound in ((np.float32, 5e-6), (np.float64, 1e-10)):
        result = splic_ext.complete(photo.astype(dtype), options=options, backend="cpu")
        assert np.abs(result - expected).mean() <= bound


@pytest.mark.parametrize("size", [64, 128])
def test_enlarged_images(native_cpu, size):
    """Their singular values at the cut are tiny beside the first, and drown in its rounding."""
    rng = np.random.default_rng(size)
    position = np.linspace(0, 11, size)
    low = np.minimum(position.astype(int), 10)
    weights = np.zeros((size, 12))
    weights[np.arange(size), low] = 1 - (position - low)
    weights[np.arange(size), low + 1] = position - low
    images = weights @ rng.random((2, 1, 12, 12)) @ weights.T
    options = SolverOptions(max_iterations=70, tolerance=0.0)
    expected = splic_ext.complete(images, options=options, backend="cpu")
    result = splic_ext.complete(images.astype(np.float32), options=options, backend="cpu")
    assert np.abs(result - expected).mean() <= 5e-6


def test_constant_images_are_precise(native_cpu):
    """What is left of them beside the first singular value is small, and counts."""
    images = np.full((2, 3, 32, 32), 0.5)
    expected = splic_ext.complete(images, backend="numpy")
    result = splic_ext.complete(images.astype(np.float32), backend="cpu")
    assert np.abs(result - expected).mean() <= 5e-6
