"""Peak memory of one call beyond its input and output, measured in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import workloads
from workloads import QUICK, check_answer, describe, find_case, load_images, record

import splic_ext

pytestmark = pytest.mark.full

CASE = find_case(32, 3)
MB = 1e6


def allowed_mb(threads: int) -> float:
    """Return what the native back end may take, in MB, whatever the batch."""
    return 64 + 2 * threads


def solve(backend: str, images: np.ndarray, out: np.ndarray, threads: int):
    """Complete with few iterations: their number makes no difference to the memory."""
    options = CASE.options.replace(max_iterations=1 if backend == "numpy" else 7)
    _, info = splic_ext.complete(
        images, options=options, backend=backend, threads=threads, out=out, return_info=True
    )
    return info


def memory_bytes() -> tuple[int, int]:
    """Return the resident memory of this process, now and at its peak.

    On Linux not ``ru_maxrss``, which starts at the memory of the parent process.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak *= 1 if sys.platform == "darwin" else 1024
        return peak, peak
    sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return int(sizes["VmRSS"]) * 1024, int(sizes["VmHWM"]) * 1024


def reset_peak() -> None:
    """Start the peak afresh where the system can; else the result is an upper bound."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_extra(backend: str, count: int, threads: int) -> int:
    """Return the bytes that a call adds to the peak; input and output are in memory before."""
    base = load_images(CASE, min(count, 500))
    solve(backend, base[:1, :, :2, :2].copy(), np.empty((1, 3, 2, 2), np.float32), 1)
    images = np.empty((count, *base.shape[1:]), np.float32)
    for i in range(count):
        images[i] = base[i % len(base)]
    out = np.full_like(images, 0.5)
    reset_peak()
    before, _ = memory_bytes()
    solve(backend, images, out, threads)
    return memory_bytes()[1] - before


@pytest.mark.parametrize("threads", workloads.thread_counts())
@pytest.mark.parametrize(
    ("backend", "batch"), [("cpu", 1000), ("cpu", 10_000), ("numpy", 1000)], ids=str
)
def test_memory(benchmark, backend: str, batch: int, threads: int) -> None:
    workloads.require_backend(backend)
    if backend == "numpy" and threads > 1:
        pytest.skip("the NumPy back end has no threads of its own")
    count = 4 if QUICK else batch
    command = [sys.executable, str(Path(__file__)), backend, str(count), str(threads)]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    run = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    peak_mb = json.loads(run.stdout) / MB

    images = load_images(CASE, count)
    out = np.empty_like(images)
    benchmark.group = f"peak memory, {CASE}"
    benchmark.extra_info.update(describe(CASE, backend, threads), batch=batch)
    info = benchmark.pedantic(solve, args=(backend, images, out, threads), rounds=1)
    options = CASE.options.replace(max_iterations=int(info.iterations.max()))
    benchmark.extra_info.update(check_answer(CASE, backend, out, options))
    benchmark.extra_info["peak_extra_mb"] = peak_mb
    record(benchmark, count, int(info.iterations.sum()))
    if backend == "cpu":
        assert peak_mb < allowed_mb(threads)


if __name__ == "__main__":
    print(json.dumps(peak_extra(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
