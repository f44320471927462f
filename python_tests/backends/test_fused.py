"""What the CUDA kernels compute, run by threads of the host against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.on_host import build, run, smooth

import splic_ext
from splic_ext import SolverOptions


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return build(tmp_path_factory.mktemp("fused"), "-O1")


METHODS = ("fused", "tiled", "stepwise")


CASES = {
    "stacked": ((2, 3, 32, 32), {}),
    "separate": ((2, 3, 28, 28), {"channels": "separate"}),
    "wide": ((2, 1, 12, 40), {}),
    "tall": ((1, 2, 40, 9), {"rank": 5}),
    "full rank": ((1, 1, 6, 6), {"rank": 6}),
    "a row": ((1, 1, 1, 17), {}),
    "a pixel": ((2, 1, 1, 1), {}),
    "odd": ((1, 1, 21, 13), {"rank": 3}),
    "64": ((1, 1, 64, 64), {}),
    "large": ((1, 1, 80, 136), {"max_iterations": 14}),
    "large, stacked": ((1, 3, 72, 66), {"max_iterations": 14}),
    "literal": ((1, 1, 16, 16), {"gradient_step": "literal", "step_size": 0.01}),
    "forward": ((1, 1, 16, 16), {"tv_gradient": "forward"}),
    "no smoothing": ((1, 1, 16, 16), {"tv_weight": 0.0}),
    "one pass": ((1, 1, 16, 16), {"alternate": False}),
    "no anchor": ((2, 1, 16, 16), {"anchor_fraction": 0.0, "empty_value": 0.25}),
    "no target": ((2, 1, 16, 16), {"anchor_fraction": 1.0, "empty_value": 0.25}),
    "from the image": ((2, 3, 32, 32), {"start": "image", "first_delta": 0.1}),
    "once from the image": ((1, 1, 12, 40), {"start": "image", "alternate": False}),
    "small delta": ((1, 1, 16, 16), {"first_delta": 0.3}),
    "few anchors": ((1, 1, 16, 16), {"anchor_fraction": 0.2}),
    "early stop": ((2, 1, 16, 16), {"tolerance": 1e-3}),
    "part of a loop": ((1, 1, 16, 16), {"max_iterations": 9}),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_reference(program, name, method):
    shape, changes = CASES[name]
    options = SolverOptions(**{"max_iterations": 28, **changes})
    images = smooth(shape)
    expected, info = splic_ext.complete(
        images, options=options, backend="numpy", seed=3, return_info=True
    )
    for dtype, mean in ((np.float64, 1e-9), (np.float32, 1e-5)):
        result, records = run(program, images.astype(dtype), options, method, seed=3)
        assert np.abs(result - expected).mean() <= mean
    passes = info.iterations.shape[1]
    assert not records[:, -1].any()
    by_image = records[:, :-3].reshape(shape[0], -1, passes, 3).max(axis=1)
    np.testing.assert_array_equal(by_image[:, :, 0], info.iterations)
    np.testing.assert_allclose(by_image[:, :, 2], info.delta, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_images(program, value, method):
    images = np.full((1, 3, 16, 16), value, np.float32)
    result, _ = run(program, images, SolverOptions(), method)
    assert np.abs(result - value).max() <= 0.01


@pytest.mark.parametrize("method", METHODS)
def test_results_do_not_depend_on_the_team(program, method):
    images = smooth((1, 3, 32, 32)).astype(np.float32)
    options = SolverOptions(max_iterations=2 if method == "tiled" else 14)
    alone, _ = run(program, images, options, method, team=1)
    for team in (2, 5):
        together, _ = run(program, images, options, method, team=team)
        np.testing.assert_array_equal(alone, together)


#: Shape, options -> barriers of a block in an iteration, at most: what they wait for most of the
#: time is the first warp.
BARRIERS = {
    "28": ((1, 1, 28, 28), {}, 50),
    "64": ((1, 1, 64, 64), {}, 50),
    "wide": ((1, 1, 66, 72), {}, 50),
}


@pytest.mark.parametrize("name", BARRIERS)
def test_there_are_few_barriers(program, name):
    shape, changes, most = BARRIERS[name]
    options = SolverOptions(**{"max_iterations": 56, "tolerance": 0.0, **changes})
    _, ((barriers, *_),) = run(program, smooth(shape).astype(np.float32), options, "count")
    assert barriers / (2 * options.max_iterations) <= most


def photographs(count, side):
    """Return images whose amplitudes fall as those of photographs do."""
    rng = np.random.default_rng(0)
    far = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    noise = rng.standard_normal((2, count, 1, *far.shape))
    images = np.fft.irfft2((noise[0] + 1j * noise[1]) / np.maximum(far, 1 / side), (side, side))
    return np.clip(0.5 + 0.2 * images / images.std(), 0, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tiles_leave_little_to_one_team(program, dtype):
    """The searches that all matrices make are enough for nearly all iterations."""
    options = SolverOptions(max_iterations=14, tolerance=0.0)
    images = photographs(2, 80).astype(dtype)
    _, ((iterations, left),) = run(program, images, options, "left")
    assert iterations == 2 * 2 * options.max_iterations
    assert left <= iterations / 10


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.25, 1.5])
def test_wrong_values_come_out_as_nan(program, bad, method):
    """And the images beside them as ever: nobody has asked the device meanwhile."""
    images = smooth((3, 1, 8, 8)).astype(np.float32)
    options = SolverOptions(max_iterations=7)
    expected, records = run(program, images, options, method)
    np.testing.assert_allclose(records[:, -3], images.min(axis=(1, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(records[:, -2], images.max(axis=(1, 2, 3)), rtol=1e-6)
    images[1, 0, 3, 4] = bad
    result, records = run(program, images, options, method)
    assert np.isnan(result[1]).all()
    np.testing.assert_array_equal(result[[0, 2]], expected[[0, 2]])
    assert np.isfinite(records[[0, 2]]).all()
    assert np.isfinite(records[1]).all() == bool(np.isfinite(bad))
    if np.isfinite(bad):
        assert bad in records[1, -3:-1]


HIDDEN = (np.nan, np.inf, -np.inf, -1.0, 1e30)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("empty", [None, 0.25])
@pytest.mark.parametrize("channels", ["stacked", "separate"])
def test_hidden_pixels_may_be_anything(program, channels, empty, method):
    """Not even the check of the values sees them; but where the matrix is returned."""
    images = smooth((4, 2, 8, 8)).astype(np.float32)
    mask = np.ones(images.shape, np.bool_)
    mask[:, :, 2:5, 3:6] = False
    mask[1, 0] = False
    mask[2] = np.arange(64).reshape(8, 8) == 19
    images[2][mask[2]] = 0
    mask[3] = False
    options = SolverOptions(max_iterations=7, alternate=False, channels=channels, empty_value=empty)
    expected, records = run(program, images, options, method, mask=mask)
    reference = splic_ext.complete(images.astype(float), mask, options=options, backend="numpy")
    assert np.abs(expected - reference).max() < 1e-4
    blind = [0, 1, 2, 3] if empty is not None else [0, 2]  # of 1 something is returned, if separate
    if empty is None and channels == "stacked":
        blind.append(1)
    for bad in HIDDEN:
        hidden = np.where(mask, images, np.float32(bad))
        result, found = run(program, hidden, options, method, mask=mask)
        np.testing.assert_array_equal(result[blind], expected[blind])
        by_image = (4, -1, records.shape[1])
        np.testing.assert_array_equal(
            found.reshape(by_image)[blind], records.reshape(by_image)[blind]
        )
        if empty is None:
            assert np.isnan(result[3]).all()


@pytest.mark.parametrize("method", METHODS)
def test_divergence_comes_out_as_nan(program, method):
    images = smooth((2, 1, 8, 8)).astype(np.float32)
    options = SolverOptions(step_size=50.0, tv_weight=5.0)
    result, records = run(program, images, options, method)
    assert np.isnan(result).all()
    assert np.isinf(records[:, 1]).all()


def test_a_failure_of_the_library_is_recorded(program):
    images = smooth((3, 1, 8, 8)).astype(np.float32)
    options = SolverOptions(max_iterations=14)
    expected, _ = run(program, images, options, "stepwise")
    result, records = run(program, images, options, "stepwise", failing=1)
    assert records[:, -1].tolist() == [0, 7, 0]
    assert np.isnan(result[1]).all()
    np.testing.assert_array_equal(result[[0, 2]], expected[[0, 2]])


def test_no_data_race(tmp_path):
    """All phases are separated by barriers: the thread sanitizer finds no race."""
    program = build(tmp_path, "-O0", "-g", "-fsanitize=thread")
    images = smooth((1, 1, 16, 16)).astype(np.float32)
    for method, iterations in (("fused", 9), ("stepwise", 9), ("tiled", 1)):
        run(program, images, SolverOptions(max_iterations=iterations), method, team=4)
    # Products of four tiles, all at the same time.
    images = smooth((1, 1, 66, 36)).astype(np.float32)
    options = SolverOptions(rank=4, max_iterations=1, alternate=False)
    expected, _ = run(program, images, options, "fused")
    result, _ = run(program, images, options, "tiles")
    assert np.abs(result - expected).max() < 1e-5
