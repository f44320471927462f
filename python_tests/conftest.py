"""Fixtures shared by the tests: back ends, reference, real data, a fresh interpreter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from helpers.data import write_cifar

import splic_ext
from splic_ext import SolverOptions

ROOT = Path(__file__).resolve().parent.parent

hypothesis.settings.register_profile(
    "ci", deadline=None, derandomize=True, database=None, max_examples=100, print_blob=True
)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# A shell ignores Ctrl-C in what it starts in the background, nohup ignores SIGHUP, and so would the
# commands under test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@dataclass(frozen=True)
class Row:
    """A back end at one computing precision, with its error bounds.

    `mean` and `largest` bound the absolute error against the float64 reference, in units of the
    data range and as multiples of the machine epsilon of `precision`. The largest is far above
    the mean because the rank cut magnifies rounding errors wherever s_r is close to s_{r+1}.
    """

    name: str
    precision: str
    mean_eps: float
    largest_eps: float

    def __str__(self) -> str:
        return f"{self.name}-{self.precision}"

    @property
    def dtype(self) -> np.dtype:
        """Element type of a batch that makes the back end compute in this precision."""
        return np.dtype(self.precision)

    @property
    def eps(self) -> float:
        return float(np.finfo(self.precision).eps)

    @property
    def mean(self) -> float:
        return self.mean_eps * self.eps

    @property
    def largest(self) -> float:
        return self.largest_eps * self.eps

    def complete(self, batch, mask=None, **arguments):
        return splic_ext.complete(batch, mask, backend=self.name, **arguments)

    def check(self, result, expected, data_range=1.0, factor=1.0):
        """Assert that a result is finite and within the bounds of the expected values."""
        result = np.asarray(result, dtype=np.float64)
        expected = np.asarray(expected, dtype=np.float64)
        assert result.shape == expected.shape
        assert np.isfinite(result).all()
        error = np.abs(result - expected) / data_range
        # A handful of pixels is no mean: one of them may carry the largest error.
        few = max(1.0, 256 / error.size)
        assert error.mean() <= factor * few * self.mean, f"mean {error.mean():.3g}"
        assert error.max() <= factor * self.largest, f"largest {error.max():.3g}"


# On any image at all, float32: mean 1.2e-4, largest 2.0e-3; float64: mean 1.5e-8, largest 9.5e-7:
# native solvers stop their decompositions early. Images with a decaying spectrum do far better,
# see REAL_IMAGES in backends/test_native.py. The reference is its own oracle, up to rounding.
ROWS = (
    Row("numpy", "float64", 2**6, 2**14),
    Row("cpu", "float32", 2**10, 2**14),
    Row("cpu", "float64", 2**26, 2**32),
    Row("cuda", "float32", 2**10, 2**14),
    Row("cuda", "float64", 2**26, 2**32),
)


def pytest_addoption(parser):
    parser.addoption(
        "--require-backend",
        metavar="NAME",
        action="append",
        default=[],
        help="fail, rather than skip, where back end NAME is absent (repeatable)",
    )


def pytest_configure(config):
    known = set(splic_ext.backend_info())
    unknown = sorted(set(config.getoption("--require-backend")) - known)
    if unknown:
        raise pytest.UsageError(
            f"--require-backend {unknown[0]}: no such back end, known are {sorted(known)}"
        )


def _demand(request, name):
    info = splic_ext.backend_info()[name]
    if not info.available:
        reason = f"back end {name!r} cannot run here: {info.reason}"
        if name in request.config.getoption("--require-backend"):
            pytest.fail(f"{reason}; --require-backend {name} was given")
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def _own_code_of_one_test():
    """Forget `mine.py` of a working folder, which the next test may have, too."""
    yield
    sys.modules.pop("mine", None)


@pytest.fixture(scope="session", params=ROWS, ids=str)
def backend(request):
    """Every back end at every precision."""
    _demand(request, request.param.name)
    return request.param


@pytest.fixture(scope="session", params=[row for row in ROWS if row.name != "numpy"], ids=str)
def native(request):
    """The compiled back ends, which are compared with the reference."""
    _demand(request, request.param.name)
    return request.param


@pytest.fixture(scope="session", params=[row for row in ROWS if row.name == "cuda"], ids=str)
def cuda_row(request):
    """The CUDA back end at each precision: for what is asked of it alone."""
    _demand(request, "cuda")
    return request.param


@pytest.fixture(scope="session")
def gpu(request, torch):
    """Torch, with a GPU that both it and the CUDA back end can use."""
    _demand(request, "cuda")
    if not torch.cuda.is_available():
        pytest.skip("torch has no CUDA device")
    return torch


@pytest.fixture(scope="session")
def native_cpu(request):
    """The float32 row of the compiled CPU back end."""
    _demand(request, "cpu")
    return next(row for row in ROWS if (row.name, row.precision) == ("cpu", "float32"))


@pytest.fixture(scope="session")
def reference():
    """Complete the same values in float64 with the NumPy back end."""

    def complete(batch, mask=None, **arguments):
        values = np.asarray(batch, dtype=np.float64)
        return splic_ext.complete(values, mask, backend="numpy", **arguments)

    return complete


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


@pytest.fixture(scope="session")
def smooth():
    """Return a maker of smooth images with values in about [0.3, 0.7]: shape, seed -> float64."""

    def make(shape, seed=0):
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[: shape[-2], : shape[-1]].astype(np.float64)
        waves = np.zeros(shape)
        for _ in range(6):
            a, b, phase = (rng.uniform(0.0, high, (*shape[:-2], 1, 1)) for high in (0.4, 0.4, 6.28))
            waves += np.sin(a * y + b * x + phase) / 6
        return 0.5 + 0.2 * waves

    return make


@pytest.fixture(scope="session")
def shared_folder():
    """Folder of the real data and weights."""
    place = os.environ.get("SPLIC_SHARED")
    folder = Path(place) if place else ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data: {folder / 'data'} does not exist; set SPLIC_SHARED")
    return folder


@pytest.fixture(scope="session")
def cifar10(shared_folder):
    """The first 500 CIFAR-10 test images, true pixels: uint8 images and labels."""
    with np.load(shared_folder / "data" / "cifar10_test_lossless.npz") as archive:
        return archive["x"], archive["y"]


@pytest.fixture(scope="session")
def paper_runs(cifar10, reference):
    """64 real images and what the reference makes of them, 8 outer loops: channels -> result."""
    images = (cifar10[0][:64] / 255).astype(np.float32)
    cache = {}

    def run(channels):
        if channels not in cache:
            options = SolverOptions(max_iterations=56, channels=channels)
            cache[channels] = images, options, reference(images, options=options)
        return cache[channels]

    return run


@pytest.fixture
def cifar(tmp_path):
    """A folder with the official batches, of four images each."""
    return write_cifar(tmp_path / "cifar-10-batches-py")


@pytest.fixture
def run_python(tmp_path):
    """Run code in a fresh interpreter, in an empty folder; return what it printed."""

    def run(code, timeout=300, **variables):
        environment = {key: value for key, value in os.environ.items() if "SPLIC_" not in key}
        place = str(Path(splic_ext.__file__).parent.parent)
        path = [place, *environment.get("PYTHONPATH", "").split(os.pathsep)]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        environment |= {key: str(value) for key, value in variables.items()}
        process = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        return process.stdout.strip()

    return run
