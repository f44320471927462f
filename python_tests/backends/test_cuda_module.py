"""The compiled CUDA module, which imports without a device; and where it looks for cuSOLVER."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from splic_ext import SolverOptions
from splic_ext.backends import cusolver


@pytest.fixture(scope="module")
def compiled():
    return pytest.importorskip("splic_ext._cuda", reason="the CUDA module was not built")


def test_shared_reads_dlpack(compiled):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)[:, ::-1].transpose(2, 0, 1)
    shared = compiled.Shared(values.__dlpack__())
    assert shared.pointer == values.ctypes.data
    assert tuple(shared.shape) == values.shape
    assert tuple(shared.strides) == values.strides
    assert (shared.dtype, shared.itemsize, shared.device) == ("float32", 4, (1, 0))
    capsule = np.zeros(3, np.uint8).__dlpack__()
    compiled.Shared(capsule)
    with pytest.raises(TypeError, match="used_dltensor"):
        compiled.Shared(capsule)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32", "float64", "bool"])
def test_shared_knows_the_types(compiled, torch, dtype):
    tensor = torch.zeros(2, 3).to(getattr(torch, dtype))
    assert compiled.Shared(tensor.__dlpack__()).dtype == dtype


@pytest.mark.parametrize(
    ("channels", "side", "kib", "fits"),
    [
        (3, 32, 227, True),
        (3, 32, 16, True),  # by the kernel of one warp
        (3, 40, 227, True),
        (3, 40, 16, False),
        (3, 224, 227, False),
    ],
)
def test_fits_small_matrices_alone(compiled, channels, side, kib, fits):
    options = SolverOptions(rank=8).to_dict()
    given = {"dtype": "float32", "options": options, "shared": kib << 10}
    assert compiled.fits(channels=channels, height=side, width=side, **given) is fits


def test_cusolver_of_a_wrong_file(compiled, tmp_path):
    (tmp_path / "libcusolver.so.12").write_text("no library")
    with pytest.raises(RuntimeError, match=r"libcusolver\.so\.12: .*; libm\.so\.6 has no cusolver"):
        compiled.load_cusolver([str(tmp_path / "libcusolver.so.12"), "libm.so.6"])


def test_cusolver_of_this_machine(compiled, run_python):
    """All functions are found in the real library, in a process of its own."""
    code = """
from splic_ext import _cuda
from splic_ext.backends import cusolver
try:
    print("found", *cusolver.load(_cuda).values())
except RuntimeError as error:
    print("none:", error)
"""
    said = run_python(code)
    if said.startswith("none:"):
        pytest.skip(f"cuSOLVER is not installed: {said[6:]}")
    _, path, version = said.split()
    assert "libcusolver" in path
    assert (11, 7, 3) <= tuple(map(int, version.split("."))) < (13,)


def test_cusolver_is_looked_for(monkeypatch):
    """What cuda-pathfinder finds comes first; without it, or with nothing found, the names."""

    class Pathfinder:
        def __init__(self, path):
            self.abs_path = path

        def load_nvidia_dynamic_lib(self, name):
            assert name == "cusolver"
            if self.abs_path is None:
                raise RuntimeError("nothing found")
            return self

    monkeypatch.setattr(cusolver, "import_module", lambda _: Pathfinder("/somewhere/lib.so"))
    assert cusolver.candidates() == ("/somewhere/lib.so", *cusolver.NAMES)
    monkeypatch.setattr(cusolver, "import_module", lambda _: Pathfinder(None))
    assert cusolver.candidates() == cusolver.NAMES

    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(cusolver, "import_module", absent)
    assert cusolver.candidates() == cusolver.NAMES


def test_cusolver_is_declared_as_in_its_headers():
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if not compiler:
        pytest.skip("no C++ compiler")
    spec = importlib.util.find_spec("nvidia")
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    nvcc = shutil.which("nvcc")
    toolkits = [Path(nvcc).resolve().parent.parent] if nvcc else []
    toolkits += [Path("/usr/local/cuda")]
    found = [path for place in places for path in place.glob("*/include")]
    found += [path for place in toolkits for path in (place / "include",)]
    if not any((path / "cusolverDn.h").is_file() for path in found):
        pytest.skip("the headers of cuSOLVER are not installed")
    if not any((path / "cuda_runtime_api.h").is_file() for path in found):
        pytest.skip("the headers of the CUDA runtime are not installed")
    csrc = Path(__file__).resolve().parents[2] / "csrc"
    command = [*compiler.split(), "-std=c++17", "-fsyntax-only", f"-I{csrc}"]
    command += [f"-I{path}" for path in found]
    run = subprocess.run(
        [*command, str(csrc / "tests" / "cusolver_headers.cpp")], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[:3000]
