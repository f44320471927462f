"""Every call of CUDA and cuSOLVER made to fail in turn, and what runs out."""

from __future__ import annotations

import re

import numpy as np
import pytest
from conftest import ROOT
from helpers import cuda_on_host
from helpers.cuda import wavy
from helpers.cuda_on_host import ILLEGAL_ADDRESS, INVALID_VALUE, OUT_OF_MEMORY, PlainArray

import splic_ext
from splic_ext import SolverOptions

#: What is given back tells of nothing: the result is there, or another error is on its way.
SILENT = ("cudaFree", "cudaFreeHost", "cudaStreamDestroy", "cudaEventDestroy")
SILENT += (
    "cudaEventQuery",
    "cudaEventRecord",
    "cudaThreadExchangeStreamCaptureMode",
    "cudaPointerGetAttributes",
)
SILENT += ("cusolverDnDestroy", "cusolverDnDestroyParams")


def fail_in_turn(runtime, call, expected, status, read=lambda result: result):
    """Make each call of the runtime fail; return the names, and what was said of each."""
    said = {}
    for at in range(1, 400):
        runtime.seed(at)
        runtime.fail(at, status)
        error = result = None
        try:
            result = call()
        except (RuntimeError, MemoryError) as caught:
            error = f"{type(caught).__name__}: {caught}"
        name = runtime.failed()
        runtime.fail(0)
        assert name or not error, f"an error without a cause: {error}"
        assert runtime.violations() == [], f"after {name} has failed, call {at}"
        if name == "cudaSetDevice":  # the way back, perhaps
            runtime.set_device(0)
        assert runtime.device() == 0, f"{name} has left another device behind"
        said.setdefault(name, set()).add(error)
        if not error:
            assert np.array_equal(read(result), expected), f"nobody tells of {name}, call {at}"
        if not name:
            break
    else:
        pytest.fail("there is no end of it")
    return said


def check_words(said, status):
    for name, messages in said.items():
        tries_again = status == OUT_OF_MEMORY and name in ("cudaMalloc", "cudaMallocHost")
        if not name or name in SILENT or tries_again:
            continue
        if name == "cudaSetDevice":  # nothing can be done about the way back
            messages.discard(None)
        assert None not in messages, f"nobody tells of {name}"
        for message in messages:
            if message.startswith("CudaCallError"):
                continue  # a call of the library that has made the array
            if name.startswith("cusolver"):
                assert f"the cuSOLVER operation {name} failed: execution failed" in message
            elif status == INVALID_VALUE:
                assert "cudaErrorInvalidValue" in message, (name, message)
                # (The first call meets what others have left behind.)
                first = name == "cudaStreamIsCapturing" and "before this call" in message
                assert first or message.startswith("RuntimeError: the CUDA operation "), message
            else:
                assert "cudaErrorMemoryAllocation" in message or "has no" in message, message


@pytest.mark.parametrize("status", [INVALID_VALUE, OUT_OF_MEMORY])
def test_host_arrays(complete, runtime, kernel, status):
    images = wavy(kernel.shape((3, 1, 6, 6)))
    options = SolverOptions(max_iterations=1, n_masks=2, algorithm=kernel.algorithm)
    expected = complete(images, options=options)
    said = fail_in_turn(runtime, lambda: complete(images, options=options), expected, status)
    check_words(said, status)
    calls = {"cudaMalloc", "cudaMemcpyAsync", "cudaLaunchKernelExC", "cudaStreamSynchronize"}
    calls |= {"cudaStreamCreateWithFlags", "cudaStreamDestroy", "cudaFree", "cudaGetDevice"}
    if kernel.name == "cusolver":
        calls |= {"cusolverDnXsyevBatched", "cusolverDnSetStream", "cudaEventRecord"}
    else:
        calls.add("cudaFuncGetAttributes")
    assert calls <= set(said)


def test_device_arrays(complete, runtime, kernel):
    """Of a library that knows DLPack alone: results in memory of our own, with records."""
    options = SolverOptions(max_iterations=1, algorithm=kernel.algorithm)
    batch = PlainArray(runtime, wavy(kernel.shape((2, 1, 6, 6))), 1)
    expected = complete(batch, options=options).numpy()

    said = fail_in_turn(
        runtime,
        lambda: complete(batch, options=options),
        expected,
        INVALID_VALUE,
        lambda result: result.numpy(),
    )
    check_words(said, INVALID_VALUE)
    assert {"cudaMalloc", "cudaLaunchKernelExC", "cudaMemcpyAsync"} <= set(said)


@pytest.mark.parametrize("call", ["cudaStreamWaitEvent", "cusolverDnSetStream"])
def test_a_handle_whose_work_goes_on_is_not_destroyed(cupy, runtime, call):
    """The next call on its stream borrows it, and fails before it has done anything."""
    options = SolverOptions(max_iterations=1, algorithm="cusolver")
    batch = cupy.ndarray(wavy((2, 1, 6, 6)))
    expected = splic_ext.complete(batch, options=options).numpy()
    failed = set()
    for at in range(1, 60):
        with cupy.cuda.Stream() as stream:
            result = splic_ext.complete(batch, options=options)
            runtime.fail(at)
            try:
                splic_ext.complete(batch, options=options)
            except (RuntimeError, MemoryError):
                failed.add(runtime.failed())
            runtime.fail(0)
            assert runtime.violations() == [], at
            assert np.array_equal(result.numpy(), expected)
        stream.close()
    assert call in failed


# ---- new processes ----

FRESH = """
import sys
sys.path[:0] = [{tests!r}]
from helpers import cuda_on_host
from helpers.cuda import wavy
runtime = cuda_on_host.install({place!r})
import numpy as np
import splic_ext

def complete(images, **options):
    options = splic_ext.SolverOptions(max_iterations=1, **options)
    return splic_ext.complete(images, options=options, backend="cuda")

"""


@pytest.fixture
def fresh(run_python):
    """Run code in a process where nothing is kept from other calls."""
    start = FRESH.format(tests=str(ROOT / "python_tests"), place=str(cuda_on_host.folder()))
    return lambda code: run_python(start + code)


@pytest.mark.parametrize(
    ("algorithm", "side", "call"),
    [
        ("cusolver", 6, "cusolverDnCreateParams"),
        ("fused", 6, "cudaFuncSetAttribute"),
        ("tiled", 6, "cudaFuncSetAttribute"),
        ("fused", 32, "cudaFuncSetAttribute"),
        ("fused", 70, "cudaFuncSetAttribute"),
    ],
)
def test_a_new_process(fresh, algorithm, side, call):
    """The first call makes what later ones find: handles, pinned memory, what a kernel may use."""
    code = (
        f"""
images = wavy((3, 1, {side}, {side}))
algorithm = {algorithm!r}
"""
        + """
splic_ext.backend_info()
names = []
for at in range(1, 500):
    if algorithm != "cusolver":
        runtime.call("cudaDeviceReset")  # what kernels may use is theirs no more
    runtime.fail(at)
    try:
        complete(images, algorithm=algorithm)
    except (RuntimeError, MemoryError):
        pass
    failed = runtime.failed()
    runtime.fail(0)
    if not failed:
        break
    left, (handles, parameters) = runtime.living(), runtime.handles()
    assert not runtime.violations(), failed
    assert left["device 0"] == left["streams"] == 0, (failed, left)
    assert left["events"] == handles == parameters, (failed, left, handles, parameters)
    names.append(failed)
print(*names)
"""
    )
    names = fresh(code).split()
    assert len(names) > 20
    assert call in names


# ---- memory ----


def test_less_memory_smaller_chunks(fresh):
    """Of the device, and of what can be pinned; and an error where one image is too many."""
    code = """
images = wavy((6, 1, 16, 16))
results = []
for place, room in ((2, 4500), (0, 9000), (2, 100), (0, 1000), (0, 0)):
    runtime.limit(0, 0)
    runtime.limit(2, 0)
    runtime.limit(place, room)
    try:
        results.append(complete(images, n_masks=2))
    except MemoryError as error:
        print(error)
    if room == 4500:
        runtime.limit(2, 1)
        try:
            complete(wavy((6, 1, 40, 40)), n_masks=2)  # frees what is kept
        except MemoryError as error:
            print(error)
assert len(results) == 3
assert all(np.array_equal(result, results[-1]) for result in results), results
assert not runtime.violations()
"""
    large, pinned, device = fresh(code).splitlines()
    for said in (large, pinned):
        assert re.match(
            r"the host has too little memory that CUDA can pin: .* needs \d+ bytes", said
        )
    assert re.match(r"the CUDA device has too little free memory: .* needs \d+ bytes", device)


def test_memory_that_is_kept_is_given_back_where_it_is_short(fresh):
    code = """
complete(wavy((2, 1, 12, 12)))
kept = runtime.living()["pinned bytes"]
large = wavy((2, 1, 16, 16))
runtime.limit(2, 3000)  # enough for the two buffers of the large ones, of 1,280 bytes, alone
result = complete(large)
runtime.limit(2, 0)
assert np.array_equal(complete(large), result)
print(kept)
"""
    assert 3000 - int(fresh(code)) < 1280


def test_no_memory_for_a_result(complete, runtime):
    batch = PlainArray(runtime, wavy((4, 1, 8, 8)))
    runtime.limit(0, 1500)
    with pytest.raises(MemoryError, match="the CUDA device has no 1024 bytes of free memory"):
        complete(batch)


def test_pinned_memory_is_kept(fresh):
    code = """
images = wavy((4, 1, 8, 8))
for batch in (images, images, images[:2], wavy((4, 3, 16, 16))):
    complete(batch)
    print(runtime.calls("cudaMallocHost"))
"""
    assert fresh(code).split() == ["2", "0", "0", "2"]


def test_a_reset_of_the_device(fresh):
    """Takes back what kernels were allowed, and frees what was pinned."""
    code = """
images = wavy((2, 3, 40, 40))  # in more shared memory than a kernel has unasked
expected = complete(images)
runtime.call("cudaDeviceReset")
assert np.array_equal(complete(images), expected)
assert not runtime.violations()
print("the same")
"""
    assert fresh(code) == "the same"


def test_handles_do_not_outlive_a_reset(fresh):
    """Those of before are neither used nor destroyed: what they point to is gone."""
    code = """
images, options = wavy((2, 1, 9, 9)), {"algorithm": "cusolver"}
expected, made = complete(images, **options), runtime.handles()[0]
runtime.call("cudaDeviceReset")
assert np.array_equal(complete(images, **options), expected)
assert not runtime.violations()
print(runtime.handles()[0] > made)
"""
    assert fresh(code) == "True"


# ---- errors that last ----

LASTING = """
for status in (0, {status}, 0):
    runtime.fail(status and {at}, status)
    try:
        print("done", complete(wavy((2, 1, 6, 6))).shape)
    except RuntimeError as error:
        print(error)
    if status:
        runtime.library.cuda_on_host_break(0, status)
"""


@pytest.mark.parametrize("status", [ILLEGAL_ADDRESS, 220, 999])
def test_an_error_that_lasts(fresh, status):
    """It is told of once as what it is, later as what it was: the process must be started anew."""
    first, second, third = fresh(LASTING.format(status=status, at=20)).splitlines()
    assert first == "done (2, 1, 6, 6)"
    assert re.fullmatch(
        r"the CUDA operation .* failed: .*; CUDA cannot be used any more in this process: start it "
        "anew",
        second,
    )
    assert third.startswith("CUDA cannot be used in this process since an earlier error; start it")
    assert second.split(";")[0] in third


# ---- the library ----


def test_a_library_that_is_too_old(fresh):
    code = """
for version in ((11, 7, 1), (13, 0, 0), (11, 7, 3)):
    runtime.cusolver.cusolver_on_host_version(*version)
    try:
        complete(wavy((2, 1, 6, 6)), algorithm="cusolver")
        print("done")
    except splic_ext.BackendUnavailableError as error:
        print(error)
"""
    first, second, third = fresh(code).splitlines()
    for said, version in ((first, "11.7.1"), (second, "13.0.0")):
        assert f"is version {version}, and 11.7.3 or later, below 13, is needed" in said
    assert third == "done"


def test_batches_of_cusolver_stay_below_its_limits(runtime):
    """Their matrices take less than 2^31 bytes; and asking for the workspace allocates nothing."""
    memory = splic_ext.arrays.memory.Memory(
        4096, (5000, 1, 512, 512), (1 << 20, 1 << 20, 2048, 4), 4, 0
    )
    splic_ext.complete(
        wavy((1, 1, 6, 6)),
        options=SolverOptions(max_iterations=1, algorithm="cusolver"),
        backend="cuda",
    )  # loads the library
    batch = splic_ext._cuda.DeviceBatch(
        memory, memory, "float32", None, seed=0, first_index=0, anchor_threshold=1 << 31,
        options={**SolverOptions().to_dict(), "rank": 8}, data_range=1.0, largest=1.0, empty=-1.0,
        algorithm="cusolver", device=0, stream=0, info=None,
    )  # fmt: skip
    for images in (1, 1023, 1024, 5000):
        assert batch.bytes(images) > images * 512 * 512 * 8
