"""What the benchmarks solve, and how an answer is checked and a time turned into rates."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

import splic_ext
from splic_ext.masks import bernoulli_masks

#: How much is measured: all of it with few images, whose numbers mean nothing; what a person wants
#: to see, within minutes; all that a result file holds.
FORMS = ("quick", "default", "full")
FORM = os.environ.get("SPLIC_BENCH") or "default"
QUICK, FULL = FORM == "quick", FORM == "full"

SHARED = Path(os.environ.get("SPLIC_SHARED") or Path(__file__).resolve().parents[2] / "shared")
DATA = SHARED / "data" / "cifar10_test_lossless.npz"
#: Arrays by size, for machines that lack scikit-image (gpu_bundle.py).
PHOTOGRAPHS = SHARED / "data" / "photographs.npz"
LUMA = np.array([0.299, 0.587, 0.114], np.float32)

#: Images above this size are photographs, unless they are enlarged on purpose.
LARGEST_RESIZED = 64

#: Largest mean and largest single difference from the float64 reference. NumPy's svd computes in
#: float64 inside; a Gram matrix squares the condition number, so eigh cannot do better in float32;
#: the block iteration makes a fixed number of steps, whether or not they suffice.
BOUNDS = {
    "cpu": (5e-6, 2e-3),
    "cuda": (5e-6, 2e-3),
    "numpy": (1e-7, 1e-6),
    "torch.linalg.svd": (2e-5, 5e-3),
    "numpy.linalg.svd": (5e-6, 2e-3),
    "torch.linalg.eigh": (5e-3, 1e-1),
    "torch block iteration": (2e-3, 1e-1),
    "cuda, arrays on the GPU": (5e-6, 2e-3),
    "cuda, cuSOLVER": (5e-6, 2e-3),
    "cuda, general kernel": (5e-6, 2e-3),
    "torch.linalg.svd on the GPU": (5e-5, 1e-2),
    "torch.linalg.eigh on the GPU": (5e-3, 1e-1),
    "torch block iteration on the GPU": (1e-2, 2e-1),
    "cupy.linalg.svd": (5e-5, 1e-2),
}
#: Some photographs magnify rounding more than any small image.
PHOTOGRAPH_BOUNDS = {
    **BOUNDS,
    "torch block iteration": (1e-2, 2e-1),
    **dict.fromkeys(("cpu", "cuda", "cuda, arrays on the GPU", "cuda, cuSOLVER"), (1e-5, 5e-3)),
}
#: What rounding to the type of the pixels adds at most, pixels in [0, 1].
ROUNDING = {"float32": 0.0, "float16": 2.0**-12, "uint8": 0.5 / 255}
BACKENDS = ("cpu", "cuda", "numpy")
PEERS = ("torch block iteration", "torch.linalg.eigh", "torch.linalg.svd", "numpy.linalg.svd")

#: (completed images, iterations summed over the matrices) of a call.
Answer = tuple[np.ndarray, int]


@dataclass(frozen=True)
class Case:
    """One kind of work: square images, gray or RGB, with the images in one call of each side."""

    size: int
    channels: int
    mode: str
    native_images: int
    slow_images: int
    enlarged: bool = False
    default: bool = False  #: part of the default form

    def __str__(self) -> str:
        kind = "gray" if self.channels == 1 else f"RGB-{self.mode}"
        return f"{self.size}x{self.size}-{kind}{'-enlarged' if self.enlarged else ''}"

    @property
    def photographs(self) -> bool:
        return self.size > LARGEST_RESIZED and not self.enlarged

    @property
    def options(self) -> splic_ext.SolverOptions:
        """The paper's constants; fewer iterations in a quick run."""
        options = splic_ext.SolverOptions.preset("paper").replace(channels=self.mode)
        few = 14 if self.size <= 64 else 7
        return options.replace(max_iterations=few) if QUICK else options

    @property
    def matrices_per_image(self) -> int:
        return self.channels if self.mode == "separate" else 1

    @property
    def checked_images(self) -> int:
        return 1 if QUICK else 2 if self.size > 64 else 8 if self.size <= 32 else 4

    def count(self, method: str) -> int:
        """Return the number of images in one call of the method."""
        count = self.native_images if method in ("cpu", "cuda") else self.slow_images
        return min(count, 2) if QUICK else count


ALL_CASES = (
    Case(28, 1, "stacked", 512, 32, default=True),
    Case(28, 3, "stacked", 256, 24),
    Case(32, 1, "stacked", 512, 32, default=True),
    Case(32, 3, "stacked", 256, 24, default=True),
    Case(32, 3, "separate", 192, 12),
    Case(64, 1, "stacked", 64, 8),
    Case(64, 3, "stacked", 64, 6, default=True),
    Case(112, 1, "stacked", 8, 3),
    Case(112, 3, "stacked", 4, 2, default=True),
    Case(224, 1, "stacked", 4, 1),
    Case(224, 3, "stacked", 2, 1, default=True),
    Case(224, 1, "stacked", 4, 1, enlarged=True),
    Case(224, 3, "stacked", 2, 1, enlarged=True, default=True),
)
#: Those of the form that was asked for.
CASES = tuple(case for case in ALL_CASES if case.default or FORM != "default")


def find_case(size: int, channels: int, mode: str = "stacked") -> Case:
    return next(c for c in ALL_CASES if (c.size, c.channels, c.mode) == (size, channels, mode))


def data_name(size: int = 32, photographs: bool = False) -> str:
    """Say which images the benchmarks use."""
    if photographs:
        return f"photographs of scikit-image, {size} x {size}"
    if not DATA.exists():
        return "synthetic images"
    resized = "" if size == 32 else f", resized to {size} x {size} bilinearly"
    return f"CIFAR-10 test images (the first 500, true pixels){resized}"


@cache
def _base_images() -> np.ndarray:
    """Return RGB images of 32 x 32: real ones where there are any, else random ones like them."""
    if DATA.exists():
        with np.load(DATA) as data:
            return data["x"].astype(np.float32) / 255
    # Octaves of falling strength, most of each the same in all channels.
    rng = np.random.default_rng(0)
    images = np.full((500, 3, 32, 32), 0.5, np.float32)
    for side in (2, 4, 8, 16, 32):
        gray, color = (rng.standard_normal((500, n, side, side), np.float32) for n in (1, 3))
        images += np.float32(0.5 * side**-0.8) * resize(gray + 0.3 * color, 32)
    return np.clip(images, 0.0, 1.0)


@cache
def photographs(size: int) -> np.ndarray:
    """Return square RGB photographs: those that come with scikit-image."""
    if PHOTOGRAPHS.exists():
        with np.load(PHOTOGRAPHS) as data:
            return data[str(size)]
    skimage = pytest.importorskip("skimage", reason="needs the photographs of scikit-image")
    photos = []
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        photo = getattr(skimage.data, name)()
        side = min(photo.shape[:2])
        photo = skimage.transform.resize(photo[:side, :side], (size, size), anti_aliasing=True)
        photos.append(np.moveaxis(photo, -1, 0))
    return np.stack(photos).astype(np.float32)


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Resize square images bilinearly, pixel centres at half integers."""
    side = images.shape[-1]
    if size == side:
        return images
    position = np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0, side - 1)
    low = np.minimum(position.astype(int), side - 2)
    weights = np.zeros((size, side), np.float32)
    weights[np.arange(size), low] = 1 - (position - low)
    weights[np.arange(size), low + 1] = position - low
    return weights @ images @ weights.T


@cache
def load_images(case: Case, count: int) -> np.ndarray:
    """Return images of shape (N, C, H, W), float32 in [0, 1]."""
    base = photographs(case.size) if case.photographs else _base_images()
    images = base[np.arange(count) % len(base)]
    if case.channels == 1:
        # One by one: a matrix product could round the same image otherwise in another batch.
        images = sum(weight * images[:, i : i + 1] for i, weight in enumerate(LUMA))
    if not case.photographs:
        images = resize(images, case.size)
    return np.ascontiguousarray(np.clip(images, 0.0, 1.0))


@cache
def images_and_masks(case: Case, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images, and the masks that the library draws for them from seed 0."""
    images = load_images(case, count)
    return images, bernoulli_masks(images.shape, channels=case.mode)


def of_dtype(images: np.ndarray, dtype: str) -> np.ndarray:
    """Return images in [0, 1] as another type: uint8 from 0 to 255."""
    return np.round(255 * images).astype(dtype) if dtype == "uint8" else images.astype(dtype)


@cache
def reference(case: Case, options: splic_ext.SolverOptions, dtype: str = "float32") -> np.ndarray:
    """Return the first completed images of a case, in [0, 1], from the float64 reference.

    Photographs with several masks, or in other types, would take it minutes. There the native
    solver computes in float64, which the tests hold within 1e-6 of it.
    """
    images, masks = images_and_masks(case, case.checked_images)
    values = of_dtype(images, dtype).astype(np.float64) / (255 if dtype == "uint8" else 1)
    usual = options.n_masks == 1 and dtype == "float32"
    backend = "cpu" if case.photographs and not usual else "numpy"
    given = masks if options.n_masks == 1 else None
    return splic_ext.complete(values, given, options=options, backend=backend)


def check_answer(
    case: Case,
    method: str,
    completed: np.ndarray,
    options: splic_ext.SolverOptions | None = None,
    dtype: str = "float32",
) -> dict[str, float]:
    """Compare with the reference, raise beyond the bounds of the method, return the errors."""
    alike = (options or case.options).replace(algorithm="auto")
    expected = reference(case, alike, dtype)[: len(completed)]
    assert completed.dtype == dtype
    values = completed[: len(expected)].astype(np.float64) / (255 if dtype == "uint8" else 1)
    assert np.isfinite(completed).all()
    error = np.abs(values - expected)
    mean, largest = float(error.mean()), float(error.max())
    bounds = (PHOTOGRAPH_BOUNDS if case.photographs else BOUNDS)[method]
    assert mean <= bounds[0] + ROUNDING[dtype], f"{method}: mean error {mean:.2g}"
    assert largest <= bounds[1] + ROUNDING[dtype], f"{method}: largest error {largest:.2g}"
    return {"mean_error": mean, "max_error": largest}


def check_options(
    case: Case, method: str, options: splic_ext.SolverOptions
) -> tuple[dict[str, float], float]:
    """Check a few completions with these options; return the errors, and iterations an image."""
    few, masks = images_and_masks(case, case.checked_images)
    answer, info = splic_ext.complete(few, masks, options=options, backend=method, return_info=True)
    return check_answer(case, method, answer, options), float(info.iterations.sum()) / len(few)


def require_backend(name: str) -> None:
    """Skip the benchmark where the back end cannot run, with its reason."""
    info = splic_ext.backend_info()[name]
    if not info.available:
        pytest.skip(f"back end {name!r}: {info.reason}")


def solver(
    case: Case, method: str, threads: int = 1
) -> Callable[[np.ndarray, np.ndarray | None], Answer]:
    """Return the function that a benchmark times: a back end of the library, or a peer."""
    options = case.options
    if method in BACKENDS:
        require_backend(method)

        def solve(images: np.ndarray, masks: np.ndarray | None) -> Answer:
            completed, info = splic_ext.complete(
                images, masks, options=options, backend=method, threads=threads, return_info=True
            )
            return completed, int(info.iterations.sum()) * case.matrices_per_image
    else:
        if method.startswith("torch"):
            pytest.importorskip("torch")
        import peers

        peer = peers.in_threads(peers.PEERS[method], threads)

        def solve(images: np.ndarray, masks: np.ndarray | None) -> Answer:
            return peer(images, masks, options)

    return solve


def record(benchmark: Any, images: int, iterations: int) -> list[float]:
    """Note the work and the rates of a call in extra_info; return the seconds of all calls.

    There are none where benchmarks are switched off (``--benchmark-disable``).
    """
    if benchmark.stats is None:
        return []
    seconds = benchmark.stats.stats.median
    benchmark.extra_info.update(
        images=images,
        matrix_iterations=iterations,
        images_per_second=images / seconds,
        us_per_matrix_iteration=seconds / iterations * 1e6,
    )
    return list(benchmark.stats.stats.data)


def ratio(others: list[float], own: list[float]) -> float:
    """Return the median of others over own, of calls that were neighbours in time."""
    return median(a / b for a, b in zip(others[-len(own) :], own, strict=True))


def describe(case: Case, method: str, threads: int) -> dict[str, Any]:
    """Return the parameters of a benchmark, for its extra_info."""
    return {
        "method": method,
        "size": case.size,
        "channels": case.channels,
        "mode": case.mode,
        "threads": threads,
        "enlarged": case.enlarged,
        "data": data_name(case.size, case.photographs),
    }


def thread_counts() -> list[int]:
    """Return 1, 2, 4 and so on, up to the processors of this machine."""
    processors = os.cpu_count() or 1
    return [1 << k for k in range(processors.bit_length()) if 1 << k <= processors]
