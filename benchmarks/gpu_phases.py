"""Where the time of a completion on a GPU goes: copies, what a call costs, what an iteration costs.

    python benchmarks/gpu_phases.py times     # print a line of JSON for each
    python benchmarks/gpu_phases.py launches  # one call of each kernel, to be run under ncu

Every iteration is made (tolerance 0). The time of a call over its iterations is a line: its slope
is the iteration, and its rest the call. One image alone shows how long a matrix takes; many, how
many a GPU completes. Times are those of the host, which waits for the device.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from bench_cuda import GENERAL_RANK, library
from workloads import QUICK, Case, find_case, load_images

import splic_ext
from splic_ext import SolverOptions

STACKED, SEPARATE = find_case(32, 3), find_case(32, 3, "separate")
#: The kernel and what it completes; counts of images, of which the last keeps a GPU busy.
KERNELS: dict[str, tuple[Case, int, tuple[int, ...]]] = {
    "96 x 32, rank 8": (STACKED, 8, (1, 16384)),
    "32 x 32, rank 8": (SEPARATE, 8, (1, 8192)),
    "96 x 32, rank 12": (STACKED, 12, (1, 16384)),
    f"general, 96 x 32, rank {GENERAL_RANK}": (STACKED, GENERAL_RANK, (1, 16384)),
    "general, 192 x 64, rank 16": (find_case(64, 3), 16, (1, 2048)),
}
ITERATIONS = (1, 2) if QUICK else (14, 28, 56)
REPEATS = 1 if QUICK else 5
if QUICK:
    few = ("96 x 32, rank 8", f"general, 96 x 32, rank {GENERAL_RANK}")
    KERNELS = {name: (*KERNELS[name][:2], (1,)) for name in few}
#: Launches that ncu looks at: 12 rounds or so of the warps that an H200 has room for.
LOOKED_AT = 1 if QUICK else 16384


def timed(call: Callable[[], Any]) -> float:
    """Return the median of the seconds of a call, after one to warm up."""
    call()
    seconds = []
    for _ in range(REPEATS):
        start = perf_counter()
        call()
        seconds.append(perf_counter() - start)
    return median(seconds)


def options_of(case: Case, rank: int, iterations: int) -> SolverOptions:
    given = {"channels": case.mode, "rank": rank, "max_iterations": iterations}
    return SolverOptions(tolerance=0.0, algorithm="fused", **given)


def put(images: np.ndarray) -> tuple[Any, Callable[[], None], str]:
    """Return images where a library has a GPU, how to wait for it, and where they are."""
    its = library("torch") or library("cupy")
    if its is None:
        return images, lambda: None, "CPU, copies included"
    return its.put(images), its.wait, "GPU"


def line(xs: list[int], ys: list[float]) -> tuple[float, float]:
    """Return slope and intercept of the line of least squares."""
    slope, rest = np.polyfit(xs, ys, 1)
    return float(slope), float(rest)


def completion(name: str, case: Case, rank: int, count: int) -> dict[str, Any]:
    """Time calls of a kernel with several numbers of iterations."""
    batch, wait, where = put(load_images(case, count))

    def call(iterations: int) -> None:
        options = options_of(case, rank, iterations)
        splic_ext.complete(batch, options=options, backend="cuda")
        wait()

    seconds = [timed(lambda n=n: call(n)) for n in ITERATIONS]  # type: ignore[misc]
    slope, rest = line(list(ITERATIONS), seconds)
    matrices = count * case.matrices_per_image
    return {
        "phase": "completion",
        "kernel": name,
        "images": count,
        "matrices": matrices,
        "arrays": where,
        "iterations": list(ITERATIONS),
        "seconds": seconds,
        "us_per_matrix_iteration": 1e6 * slope / (2 * matrices),  # of two passes
        "us_besides": 1e6 * rest,
    }


def copies(count: int) -> list[dict[str, Any]]:
    """Time what a library takes to bring images to the GPU and back, from pageable memory."""
    its = library("torch") or library("cupy")
    if its is None:
        return []
    images = load_images(STACKED, count)
    batch = its.put(images)

    def up() -> None:
        its.put(images)
        its.wait()

    return [
        {"phase": phase, "bytes": images.nbytes, "seconds": timed(call), "library": its.name}
        for phase, call in (("to the GPU", up), ("from the GPU", lambda: its.get(batch)))
    ]


def times() -> None:
    for row in copies(4 if QUICK else 16384):
        print(json.dumps(row), flush=True)
    for name, (case, rank, counts) in KERNELS.items():
        for count in counts:
            print(json.dumps(completion(name, case, rank, count)), flush=True)


def launches() -> None:
    """Call each kernel of small images once; print how many iterations of matrices it made."""
    made = {}
    iterations = ITERATIONS[-1]
    for name, (case, rank, _) in KERNELS.items():
        if case.size > 32:
            continue
        batch, wait, _ = put(load_images(case, LOOKED_AT))
        options = options_of(case, rank, iterations)
        splic_ext.complete(batch, options=options, backend="cuda")
        wait()
        made[name] = LOOKED_AT * case.matrices_per_image * 2 * iterations
    print(json.dumps(made))


if __name__ == "__main__":
    if sys.argv[1:] not in (["times"], ["launches"]):
        sys.exit(__doc__)
    times() if sys.argv[1] == "times" else launches()
