"""`start="image"` and `first_delta`: iterations that refine a first guess."""

from __future__ import annotations

import numpy as np
import pytest

import splic_ext
from splic_ext import SolverOptions
from splic_ext.backends.reference import complete_matrices

CASES = 40
SHORT = SolverOptions(
    rank=0.5, tv_weight=0.1, inner_iterations=2, max_iterations=14, tolerance=0.0,
    alternate=False, start="image", first_delta=0.05,
)  # fmt: skip


def pictures(shape, seed):
    """Smooth ones with a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[2], : shape[3]] / max(shape[2:])
    images = rng.normal(0, 0.02, shape)
    for fy, fx in rng.normal(0, 3, (6, 2)):
        size = rng.normal(0, 0.3, (*shape[:2], 1, 1))
        images += size * np.cos(6.3 * (fy * y + fx * x) + rng.uniform(0, 6))
    return (images - images.min()) / np.ptp(images)


@pytest.mark.parametrize("seed", range(CASES))
def test_agrees_with_the_reference(native, reference, seed):
    """All sizes, fractions, one and two passes."""
    rng = np.random.default_rng([seed, 3])
    shape = (int(rng.integers(1, 12)), int(rng.integers(1, 4)), *map(int, rng.integers(4, 40, 2)))
    options = SHORT.replace(
        rank=float(rng.choice([0.25, 0.5])),
        inner_iterations=int(rng.choice([1, 2, 7])),
        first_delta=float(rng.choice([0.05, 0.3, 1.0])),
        alternate=bool(seed % 2),
        channels=str(rng.choice(["stacked", "separate"])),
        anchor_fraction=float(rng.choice([0.3, 0.5, 0.8, 0.95])),
    )
    images = pictures(shape, seed).astype(native.dtype)
    expected, info = reference(images, options=options, seed=seed, return_info=True)
    result, found = native.complete(images, options=options, seed=seed, return_info=True)
    bound = 2e-5 if native.dtype == np.float32 else 1e-9
    assert np.abs(result - expected).max() <= bound
    assert np.array_equal(found.iterations, info.iterations)
    np.testing.assert_allclose(found.delta, info.delta, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_every_dtype(backend, dtype):
    images = pictures((3, 3, 20, 16), 1)
    scale = 255 if dtype == "uint8" else 1
    images = (images * scale).astype(dtype)
    mask = np.ones((20, 16), np.bool_)
    mask[5:11, 4:9] = False
    result = backend.complete(images, mask, options=SHORT)
    exact = splic_ext.complete(images / float(scale), mask, options=SHORT, backend="numpy")
    assert result.dtype == images.dtype
    assert np.array_equal(result[..., mask], images[..., mask])
    slack = {"uint8": 0.51 / 255, "float16": 1e-3, "float32": 2e-5, "float64": 1e-9}[dtype]
    # The reference has uint8 and float16 as they are; from the same numbers, no more than rounding.
    assert np.abs(result / float(scale) - exact.astype(float)).max() <= slack


def test_hand_made():
    """One step from the image: rank 1 of a matrix that has it already, and the first delta."""
    X = np.outer([1.0, 2.0, 2.0], [3.0, 4.0])[None] / 8
    M = np.ones(X.shape, np.bool_)
    M[0, 0, 0] = False
    options = SolverOptions(
        rank=1, tv_weight=0.0, max_iterations=1, start="image", first_delta=0.25, step_size=0.5
    )
    result, _, _, delta = complete_matrices(X, M, options, height=3)
    sigma = 15 / 8
    assert delta[0] == pytest.approx(sigma / 4)
    weight = np.exp(-0.5 * (sigma / delta[0]) ** 2)
    assert result[0, 0, 0] == pytest.approx(X[0, 0, 0] * (1 - 0.5 * weight), rel=1e-12)
    zero = complete_matrices(X, M, options.replace(start="zero"), height=3)[0]
    assert abs(zero[0, 0, 0] - X[0, 0, 0]) > 0.01


def test_the_first_guess_decides(backend):
    images = pictures((2, 3, 24, 24), 2).astype(backend.dtype)
    mask = np.ones((24, 24), np.bool_)
    mask[6:14, 8:15] = False
    gray = np.where(mask, images, 0.5)
    results = [backend.complete(x, mask, options=SHORT) for x in (images, gray)]
    assert np.abs(results[0] - results[1]).max() > 0.01
    assert not np.array_equal(results[1], gray)
    zero = SHORT.replace(start="zero")
    same = [backend.complete(x, mask, options=zero) for x in (images, gray)]
    assert np.array_equal(*same)


def test_the_second_pass_begins_with_what_the_first_left(backend):
    images = pictures((2, 1, 16, 16), 3).astype(backend.dtype)
    mask = np.random.default_rng(3).random((16, 16)) < 0.6
    once = backend.complete(images, mask, options=SHORT)
    again = backend.complete(once.clip(0, 1), ~mask, options=SHORT)
    both = backend.complete(images, mask, options=SHORT.replace(alternate=True))
    assert np.abs(both - again).max() < 1e-3  # in between it was not clipped
    assert np.abs(both - once).max() > 1e-3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.5, 2.0])
@pytest.mark.parametrize("name", ["cpu", "numpy"])
def test_hidden_pixels_are_checked(request, name, bad):
    if name == "cpu":
        request.getfixturevalue("native_cpu")
    images = np.full((2, 1, 6, 6), 0.5, np.float32)
    mask = np.ones((6, 6), np.bool_)
    mask[2, 2] = False
    images[1, 0, 2, 2] = bad
    for empty in (None, 0.5):
        options = SHORT.replace(empty_value=empty)
        with pytest.raises(ValueError, match="image 1"):
            splic_ext.complete(images, mask, options=options, backend=name)
        zero = options.replace(start="zero")
        assert np.isfinite(splic_ext.complete(images, mask, options=zero, backend=name)).all()


@pytest.mark.parametrize("empty", [None, 0.25])
def test_no_anchor(backend, empty):
    images = pictures((2, 1, 8, 8), 4).astype(backend.dtype)
    options = SHORT.replace(empty_value=empty)
    result = backend.complete(images, np.zeros((8, 8), np.bool_), options=options)
    assert np.array_equal(result, images if empty is None else np.full_like(images, empty))


def test_results_do_not_depend_on_the_batch(native):
    """Lanes and single matrices: the same bits."""
    images = pictures((37, 3, 32, 32), 5).astype(native.dtype)
    mask = np.ones((37, 1, 32, 32), np.bool_)
    for i in range(37):
        mask[i, 0, i % 20 : i % 20 + 9, i // 2 : i // 2 + 9] = False
    together = native.complete(images, mask, options=SHORT)
    for i in range(0, 37, 5):
        alone = native.complete(images[i : i + 1], mask[i : i + 1], options=SHORT)
        assert np.array_equal(alone[0], together[i])


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_targets_far_above_the_anchors(backend, scale):
    """The unit of the numbers is that of the first iterate."""
    images = pictures((1, 1, 8, 8), 6) * scale
    mask = np.random.default_rng(6).random((8, 8)) < 0.7
    images = np.where(mask, images * 1e-12, images).astype(backend.dtype)
    result = backend.complete(images, mask, options=SHORT, data_range=float(images.max()))
    exact = splic_ext.complete(
        images.astype(float), mask, options=SHORT, data_range=float(images.max()), backend="numpy"
    )
    assert np.isfinite(result).all()
    assert np.abs(result - exact).max() <= 1e-5 * scale
