"""The kernel of one warp a matrix, by lanes of the host, against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.on_host import build, run, smooth

import splic_ext
from splic_ext import SolverOptions
from splic_ext.options import PRESETS


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return build(tmp_path_factory.mktemp("warp"), "-O2", source="warp_on_host")


CASES = {
    "stacked": {},
    "separate": {"channels": "separate"},
    "rank 12": {"rank": 12},
    "rank 12, separate": {"rank": 12, "channels": "separate"},
    "literal": {"gradient_step": "literal", "step_size": 0.01},
    "forward": {"tv_gradient": "forward"},
    "no smoothing": {"tv_weight": 0.0},
    "one pass": {"alternate": False},
    "no anchor": {"anchor_fraction": 0.0, "empty_value": 0.25},
    "no target": {"anchor_fraction": 1.0, "empty_value": 0.25},
    "from the image": {"start": "image", "first_delta": 0.1},
    "small delta": {"first_delta": 0.3},
    "few anchors": {"anchor_fraction": 0.2},
    "early stop": {"tolerance": 1e-3},
    "part of a loop": {"max_iterations": 9},
}
SHAPE = (1, 3, 32, 32)
MEAN = 1e-5  # error, as for the kernel of a block a matrix


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_reference(program, name):
    options = SolverOptions(**{"max_iterations": 21, **CASES[name]})
    images = smooth(SHAPE)
    expected, info = splic_ext.complete(
        images, options=options, backend="numpy", seed=3, return_info=True
    )
    result, records = run(program, images.astype(np.float32), options, "warp", seed=3)
    assert np.abs(result - expected).mean() <= MEAN
    by_image = records[:, :-3].reshape(1, -1, info.iterations.shape[1], 3).max(axis=1)
    np.testing.assert_array_equal(by_image[:, :, 0], info.iterations)
    np.testing.assert_allclose(by_image[:, :, 2], info.delta, rtol=1e-4)
    np.testing.assert_array_equal(
        run(program, images.astype(np.float32), options, "warp", seed=3)[0], result
    )


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_images(program, value):
    images = np.full(SHAPE, value)
    options = SolverOptions(max_iterations=14)
    expected = splic_ext.complete(images, options=options, backend="numpy", seed=3)
    result, _ = run(program, images.astype(np.float32), options, "warp", seed=3)
    assert np.abs(result - expected).mean() <= MEAN


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.25, 1.5])
def test_wrong_values_come_out_as_nan(program, bad):
    images = smooth((2, 3, 32, 32)).astype(np.float32)
    options = SolverOptions(max_iterations=2)
    expected, _ = run(program, images, options, "warp")
    images[1, 0, 3, 4] = bad
    result, records = run(program, images, options, "warp")
    assert np.isnan(result[1]).all()
    np.testing.assert_array_equal(result[0], expected[0])
    assert np.isfinite(records[1]).all() == bool(np.isfinite(bad))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0, 1e30])
def test_hidden_pixels_may_be_anything(program, bad):
    images = smooth(SHAPE).astype(np.float32)
    mask = np.ones(SHAPE, np.bool_)
    mask[:, :, 2:9, 3:12] = False
    options = SolverOptions(max_iterations=7, alternate=False)
    expected, _ = run(program, images, options, "warp", mask=mask)
    reference = splic_ext.complete(images.astype(float), mask, options=options, backend="numpy")
    assert np.abs(expected - reference).mean() <= MEAN
    hidden = np.where(mask, images, np.float32(bad))
    result, _ = run(program, hidden, options, "warp", mask=mask)
    np.testing.assert_array_equal(result, expected)


def test_divergence_comes_out_as_nan(program):
    images = smooth(SHAPE).astype(np.float32)
    options = SolverOptions(step_size=50.0, tv_weight=5.0)
    result, records = run(program, images, options, "warp")
    assert np.isnan(result).all()
    assert np.isinf(records[:, 1]).all()


def test_a_steep_spectrum(program):
    """Where rounding in X'X would drown the kept vectors, they come from X itself."""
    rng = np.random.default_rng(0)
    u, v = rng.random((96, 1)), rng.random((1, 32))
    images = (0.9 * u @ v + 2e-4 * rng.random((96, 32))).reshape(SHAPE)
    options = SolverOptions(max_iterations=14, start="image", alternate=False)
    expected = splic_ext.complete(images, options=options, backend="numpy", seed=3)
    result, _ = run(program, images.astype(np.float32), options, "warp", seed=3)
    assert np.abs(result - expected).mean() <= MEAN


def test_the_presets_for_small_images_are_taken(program):
    """Of those that keep 8 or 12 triplets, at most 24 vectors are followed."""
    taken = [name for name, one in PRESETS.items() if one.resolve_rank(32, 32) in (8, 12)]
    assert {"paper", "recommended"} <= set(taken)
    for name in taken:
        options = PRESETS[name].replace(max_iterations=2, n_masks=1)
        result, _ = run(program, smooth(SHAPE).astype(np.float32), options, "warp")
        assert np.isfinite(result).all(), name


@pytest.mark.parametrize("tiny", [1e-8, 1e-10, 1e-12, 1e-19])
@pytest.mark.parametrize("columns", [1, 12])
def test_columns_whose_squares_are_subnormal(program, tiny, columns):
    """The device takes the roots of such squares for roots of 0."""
    rng = np.random.default_rng(0)
    images = (0.5 + 0.5 * rng.random((1, 1, 32, 32))) * np.ones((1, 3, 1, 1))
    images[..., columns:] = tiny * rng.random((1, 3, 32, 32 - columns))
    for channels in ("stacked", "separate"):
        options = SolverOptions(
            max_iterations=14, start="image", alternate=False, channels=channels, tv_weight=0.0
        )
        expected = splic_ext.complete(images, options=options, backend="numpy", seed=3)
        result, _ = run(program, images.astype(np.float32), options, "warp", seed=3)
        assert np.abs(result - expected).mean() <= MEAN
