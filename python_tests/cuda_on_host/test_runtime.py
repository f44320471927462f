"""The runtime for the host: kernels with a fault are found, sound ones are not."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import cuda_on_host
from helpers.cuda_on_host import DOWN, UP, Block, CudaCallError

SOURCE = Path(__file__).parents[2] / "csrc" / "tests" / "cuda_on_host" / "probe.cu"
COUNT = 64
LANES = np.arange(COUNT) % 32

SOUND = {
    "reverse": np.arange(COUNT)[::-1],
    "add_up": np.where(np.arange(COUNT) < 32, 496, 1520),
    "by_halves": np.where(LANES < 16, LANES ^ 1, -(LANES ^ 1)),
}
ILLEGAL, FAILURE, TIMEOUT = (
    "cudaErrorIllegalAddress",
    "cudaErrorLaunchFailure",
    "cudaErrorLaunchTimeout",
)
#: Kernel -> the error that the stream meets, what is noted. Without either, poison is read.
FAULTY = {
    "some_miss_the_barrier": (
        TIMEOUT,
        "waits for ever: .*at __syncthreads.* from thread 40 on: ended",
    ),
    "two_barriers_are_no_one": (TIMEOUT, "waits for ever: .*at __syncthreads.*at __syncthreads"),
    "ends_before_the_barrier": (TIMEOUT, "waits for ever: .*from thread 7 on: ended"),
    "shuffle_without_a_lane": (TIMEOUT, "waits for ever: .*a shuffle .*from thread 9 on: ended"),
    "shuffle_outside_its_mask": (FAILURE, "a thread is not in the mask of a shuffle"),
    "shuffle_reads_beside_its_mask": (FAILURE, "reads lane 16, which is not in its mask"),
    "beyond_shared": (ILLEGAL, "an access beyond the shared memory"),
    "before_shared": (None, "a kernel has written before its shared memory"),
    "beyond": (ILLEGAL, "an access to 0 bytes beyond memory of 256 bytes of device 0"),
    "far_beyond": (ILLEGAL, "an access to .* bytes beyond memory of 256 bytes of device 0"),
    "before": (None, "something was written before memory of 256 bytes"),
    "of_another_device": (ILLEGAL, r"an access to byte \d+ of memory of 256 bytes of device 1"),
}
POISONED = (
    "reads_what_nobody_wrote", "reads_what_the_last_block_wrote", "lacks_a_barrier",
    "lacks_a_warp_barrier",
)  # fmt: skip


def numbers():
    listed = re.search(r"kKernels\[\] = \{(.*?)\}", SOURCE.read_text(encoding="utf-8"), re.S)[1]
    return {name.strip(): number for number, name in enumerate(listed.split(","))}


@pytest.fixture
def probe(runtime):
    """Run a kernel; return what it leaves, the error of its stream, and what was noted."""
    place = cuda_on_host.folder() / "libsplic_probe.so"
    library = ctypes.CDLL(str(place))

    def run(name, size=4 * COUNT):
        memory, other = Block(runtime, size, 0), Block(runtime, 4 * COUNT, 1)
        stream, values, error = runtime.stream(), np.zeros(COUNT, np.float32), None
        pointers = (ctypes.c_void_p(block.ptr) for block in (memory, other))
        assert library.probe(numbers()[name], *pointers, ctypes.c_void_p(stream)) == 0
        try:
            runtime.synchronize(stream)
            runtime.copy(values.ctypes.data, memory.ptr, size, DOWN, stream)
        except CudaCallError as caught:
            error = str(caught)
            runtime.library.cuda_on_host_break(0, 0)  # no more of that error
        runtime.destroy(stream)
        return values, error, "\n".join(runtime.violations())

    return run


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SOUND)
def test_sound_kernels(probe, runtime, name, seed):
    runtime.seed(seed)
    values, error, noted = probe(name)
    assert (error, noted) == (None, "")
    assert np.array_equal(values, SOUND[name])


def test_shuffles_and_votes(probe):
    lane = LANES.astype(float)
    up = lane + np.where(lane == 0, 0, lane - 1)
    down = up + np.where(lane == 31, up, np.roll(up, -1))
    values, error, noted = probe("by_lanes")
    assert (error, noted) == (None, "")
    assert np.array_equal(values, down + lane // 8 * 8 + 5 + 1000)


@pytest.mark.parametrize("name", FAULTY)
def test_faulty_kernels(probe, name):
    expected, words = FAULTY[name]
    _, error, noted = probe(name)
    assert re.search(words, noted), noted
    assert error == (expected and f"cudaStreamSynchronize: {expected}")


def test_a_few_bytes_too_many(probe):
    """Between the end of an allocation and that of its page."""
    _, error, noted = probe("reverse", 200)
    assert error is None
    assert noted == "something was written behind memory of 200 bytes"


@pytest.mark.parametrize("name", POISONED)
def test_what_was_not_written_is_no_number(probe, runtime, name):
    found = []
    for seed in range(8):
        runtime.seed(seed)
        values, error, noted = probe(name)
        assert (error, noted) == (None, "")
        found.append(np.isnan(values).any())
    assert any(found)


def test_all_kernels_are_tried():
    assert {*SOUND, *FAULTY, *POISONED, "by_lanes"} == set(numbers())


# ---- memory ----


def test_memory_of_a_device_is_not_of_the_host(runtime, run_python):
    """It ends the process, as on a machine with a GPU."""
    code = f"""
import ctypes, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from helpers import cuda_on_host
runtime = cuda_on_host.install({str(cuda_on_host.folder())!r})
block = cuda_on_host.Block(runtime, 64, 1)
print("so far", flush=True)
ctypes.string_at(block.ptr + 8, 1)
"""
    with pytest.raises(AssertionError) as caught:
        run_python(code)
    said = "code of the host touches byte 8 of memory of 64 bytes of device 1"
    assert said in str(caught.value)


def test_memory_is_given_back_once(runtime):
    pointer = runtime.malloc(100)
    runtime.free(pointer)
    with pytest.raises(CudaCallError):
        runtime.free(pointer)
    assert runtime.violations() == ["cudaFree of freed memory of 100 bytes of device 0"]
    with pytest.raises(CudaCallError):
        runtime.copy(pointer, np.zeros(100, np.uint8).ctypes.data, 100, UP)
    (noted,) = runtime.violations()
    assert "a copy of 100 bytes reaches freed memory of 100 bytes of device 0" in noted


def test_copies_are_checked(runtime):
    host = np.zeros(100, np.uint8).ctypes.data
    own, other = Block(runtime, 64, 0), Block(runtime, 64, 1)
    stream = runtime.stream()
    for arguments in (
        (own.ptr, host, 65, UP),
        (own.ptr + 1, host, 64, UP),
        (own.ptr, host, 64, DOWN),
        (other.ptr, host, 64, UP),
        (host, host, 64, UP),
    ):
        with pytest.raises(CudaCallError):
            runtime.copy(*arguments, stream)
        assert len(runtime.violations()) == 1
    runtime.destroy(stream)
    with pytest.raises(CudaCallError):
        runtime.synchronize(stream)
    assert runtime.violations() == ["a stream is used that does not exist"]


def test_streams_are_not_ordered_by_chance(runtime):
    """Without an event, two streams come in both orders; with one, in one."""
    for ordered in (False, True):
        found = set()
        for seed in range(12):
            runtime.seed(seed)
            block, values = Block(runtime, 1, 0), np.arange(2, dtype=np.uint8)
            first, second = runtime.stream(), runtime.stream()
            runtime.copy(block.ptr, values.ctypes.data, 1, UP, first)
            if ordered:
                runtime.wait(second, first)
            runtime.copy(block.ptr, values.ctypes.data + 1, 1, UP, second)
            for stream in (second, first):
                runtime.synchronize(stream)
                runtime.destroy(stream)
            runtime.copy(values.ctypes.data, block.ptr, 1, DOWN)
            found.add(int(values[0]))
        assert found == ({1} if ordered else {0, 1})


def test_the_legacy_stream_waits_for_all_but_non_blocking_ones(runtime):
    for flags, expected in ((0, {1}), (1, {0, 1})):
        found = set()
        for seed in range(12):
            runtime.seed(seed)
            block, values = Block(runtime, 1, 0), np.arange(2, dtype=np.uint8)
            stream = runtime.stream(flags)
            runtime.copy(block.ptr, values.ctypes.data, 1, UP, stream)
            runtime.copy(block.ptr, values.ctypes.data + 1, 1, UP)
            runtime.synchronize()
            runtime.synchronize(stream)
            runtime.destroy(stream)
            runtime.copy(values.ctypes.data, block.ptr, 1, DOWN)
            found.add(int(values[0]))
        assert found == expected
