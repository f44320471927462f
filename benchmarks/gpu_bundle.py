"""Put into one folder what a machine with a GPU and no network needs for gpu_run.sh.

    python benchmarks/gpu_bundle.py [FOLDER] [--python python3.12 ...] [--arch 80 90 ...]

FOLDER (build/gpu_bundle, which git ignores) gets the package with the modules that nvcc makes here,
for each Python; wheels of what its tests need; and images. The folder and the tracked files of the
checkout, which go with it, must not take more than --limit (64) MiB. Needs nvcc, CMake, a C++
compiler, and for this Python pybind11. No GPU.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "gpu_bundle"
MODULES = ("_core", "_cuda")
#: What the tests and the benchmarks import, and with pybind11, what a build there needs.
NEEDS = ("numpy", "pytest", "pytest-benchmark", "pytest-xdist", "hypothesis", "pybind11")
ARCHITECTURES = ("90",)
LIMIT_MIB = 64
#: Real images that the tests of the back ends ask for.
IMAGES = ("cifar10_test_lossless.npz", "svhn_subset_test.npz")
#: Photographs of scikit-image, for machines that lack it.
PHOTOGRAPH_SIZES = (112, 224)


def suffix_of(python: str) -> str:
    """Return how the modules of a Python end, as in ".cpython-312-x86_64-linux-gnu.so"."""
    code = "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))"
    return run([python, "-c", code]).strip()


def run(words: Sequence[str | Path], **more: Any) -> str:
    """Run a command; return what it prints, or raise RuntimeError with the end of it."""
    try:
        done = subprocess.run(
            [str(word) for word in words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **more,
        )
    except OSError as error:
        raise RuntimeError(f"{words[0]} cannot be run: {error}") from error
    if done.returncode:
        shown = shlex.join(str(word) for word in words)
        raise RuntimeError(f"`{shown}` has failed:\n{done.stdout[-3000:]}")
    return done.stdout


def copy_package(site: Path) -> None:
    """Copy the package to a folder, without what was compiled."""
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(ROOT / "splic_ext", site / "splic_ext", ignore=ignored, dirs_exist_ok=True)


def build(
    site: Path,
    folder: Path,
    python: str,
    architectures: Sequence[str],
    pybind11: str,
    flags: str = "",
    jobs: int = 2,
) -> None:
    """Compile the modules for a Python, and copy them beside the package in `site`.

    Kernels know nothing of Python: in the same `folder` they are compiled for the first one alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "CMakeCache.txt").unlink(missing_ok=True)
    words = ["cmake", "-S", ROOT, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", "-DSPLIC_CUDA=ON"]
    words += [f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(f'{a}-real' for a in architectures)}"]
    words += [f"-DPython_EXECUTABLE={shutil.which(python) or python}", f"-Dpybind11_DIR={pybind11}"]
    words += [f"-DCMAKE_CUDA_FLAGS={flags}", *(["-GNinja"] if shutil.which("ninja") else [])]
    run(words)
    run(["cmake", "--build", folder, "--parallel", str(jobs), "--target", *MODULES])
    for name in MODULES:
        shutil.copy(folder / f"{name}{suffix_of(python)}", site / "splic_ext")


def fetch_wheels(folder: Path, python: str) -> None:
    """Download the wheels for a Python, from the index that pip is set up with."""
    run([python, "-m", "pip", "download", "-q", "--only-binary=:all:", "-d", folder, *NEEDS])


def copy_images(folder: Path) -> None:
    """Copy the images that the benchmarks and tests look for, as far as they are here."""
    if find_spec("splic_ext") is None:
        sys.path.append(str(ROOT))
    folder.mkdir(parents=True, exist_ok=True)
    if find_spec("numpy") is None or find_spec("pytest") is None:
        raise RuntimeError(
            "this Python lacks NumPy or pytest; install splic-ext with its extra test"
        )
    import numpy as np
    import workloads

    for name in IMAGES:
        if (workloads.SHARED / "data" / name).is_file():
            shutil.copy(workloads.SHARED / "data" / name, folder)
    if find_spec("skimage"):
        sizes = {str(size): workloads.photographs(size) for size in PHOTOGRAPH_SIZES}
        np.savez_compressed(folder / workloads.PHOTOGRAPHS.name, **sizes)


def commit() -> str | None:
    """Return the commit of the checkout, with a + if tracked files differ from it, or None."""
    try:
        found = run(["git", "-C", ROOT, "rev-parse", "HEAD"]).strip()
        changed = run(["git", "-C", ROOT, "status", "--porcelain", "-uno"]).strip()
    except RuntimeError:
        return None
    return found + ("+" if changed else "")


def write_manifest(folder: Path, architectures: Sequence[str], compiler: str) -> dict[str, Any]:
    """Note what the bundle was made of; return it."""
    manifest = {
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "architectures": list(architectures),
        "compiler": compiler,
        "modules": sorted(path.name for path in (folder / "site" / "splic_ext").glob("*.so")),
        "wheels": sorted(path.name for path in (folder / "wheels").glob("*.whl")),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def tracked_files() -> list[Path]:
    """Return the tracked files of the checkout; none outside one."""
    try:
        names = run(["git", "-C", ROOT, "ls-files", "-z"]).split("\0")
    except RuntimeError:
        return []
    return [path for path in (ROOT / name for name in names if name) if path.is_file()]


def check_size(folder: Path, limit_mib: float) -> str:
    """Return what the bundle takes; raise RuntimeError beyond the limit."""
    own = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    ours, others = sum(own.values()), sum(path.stat().st_size for path in tracked_files())
    mib = 1 << 20
    if ours + others > limit_mib * mib:
        largest = sorted(own, key=lambda path: -own[path])[:5]
        listed = ", ".join(f"{path.name} {own[path] / mib:.1f}" for path in largest)
        raise RuntimeError(
            f"the bundle takes {ours / mib:.1f} MiB and the checkout {others / mib:.1f}, more than "
            f"the limit of {limit_mib:g} MiB; name fewer --python or --arch (largest: {listed})"
        )
    return f"{ours / mib:.1f} MiB, and {others / mib:.1f} MiB of tracked files"


def main(given: Sequence[str] | None = None) -> int:
    """Make the bundle."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--python", nargs="+", default=[sys.executable], metavar="PYTHON")
    parser.add_argument("--arch", nargs="+", default=list(ARCHITECTURES), metavar="NUMBER")
    parser.add_argument("--limit", type=float, default=LIMIT_MIB, metavar="MIB")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-wheels", action="store_true", help="the machine has all of them")
    wanted = parser.parse_args(given)
    if wrong := [name for name in wanted.arch if not re.fullmatch(r"\d{2,3}[af]?", name)]:
        parser.error(f"--arch: expected numbers such as 90, got {wrong[0]!r}")
    folder = wanted.folder.resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / "manifest.json").is_file():
        parser.error(f"{folder} is no bundle, and not empty; name another folder")
    try:
        pybind11 = run([sys.executable, "-m", "pybind11", "--cmakedir"]).strip()
        compiler = run(["nvcc", "--version"]).strip().splitlines()[-1]
        shutil.rmtree(folder, ignore_errors=True)
        site, wheels = folder / "site", folder / "wheels"
        wheels.mkdir(parents=True)
        write_manifest(folder, wanted.arch, compiler)  # a bundle from now on, if not a whole one
        copy_package(site)
        copy_images(folder / "shared" / "data")
        for python in wanted.python:
            build(site, ROOT / "build" / "gpu", python, wanted.arch, pybind11, jobs=wanted.jobs)
            if not wanted.no_wheels:
                fetch_wheels(wheels, python)
        write_manifest(folder, wanted.arch, compiler)
        print(f"{folder}: {check_size(folder, wanted.limit)}")
    except RuntimeError as error:
        print(f"{Path(__file__).name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
