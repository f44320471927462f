"""The native back end from one image to ten thousand, on one thread and on several."""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import pytest
import workloads
from workloads import QUICK, check_answer, describe, find_case, load_images, ratio, record

import splic_ext

pytestmark = pytest.mark.full

BACKEND = "cpu"
CASE = find_case(32, 3)
#: A call that would take longer than this runs fewer iterations.
LONGEST_CALL = 20.0


def complete(images: np.ndarray, options: splic_ext.SolverOptions, threads: int):
    """Complete as a user does: the masks are drawn by the library."""
    return splic_ext.complete(
        images, options=options, backend=BACKEND, threads=threads, return_info=True
    )


def seconds_of(images: np.ndarray, options: splic_ext.SolverOptions, threads: int) -> float:
    start = time.perf_counter()
    complete(images, options, threads)
    return time.perf_counter() - start


@pytest.mark.parametrize("threads", workloads.thread_counts())
@pytest.mark.parametrize("batch", [1, 4, 16, 64, 256, 1000, 10_000])
def test_batch(benchmark, batch: int, threads: int) -> None:
    """Throughput by batch size; for one image, the latency of a call."""
    workloads.require_backend(BACKEND)
    images = load_images(CASE, min(batch, 4) if QUICK else batch)
    options = CASE.options
    sample = min(len(images), 64)
    complete(images[:sample], options, threads)
    expected = seconds_of(images[:sample], options, threads) * len(images) / sample
    if expected > LONGEST_CALL:
        options = options.replace(max_iterations=7)
    rounds = 1 if QUICK or expected > 1 else min(100, max(5, round(0.5 / expected)))

    benchmark.group = f"batch size, {CASE}, {threads} thread{'s' if threads > 1 else ''}"
    benchmark.extra_info.update(describe(CASE, BACKEND, threads), batch=batch)
    completed, info = benchmark.pedantic(complete, args=(images, options, threads), rounds=rounds)
    benchmark.extra_info.update(check_answer(CASE, BACKEND, completed, options))
    seconds = record(benchmark, len(images), int(info.iterations.sum()))
    if batch == 1 and seconds:
        benchmark.extra_info["latency_ms"] = 1e3 * median(seconds)


@pytest.mark.skipif(len(workloads.thread_counts()) < 2, reason="one processor only")
def test_two_threads_over_one(benchmark) -> None:
    """Gain of the second thread, each ratio from two calls next to each other."""
    workloads.require_backend(BACKEND)
    images = load_images(CASE, 4 if QUICK else 512)
    options, single = CASE.options, []
    rounds = 1 if QUICK else 5

    benchmark.group = f"two threads over one, {CASE}"
    benchmark.extra_info.update(describe(CASE, BACKEND, threads=2), batch=len(images))
    completed, info = benchmark.pedantic(
        complete,
        args=(images, options, 2),
        setup=lambda: single.append(seconds_of(images, options, 1)),
        rounds=rounds,
        warmup_rounds=1,
    )
    benchmark.extra_info.update(check_answer(CASE, BACKEND, completed))
    own = record(benchmark, len(images), int(info.iterations.sum()))
    if own:
        benchmark.extra_info["speedup_over_one_thread"] = ratio(single, own)
