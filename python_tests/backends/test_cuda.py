"""The CUDA back end: what it says where it cannot run, and its environment."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import splic_ext
from splic_ext import SolverOptions
from splic_ext.arrays.memory import Memory
from splic_ext.backends.cuda import workspace_bytes


@pytest.fixture(scope="module")
def info():
    return splic_ext.backend_info()["cuda"]


def test_says_why_it_cannot_run(info):
    if info.available:
        pytest.skip("there is a GPU")
    assert info.reason
    assert "cuda" not in splic_ext.available_backends()
    with pytest.raises(splic_ext.BackendUnavailableError) as caught:
        splic_ext.complete(np.full((8, 8), 0.5), backend="cuda")
    assert info.reason in str(caught.value)


def test_lists_its_devices(info):
    module = pytest.importorskip("splic_ext._cuda", reason="the CUDA module was not built")
    status = module.status()
    assert status["available"] == info.available == bool(status["devices"])
    assert status["runtime"] >= 12000
    for device in info.details["devices"]:
        assert device["memory"] > 0
        assert device["shared_memory"] >= 48 << 10


def test_is_never_chosen_by_itself():
    assert splic_ext.available_backends()[0] != "cuda"


@pytest.mark.parametrize(("text", "expected"), [("", 512 << 20), ("64", 64 << 20)])
def test_workspace(monkeypatch, text, expected):
    monkeypatch.setenv("SPLIC_CUDA_WORKSPACE_MB", text)
    assert workspace_bytes() == expected


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", "9" * 30])
def test_wrong_workspace(monkeypatch, text):
    monkeypatch.setenv("SPLIC_CUDA_WORKSPACE_MB", text)
    with pytest.raises(ValueError, match="SPLIC_CUDA_WORKSPACE_MB must be an integer"):
        workspace_bytes()


def test_small_chunks_change_nothing(info, monkeypatch):
    if not info.available:
        pytest.skip(f"no GPU: {info.reason}")
    images = np.random.default_rng(0).random((300, 3, 32, 32), dtype=np.float32)
    whole = splic_ext.complete(images, backend="cuda")
    monkeypatch.setenv("SPLIC_CUDA_WORKSPACE_MB", "1")
    np.testing.assert_array_equal(splic_ext.complete(images, backend="cuda"), whole)


def test_a_device_that_is_not_there(info):
    """The error has the name of the operation."""
    module = pytest.importorskip("splic_ext._cuda", reason="the CUDA module was not built")
    if info.available:
        pytest.skip("there is a GPU")
    memory = Memory(4096, (1, 1, 8, 8), (256, 256, 32, 4), 4, 0)
    with pytest.raises(RuntimeError, match=r"the CUDA operation cuda\w+ failed: .+ \(cudaError"):
        module.DeviceBatch(
            memory,
            memory,
            "float32",
            None,
            seed=0,
            first_index=0,
            anchor_threshold=1 << 31,
            options=SolverOptions(rank=2).to_dict(),
            data_range=1.0,
            largest=1.0,
            empty=-1.0,
            algorithm="fused",
            device=0,
            stream=0,
            info=None,
        )


def test_an_error_that_lasts_is_told_of_with_its_origin(tmp_path):
    """The CUDA runtime is played by a few functions: an illegal access, met again and again."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    nvcc = shutil.which("nvcc")
    places = [Path(nvcc).resolve().parent.parent] if nvcc else []
    headers = [place / "include" for place in [*places, Path("/usr/local/cuda")]]
    headers = [place for place in headers if (place / "cuda_runtime_api.h").is_file()]
    if not compiler or not headers:
        pytest.skip("no C++ compiler, or no headers of the CUDA runtime")
    csrc = Path(__file__).resolve().parents[2] / "csrc"
    program = tmp_path / "errors"
    sources = [str(csrc / "tests" / "errors_on_host.cpp"), str(csrc / "cuda" / "errors.cpp")]
    command = [*compiler.split(), "-std=c++17", f"-I{csrc}", f"-I{headers[0]}", *sources]
    subprocess.run([*command, "-o", str(program), "-pthread"], check=True)
    said = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    again = "CUDA cannot be used any more in this process: start it anew"
    origin = (
        "a CUDA operation before this call of splic_ext has failed: as it says "
        "(cudaErrorIllegalAddress)"
    )
    assert said.splitlines() == [
        "nothing",
        "the CUDA operation copy failed: as it says (cudaErrorInvalidValue)",
        "nothing",
        f"{origin}; {again}",
        f"CUDA cannot be used in this process since an earlier error; start it anew. {origin}",
        "the CUDA operation copy failed: as it says (cudaErrorInvalidValue)",
    ]
