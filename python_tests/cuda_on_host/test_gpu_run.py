"""The whole run on a GPU (benchmarks/gpu_run.sh), against the module that runs on the host."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import cuda_on_host

import splic_ext

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
pytestmark = pytest.mark.skipif(
    not (BENCHMARKS / "gpu_run.sh").is_file(), reason="no benchmarks beside the tests"
)

#: Stand-ins for what looks into a program: they run it, and say what the tools of NVIDIA say.
SANITIZER = """#!/bin/sh
[ "$1" = --version ] && { echo Version 2025.3; exit; }
while [ "$1" != "$PYTHON" ]; do shift; done
"$@" && echo "========= ERROR SUMMARY: ${FOUND:-0} errors"
[ "${FOUND:-0}" = 0 ] || exit 9
"""
NCU = """#!/bin/sh
[ "$1" = --version ] && { echo Version 2025.3; exit; }
while [ "$1" != "$PYTHON" ]; do
  [ "$1" = --log-file ] && cat > "$2" <<'CSV'
"ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"
"0","warp_kernel<3, 8>(Problem)","Launch Statistics","Registers Per Thread","register/thread","168"
CSV
  shift
done
exec "$@"
"""
SMI = """#!/bin/sh
case "$*" in
  *--version*) echo NVIDIA-SMI 1.2 ;;
  *clocks.max.sm*) echo "CUDA on the host, 1.2, 9.0, 8192, 1000" ;;
  *) echo "500, 10.5, 40" ;;
esac
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Run it in its quick form with what a bundle would bring; return document, text, exit code."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    gpu_bundle = importlib.import_module("gpu_bundle")
    site, libraries, tools = (tmp_path / name for name in ("bundle/site", "lib", "bin"))
    gpu_bundle.copy_package(site)
    for path in [*cuda_on_host.folder().glob("*.so"), Path(splic_ext._core.__file__)]:
        shutil.copy(path, site / "splic_ext")
    libraries.mkdir()
    shutil.copy(cuda_on_host.folder() / "libsplic_cusolver.so", libraries / "libcusolver.so.12")
    (tmp_path / "bundle" / "wheels").mkdir()
    gpu_bundle.write_manifest(tmp_path / "bundle", ["host"], "none")
    tools.mkdir()
    for name, text in (("compute-sanitizer", SANITIZER), ("ncu", NCU), ("nvidia-smi", SMI)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    def run(*parts, **variables):
        # (pytest-benchmark would see that this is a process of pytest-xdist, and rest.)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        environment |= {"PYTHON": sys.executable, "LD_LIBRARY_PATH": str(libraries)}
        environment["PATH"] = f"{tools}{os.pathsep}{environment['PATH']}"
        words = [BENCHMARKS / "gpu_run.sh", "--quick", "--bundle", tmp_path / "bundle"]
        done = subprocess.run(
            [*words, tmp_path / "out", *parts],
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=480,
        )
        place = tmp_path / "out" / "gpu_run"
        text = place.with_suffix(".txt").read_text()
        assert text in done.stdout, done.stderr
        return json.loads(place.with_suffix(".json").read_text()), text, done.returncode

    return run


def test_the_run_measures_and_tells(start):
    document, text, failures = start("correct", "speed", "phases", "memcheck", "counters")
    parts = {part["part"]: (part["status"], part["said"]) for part in document["parts"]}
    assert failures == 0, parts
    assert parts["install"] == ("ok", "from the bundle")
    assert parts["correct"] == ("ok", "near the reference (quick, fused, tiled, cusolver)")
    assert parts["memcheck"] == ("ok", "ERROR SUMMARY: 0 errors")
    assert "QUICK: the numbers mean nothing." in text
    assert "device: CUDA on the host, compute capability 9.0" in text
    methods = {(row["test"], row["preset"], row["dtype"]) for row in document["benchmarks"]}
    assert methods == {
        ("test_cuda", "paper", "float32"),
        ("test_cuda_many", "paper", "uint8"),
        ("test_cuda_options", "recommended", "float32"),
        ("test_cuda_options", "paper", "float16"),
    }
    assert all(row["passed"] and row["images_per_second"] > 0 for row in document["benchmarks"])
    (many,) = (row for row in document["benchmarks"] if row["test"] == "test_cuda_many")
    assert many["bytes_in"] == many["bytes_out"] == 2 * 3 * 32 * 32
    kernels = [row["kernel"] for row in document["phases"]]
    assert kernels == ["96 x 32, rank 8", "general, 96 x 32, rank 9"]
    assert document["launches"]["96 x 32, rank 8"] == 4
    assert document["counters"] == {
        "96 x 32, rank 8": {"Registers Per Thread [register/thread]": 168}
    }
    # Arrays of the CPU are no measurement of a kernel; its registers are.
    assert [line["what"] for line in document["comparison"]] == ["96 x 32, rank 8: registers"]
    assert document["clocks"] == {"MHz": 500, "watts": 10.5, "degrees": 40}


def test_an_error_that_a_tool_finds_is_told(start):
    document, text, failures = start("racecheck", FOUND="3")
    (part,) = (part for part in document["parts"] if part["part"] == "racecheck")
    assert part["status"] == "failed"
    assert part["said"] == "failed with exit status 9: ERROR SUMMARY: 3 errors; see racecheck.log"
    assert part["said"] in text
    assert failures == 1


CMAKE = """#!/bin/sh
case "$1" in
  --version) echo cmake version 3.25 ;;
  --build) cp "$MODULES"/*.so "$2" ;;
  *) echo "$@" > "$MODULES/asked" ;;
esac
"""


@pytest.mark.parametrize("whole", [True, False])
def test_a_module_is_compiled_where_none_serves(tmp_path, monkeypatch, whole):
    """CMake is played: it makes the module that runs on the host, or half of it."""
    pytest.importorskip("pybind11", reason="pybind11 is not installed")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    gpu_run = importlib.import_module("gpu_run")
    folders = [tmp_path / name for name in ("out", "work", "made", "bin")]
    for folder in folders:
        folder.mkdir()
    for path in [*cuda_on_host.folder().glob("_cuda*.so"), Path(splic_ext._core.__file__)]:
        (folders[2] / path.name).write_bytes(path.read_bytes()[: None if whole else 1000])
    (folders[3] / "cmake").write_text(CMAKE)
    (folders[3] / "cmake").chmod(0o755)
    monkeypatch.setenv("MODULES", str(folders[2]))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(cuda_on_host.folder()))
    monkeypatch.setenv("PATH", f"{folders[3]}{os.pathsep}{os.environ['PATH']}")
    run = gpu_run.Run(*folders[:1], tmp_path / "none", folders[1], quick=True, flags="-DMORE")
    run.machine = {"capabilities": ["90"], "tools": dict.fromkeys(("nvcc", "cmake", "c++"), "1")}
    run.do("install", 60, run.install, False)
    (part,) = run.parts
    if whole:
        assert (part["status"], part["said"]) == ("ok", "compiled here for 90")
        assert run.module["devices"][0]["name"] == "CUDA on the host"
    else:
        assert part["status"] == "failed"
        assert part["said"].startswith("no module: it was compiled here for 90, and ")
    asked = (folders[2] / "asked").read_text()
    assert "-DCMAKE_CUDA_ARCHITECTURES=90-real" in asked
    assert "-DCMAKE_CUDA_FLAGS=-DMORE" in asked
