"""What CMake decides: whether CUDA is built, for which GPUs, and why not."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from splic_ext.backends.cuda import BUILD

ROOT = Path(__file__).resolve().parent.parent
CMAKE = shutil.which("cmake")
COMPILER = shutil.which("g++") or shutil.which("clang++")

pytestmark = [
    pytest.mark.skipif(CMAKE is None, reason="CMake is not installed"),
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler is installed"),
    pytest.mark.skipif(not (ROOT / "CMakeLists.txt").is_file(), reason="no sources"),
    pytest.mark.skipif(
        importlib.util.find_spec("pybind11") is None, reason="pybind11 is not installed"
    ),
    pytest.mark.skipif(os.name == "nt", reason="the stand-ins are shell scripts"),
]

#: A driver with two GPUs of one kind; FAKE_STATUS is what it answers first.
DRIVER = """
#include <stdlib.h>
extern "C" {
int cuInit(unsigned) { const char *s = getenv("FAKE_STATUS"); return s ? atoi(s) : 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int) {
  *value = attribute == 75 ? 9 : 0;
  return 0;
}
}
"""
#: A compiler that says what nvcc says, and then does as BEHAVIOUR does.
NVCC = """#!/bin/sh
case "$*" in
  *--version*) VERSION ;;
  *--list-gpu-arch*) echo compute_80; echo compute_90 ;;
  *) BEHAVIOUR ;;
esac
"""


@pytest.fixture
def driver(tmp_path):
    """A folder with a driver that claims GPUs of compute capability 9.0."""
    source, folder = tmp_path / "driver.cpp", tmp_path / "driver"
    source.write_text(DRIVER)
    folder.mkdir()
    command = [COMPILER, "-shared", "-fPIC", source, "-o", folder / "libcuda.so.1"]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture
def nvcc(tmp_path):
    """Make an nvcc: what it prints as its version, and what it does when it compiles."""

    def make(version="echo 'Cuda compilation tools, release 13.0, V13.0.88'", behaviour="exit 3"):
        path = tmp_path / "nvcc"
        path.write_text(NVCC.replace("VERSION", version).replace("BEHAVIOUR", behaviour))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return make


@pytest.fixture
def configure(tmp_path):
    """Configure a build; return whether that worked, and what was said, on one line."""

    def run(*definitions, **variables):
        build = tmp_path / "build"
        shutil.rmtree(build, ignore_errors=True)
        environment = {key: value for key, value in os.environ.items() if "CUDA" not in key}
        environment.pop("LD_LIBRARY_PATH", None)
        import pybind11

        process = subprocess.run(
            [
                CMAKE, "-S", ROOT, "-B", build, f"-DPython_EXECUTABLE={sys.executable}",
                f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", f"-DCMAKE_CXX_COMPILER={COMPILER}",
                *(f"-D{definition}" for definition in definitions),
            ],
            env={**environment, **{key: str(value) for key, value in variables.items()}},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return process.returncode == 0, " ".join((process.stdout + process.stderr).split())

    return run


@pytest.fixture
def no_driver():
    """Skip where there is a real one: AUTO would find it."""
    import ctypes

    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return
    pytest.skip("this machine has an NVIDIA driver")


def test_auto_without_a_driver(configure, no_driver):
    done, said = configure()
    assert done
    assert "CUDA: not built: there is no NVIDIA driver (libcuda.so.1)" in said
    assert f"to build it all the same: {BUILD}" in said


def test_auto_with_a_driver_without_a_device(configure, driver):
    done, said = configure(LD_LIBRARY_PATH=driver, FAKE_STATUS=100)
    assert done
    assert "CUDA: not built: the NVIDIA driver finds no GPU (cuInit returned 100)" in said


@pytest.mark.parametrize(
    ("version", "behaviour", "reason"),
    [
        ("echo 'no licence' >&2; exit 1", "", "--version' failed with 1: no licence"),
        ("echo 'release 11.8, V11.8.89'", "", "is of CUDA 11.8, and 12 or later is needed"),
        ("echo 'clang version 19'", "", "is no nvcc"),
        ("echo 'release 13.0,'", "echo 'a \"b\"; $c' >&2; exit 3", "compile for 90: 3: a b c"),
    ],
)
def test_a_broken_nvcc_leaves_the_rest(configure, driver, nvcc, version, behaviour, reason):
    done, said = configure(
        LD_LIBRARY_PATH=driver, CUDACXX=nvcc(version=version, behaviour=behaviour or "exit 3")
    )
    assert done
    assert "CPU kernels: baseline" in said
    assert "CUDA: not built" in said
    assert reason in said


def test_on_fails_with_the_reason(configure, nvcc):
    done, said = configure("SPLIC_CUDA=ON", CUDACXX=nvcc(version="echo 'release 11.8, V11.8.89'"))
    assert not done
    assert "SPLIC_CUDA=ON, but" in said
    assert "12 or later is needed" in said
    # The second try of the installer says it again, and does not fall back to pure Python.
    done, said = configure("SPLIC_CUDA=ON", "SPLIC_PURE=ON", CUDACXX=nvcc(version="exit 1"))
    assert not done
    assert "SPLIC_CUDA=ON, but" in said


def test_off(configure, driver):
    done, said = configure("SPLIC_CUDA=OFF", LD_LIBRARY_PATH=driver)
    assert done
    assert "CUDA: not built: it was left out by SPLIC_CUDA=OFF" in said


def test_another_word_is_refused(configure):
    done, said = configure("SPLIC_CUDA=yes")
    assert not done
    assert "SPLIC_CUDA must be AUTO, ON or OFF, got 'yes'" in said
    assert not configure("SPLIC_CUDA=yes", "SPLIC_PURE=ON")[0]


def test_the_second_try_needs_no_compiler(configure):
    done, said = configure("SPLIC_PURE=ON", "CMAKE_CXX_COMPILER=/bin/false")
    assert done
    assert "installing the NumPy back end alone" in said


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
def test_auto_builds_for_the_gpu_that_is_here_alone(configure, driver):
    done, said = configure(LD_LIBRARY_PATH=driver)
    assert done
    assert "CUDA: 90-real --" in said


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
def test_on_takes_the_architectures(configure):
    done, said = configure("SPLIC_CUDA=ON", "CMAKE_CUDA_ARCHITECTURES=80-real")
    assert done
    assert "CUDA: 80-real --" in said
    done, said = configure("SPLIC_CUDA=ON")
    assert done
    assert "CUDA: 75-real, 80-real" in said
    assert "-virtual --" in said
