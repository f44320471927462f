"""Programs that run what the CUDA kernels run, on the host."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"
COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")


def build(folder, *flags, source="on_host"):
    """Compile a program of csrc/tests; skip where there is no compiler."""
    if not COMPILER:
        pytest.skip("no C++ compiler")
    program = folder / source
    command = [*COMPILER.split(), "-std=c++17", "-Wall", "-Wextra", "-Werror"]
    command += ["-Wno-unknown-pragmas", f"-I{CSRC}", f"-I{CSRC / 'include'}", *flags]
    command += [str(CSRC / "tests" / f"{source}.cpp"), "-o", str(program), "-pthread"]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode and "-fsanitize=thread" in flags:
        pytest.skip(f"no thread sanitizer: {built.stderr[-200:]}")
    assert built.returncode == 0, built.stderr
    return program


def run(program, images, options, method="fused", team=1, seed=0, mask=None, **more):
    """Complete (N, C, H, W) images; return them, and a row of records for each matrix.

    Iterations, residual and delta of each pass; least and largest value; failure of the library.
    """
    count, channels, height, width = images.shape
    source, target = program.parent / "in.bin", program.parent / "out.bin"
    given = b"" if mask is None else np.broadcast_to(mask, images.shape).tobytes()
    source.write_bytes(images.tobytes() + given)
    flags = {
        "rank": options.resolve_rank(height, width),
        "inner_iterations": options.inner_iterations,
        "max_iterations": options.max_iterations,
        "tv_weight": options.tv_weight,
        "delta_decay": options.delta_decay,
        "step_size": options.step_size,
        "tolerance": options.tolerance,
        "anchor_fraction": options.anchor_fraction,
        "alternate": int(options.alternate),
        "stacked": int(options.channels == "stacked"),
        "literal": int(options.gradient_step == "literal"),
        "forward": int(options.tv_gradient == "forward"),
        "seed": seed,
        "masked": int(mask is not None),
        "from_image": int(options.start == "image"),
        "first_delta": options.first_delta,
        "empty": -1.0 if options.empty_value is None else options.empty_value,
        **more,
    }
    shape = [str(n) for n in (count, channels, height, width)]
    precision = {"float32": "f32", "float64": "f64"}[images.dtype.name]
    command = [str(program), method, str(source), str(target), *shape, precision, str(team)]
    command += [f"{key}={value!r}" for key, value in flags.items()]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert "WARNING: ThreadSanitizer" not in ended.stderr, ended.stderr[:3000]
    records = np.array([line.split() for line in ended.stdout.splitlines()], float)
    return np.fromfile(target, images.dtype).reshape(images.shape), records


def smooth(shape, seed=0):
    """Return images of a few waves and some noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.linspace(0, 3, shape[-2])[:, None], np.linspace(0, 3, shape[-1])
    images = np.zeros(shape)
    for k in range(4):
        phase, amount = rng.random((2, *shape[:2], 1, 1))
        images += amount * np.cos(k * rows + 6 * phase) * np.cos((4 - k) * columns + phase)
    images += 0.05 * rng.standard_normal(shape)
    return np.clip(images / 4 + 0.5, 0, 1)
