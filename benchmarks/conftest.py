"""One thread for every library unless a benchmark says otherwise; what each result records.

SPLIC_BENCH chooses how much is measured: "quick", "default" or "full" (see README.md). A file that
SPLIC_BENCH_ROWS names gets a line of JSON for each benchmark, as soon as it is over.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Generator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

#: Read by the BLAS and LAPACK libraries when they are loaded: set them before NumPy comes.
_THREADS = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
_UNPINNED = "numpy" in sys.modules and any(os.environ.get(k) != "1" for k in _THREADS)
os.environ.update(_THREADS)

import numpy as np  # noqa: E402

import splic_ext  # noqa: E402
from splic_ext.diagnostics import cpu_name  # noqa: E402

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # the benchmarks import workloads and peers

import workloads  # noqa: E402
from summary import Row, summary  # noqa: E402

ROWS = pytest.StashKey[list[Row]]()


def pytest_configure(config: pytest.Config) -> None:
    if find_spec("pytest_benchmark") is None:
        raise pytest.UsageError(
            "the benchmarks need pytest-benchmark: pip install 'splic-ext[test]'"
        )
    if _UNPINNED:
        raise pytest.UsageError(
            "NumPy was imported before its threads were pinned: run `pytest benchmarks` alone, or "
            f"set {', '.join(f'{key}=1' for key in _THREADS)}"
        )
    if workloads.FORM not in workloads.FORMS:
        raise pytest.UsageError(
            f"SPLIC_BENCH must be one of {', '.join(workloads.FORMS)}, got {workloads.FORM!r}"
        )
    config.addinivalue_line("markers", "full: left out of the default form (SPLIC_BENCH)")
    config.stash[ROWS] = []
    # The long table of pytest-benchmark only if it is asked for.
    if config.option.verbose <= 0 and not config.getoption("benchmark_columns", None):
        config.option.benchmark_quiet = True
    # pytest-benchmark warns of xdist, which disables it; that is no error of a benchmark.
    config.addinivalue_line(
        "filterwarnings", "default::pytest_benchmark.logger.PytestBenchmarkWarning"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out of the default form what takes long, and what would only be skipped."""
    if workloads.FORM != "default":
        return
    gpu = splic_ext.backend_info()["cuda"].available
    kept, left = [], []
    for item in items:
        slow, absent = item.get_closest_marker("full"), "cuda" in item.name and not gpu
        ours = HERE in item.path.parents
        (left if ours and (slow or absent) else kept).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Generator:
    """Mark a benchmark whose answer or bound was missed: its time is no result."""
    outcome = yield
    benchmark = getattr(item, "funcargs", {}).get("benchmark")
    if benchmark is not None and call.when == "call" and not outcome.get_result().skipped:
        benchmark.extra_info["passed"] = outcome.get_result().passed
        test = getattr(item, "originalname", item.name)
        row = {**benchmark.extra_info, "test": test}
        item.config.stash[ROWS].append(row)
        if place := os.environ.get("SPLIC_BENCH_ROWS"):
            if call.excinfo is not None:
                row = {**row, "failure": str(call.excinfo.value)[:500]}
            with Path(place).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: Any, config: pytest.Config
) -> Generator[None, None, None]:
    """Close with the table that a person wants, after what all others have to say."""
    yield
    lines = summary(config.stash[ROWS], environment())
    if not lines:
        return
    terminalreporter.section("SPLIC beside its peers", "=")
    if workloads.QUICK:
        lines = ["QUICK: these numbers mean nothing.", *lines]
    cuda = splic_ext.backend_info()["cuda"]
    if not cuda.available:
        lines.append(f"No GPU: {(cuda.reason or '').partition(';')[0]}.")
    if not workloads.FULL:
        lines.append("SPLIC_BENCH=full adds more sizes, batches, gradients, memory and training.")
    for line in lines:
        terminalreporter.write_line(line)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict) -> None:
    machine_info["node"] = ""  # the host name is nobody's business


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(
    config: pytest.Config, benchmarks: list, output_json: dict
) -> None:
    arguments = [str(a) for a in config.invocation_params.args]
    kept = [a for a in arguments if not re.match(r"/|--benchmark-json|--rootdir", a)]
    output_json.update(command=shlex.join(["pytest", *kept]), form=workloads.FORM)


@cache
def environment() -> dict[str, Any]:
    """Return what every result says of the machine and the versions."""
    try:
        import torch

        torch_version = torch.__version__
    except ImportError:
        torch_version = None
    return {
        "commit": _commit(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "simd": splic_ext.backend_info()["cpu"].details.get("simd"),
        "splic_ext": splic_ext.__version__,
        "numpy": np.__version__,
        "torch": torch_version,
        "python": platform.python_version(),
        "gpu": _gpu(),
    }


def _gpu() -> str | None:
    """Return the first GPU and what it runs under, or None."""
    details = splic_ext.backend_info()["cuda"].details
    if not details.get("devices"):
        return None
    versions = [
        f"CUDA {what} {details[what] // 1000}.{details[what] % 1000 // 10}"
        for what in ("driver", "runtime")
    ]
    return ", ".join([details["devices"][0]["name"], *versions])


def _commit() -> str | None:
    """Return the commit of the checkout, with a + if files differ from it, or None."""

    def git(*arguments: str) -> str:
        run = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True)
        return run.stdout.strip() if run.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+" if git("status", "--porcelain", "-uno") else "") if commit else None
    except OSError:
        return None


@pytest.fixture(autouse=True)
def _recorded(request: pytest.FixtureRequest) -> None:
    """Give every benchmark the extra_info of the environment, and one thread to torch."""
    if find_spec("torch") is not None:
        import torch

        torch.set_num_threads(1)
    if "benchmark" in request.fixturenames:
        extra_info = request.getfixturevalue("benchmark").extra_info
        extra_info.update(environment(), quick=workloads.QUICK)
