"""Problems whose answer is known: exact recovery, fixed points, symmetries, invariances."""

from __future__ import annotations

import numpy as np
import pytest

from splic_ext import SolverOptions
from splic_ext.masks import bernoulli_masks

SHAPE = (2, 3, 12, 9)
SHORT = SolverOptions(max_iterations=16)
ONE_PASS = SHORT.replace(alternate=False)

# Element type and data range; 3.75 is no power of two, and no integer.
TYPES = [("uint8", 255.0)] + [
    (dtype, data_range)
    for dtype in ("float16", "bfloat16", "float32", "float64")
    for data_range in (1.0, 255.0, 3.75)
]


@pytest.fixture(params=["stacked", "separate"])
def channels(request):
    return request.param


def noise(backend, shape=SHAPE, seed=3):
    return np.random.default_rng(seed).random(shape).astype(backend.dtype)


@pytest.fixture
def typed(torch):
    """Return a maker of random images of any dtype; NumPy has no bfloat16."""

    def make(dtype, data_range):
        values = data_range * np.random.default_rng(0).random(SHAPE)
        if dtype == "bfloat16":
            return torch.from_numpy(values).to(torch.bfloat16).clip(0, data_range)
        values = np.rint(values) if dtype == "uint8" else values
        return values.astype(dtype).clip(0, data_range)

    return make


def exact_bytes(array):
    """Bytes that differ if any value does; float32 holds every bfloat16."""
    return (array if isinstance(array, np.ndarray) else array.float().numpy()).tobytes()


def test_rank_one_image_is_recovered_from_half_its_pixels(backend, channels):
    rng = np.random.default_rng(1)
    # One row space for all channels: of rank 1 when stacked, too.
    u, v = rng.uniform(0.6, 1, (4, 3, 24, 1)), rng.uniform(0.6, 1, (4, 1, 1, 20))
    batch = (u * v).astype(backend.dtype)
    options = SolverOptions(rank=1, tv_weight=0, max_iterations=280, tolerance=0, channels=channels)
    for alternate in (True, False):
        result = backend.complete(batch, options=options.replace(alternate=alternate))
        assert np.abs(result - batch).max() <= 2**8 * backend.eps


def test_rank_two_image_is_recovered_from_most_of_its_pixels(backend):
    rng = np.random.default_rng(2)
    batch = rng.uniform(0, 0.7, (4, 1, 32, 2)) @ rng.uniform(0, 0.7, (4, 1, 2, 32))
    batch = batch.astype(backend.dtype)
    options = SolverOptions(
        rank=2, tv_weight=0, max_iterations=280, tolerance=0, anchor_fraction=0.8, alternate=False
    )
    result = backend.complete(batch, options=options)
    assert np.abs(result - batch).max() <= 2**8 * backend.eps


@pytest.mark.parametrize("value", [1.0, 0.5, 0.05])
def test_constant_image_stays_within_one_percent(backend, channels, value):
    batch = np.full((2, 3, 32, 32), value, backend.dtype)
    options = SolverOptions(channels=channels, tolerance=1e-6 * value)
    result = backend.complete(batch, options=options, seed=8)
    assert np.abs(result / value - 1).max() < 0.01


def test_without_step_and_with_full_rank_targets_stay_zero(backend, channels):
    """R = X and no gradient: the target pixels never move from where they start."""
    batch = noise(backend)
    mask = bernoulli_masks(SHAPE)
    options = ONE_PASS.replace(step_size=0, rank=9, channels=channels)
    result = backend.complete(batch, mask, options=options)
    assert np.array_equal(result[mask], batch[mask])
    assert result[~mask].max() <= 2**8 * backend.eps


@pytest.mark.parametrize(("dtype", "data_range"), TYPES)
@pytest.mark.parametrize("alternate", [True, False])
def test_anchors_alone_return_the_input(backend, typed, channels, dtype, data_range, alternate):
    batch = typed(dtype, data_range)
    options = SHORT.replace(alternate=alternate, channels=channels)
    mask = np.ones(SHAPE, dtype=bool)
    result, info = backend.complete(
        batch, mask, options=options, data_range=data_range, return_info=True
    )
    assert exact_bytes(result) == exact_bytes(batch)
    assert info.iterations.tolist() == [[7, 0] if alternate else [7]] * 2
    assert not info.residual.any()


@pytest.mark.parametrize(("dtype", "data_range"), TYPES)
def test_anchors_of_one_pass_are_untouched(backend, typed, channels, dtype, data_range):
    batch = typed(dtype, data_range)
    mask = np.random.default_rng(1).random(SHAPE) < 0.5
    options = ONE_PASS.replace(channels=channels)
    result = backend.complete(batch, mask, options=options, data_range=data_range)
    assert exact_bytes(result[mask]) == exact_bytes(batch[mask])
    moved = sum(a != b for a, b in zip(result[~mask].tolist(), batch[~mask].tolist(), strict=True))
    assert moved > 0.9 * (~mask).sum()


def test_matrix_without_anchor_is_left_alone(backend, channels):
    batch = noise(backend)
    none = np.zeros(SHAPE, bool)
    options = SHORT.replace(channels=channels)
    result, info = backend.complete(
        batch, none, options=options.replace(alternate=False), return_info=True
    )
    assert np.array_equal(result, batch)
    for record in (info.iterations, info.residual, info.delta):
        assert not record.any()
    result, info = backend.complete(batch, none, options=options, return_info=True)
    assert np.array_equal(result, batch)
    assert info.iterations.tolist() == [[0, 7]] * 2
    # And drawn masks, with their only anchor in the other pass.
    drawn = backend.complete(batch, options=options.replace(anchor_fraction=0.0))
    assert np.array_equal(drawn, batch)


def test_one_channel_without_anchor(backend):
    batch = noise(backend)
    mask = bernoulli_masks(SHAPE).copy()
    mask[0, 1] = False
    options = ONE_PASS.replace(channels="separate")
    result, info = backend.complete(batch, mask, options=options, return_info=True)
    assert np.array_equal(result[0, 1], batch[0, 1])
    assert (info.iterations == 16).all()
    full = bernoulli_masks(SHAPE)
    others = np.ones((2, 3), bool)
    others[0, 1] = False
    expected = backend.complete(batch, full, options=options)
    assert np.array_equal(result[others], expected[others])
    assert not np.array_equal(result[0, 1], expected[0, 1])
    # Stacked, the channel is one block of a matrix that has anchors: it is re-estimated.
    stacked = backend.complete(batch, mask, options=options.replace(channels="stacked"))
    assert (stacked[0, 1] != batch[0, 1]).all()


@pytest.mark.parametrize("tv_gradient", ["exact", "forward"])
@pytest.mark.parametrize("size", [(16, 16), (20, 9), (9, 20), (1, 6)])
def test_transposed_image_and_mask(backend, smooth, size, tv_gradient):
    batch = smooth((3, 1, *size)).astype(backend.dtype)
    mask = np.random.default_rng(4).random(batch.shape) < 0.5
    options = SHORT.replace(tv_gradient=tv_gradient, tv_weight=0.2)
    result = backend.complete(batch, mask, options=options)
    transposed = backend.complete(
        batch.swapaxes(2, 3).copy(), mask.swapaxes(2, 3).copy(), options=options
    )
    backend.check(transposed.swapaxes(2, 3), result, factor=2)


def test_mirrored_image_and_mask(backend, smooth, channels):
    """The exact TV gradient has no preferred direction; the forward one has."""
    batch = smooth((2, 3, 12, 9)).astype(backend.dtype)
    mask = np.random.default_rng(4).random(batch.shape) < 0.5
    options = SHORT.replace(channels=channels, tv_weight=0.2)
    for turn in (np.s_[..., ::-1], np.s_[..., ::-1, :], np.s_[..., ::-1, ::-1]):
        result = backend.complete(batch, mask, options=options)
        turned = backend.complete(batch[turn], mask[turn], options=options)
        backend.check(turned[turn], result, factor=2)
        forward = options.replace(tv_gradient="forward")
        result = backend.complete(batch, mask, options=forward)
        turned = backend.complete(batch[turn], mask[turn], options=forward)
        assert np.abs(turned[turn] - result).max() > 1e-3


def test_order_of_channels(backend, smooth, channels):
    batch = smooth((2, 4, 12, 9)).astype(backend.dtype)
    mask = np.random.default_rng(4).random(batch.shape) < 0.5
    options = SHORT.replace(channels=channels)
    order = [2, 0, 3, 1]
    result = backend.complete(batch, mask, options=options)
    permuted = backend.complete(batch[:, order], mask[:, order], options=options)
    if channels == "separate":
        assert np.array_equal(permuted, result[:, order])
    else:
        backend.check(permuted, result[:, order], factor=2)


def test_separate_channels_are_gray_images(backend, smooth):
    batch = smooth((2, 3, 12, 9)).astype(backend.dtype)
    mask = np.random.default_rng(4).random((2, 1, 12, 9)) < 0.5
    options = SHORT.replace(channels="separate")
    result = backend.complete(batch, mask, options=options)
    for c in range(3):
        gray = backend.complete(batch[:, c : c + 1], mask, options=options)
        assert np.array_equal(gray[:, 0], result[:, c])
    drawn = backend.complete(batch, options=options, seed=3)
    gray = backend.complete(batch[:, :1], options=options.replace(channels="stacked"), seed=3)
    assert np.array_equal(gray, drawn[:, :1])


@pytest.mark.parametrize("gradient_step", ["srf", "literal"])
@pytest.mark.parametrize("power", [-60, -3, 1, 10, 60])
def test_data_and_range_scaled_by_a_power_of_two(backend, channels, gradient_step, power):
    batch = noise(backend)
    options = SHORT.replace(gradient_step=gradient_step, channels=channels)
    result, info = backend.complete(batch, options=options, return_info=True)
    scaled, scaled_info = backend.complete(
        np.ldexp(batch, power), options=options, data_range=2.0**power, return_info=True
    )
    assert np.array_equal(scaled, np.ldexp(result, power))
    for name in ("iterations", "residual", "delta"):
        assert np.array_equal(getattr(info, name), getattr(scaled_info, name))


@pytest.mark.parametrize("gradient_step", ["srf", "literal"])
@pytest.mark.parametrize("data_range", [255.0, 0.1, 1e-30, 1e30])
def test_data_and_range_scaled_by_any_number(backend, channels, gradient_step, data_range):
    batch = noise(backend)
    options = SHORT.replace(gradient_step=gradient_step, channels=channels)
    result, info = backend.complete(batch, options=options, return_info=True)
    scaled_batch = (batch * data_range).astype(backend.dtype).clip(0, data_range)
    scaled, scaled_info = backend.complete(
        scaled_batch, options=options, data_range=data_range, return_info=True
    )
    backend.check(np.divide(scaled, data_range, dtype=np.float64), result, factor=2)
    assert np.array_equal(info.iterations, scaled_info.iterations)
    assert scaled_info.delta == pytest.approx(info.delta, rel=2**10 * backend.eps)


def test_srf_step_is_linear_in_the_pixels_and_the_literal_one_is_not(backend):
    batch = noise(backend) / 2
    options = SHORT.replace(tolerance=0)
    result = backend.complete(batch, options=options)
    assert result.max() < 1, "the result must not be clipped from above"
    half = backend.complete(batch / 2, options=options)
    backend.check(2 * half, result, factor=3)
    literal = options.replace(gradient_step="literal")
    result = backend.complete(batch, options=literal)
    half = backend.complete(batch / 2, options=literal)
    assert np.abs(2 * half - result).max() > 1e-2


def test_wider_range_only_moves_the_clip_and_the_tolerance(backend):
    batch = np.rint(noise(backend))
    options = ONE_PASS.replace(tolerance=0)
    mask = bernoulli_masks(SHAPE)
    result = backend.complete(batch, mask, options=options)
    wider = backend.complete(batch, mask, options=options, data_range=8.0)
    assert wider.max() > 1.1, "something must be clipped"
    backend.check(np.minimum(wider, 1), result, factor=2)


def test_result_is_the_same_twice(backend, channels):
    batch = noise(backend)
    options = SolverOptions(channels=channels, n_masks=2)
    first = backend.complete(batch, options=options, seed=12)
    assert np.array_equal(backend.complete(batch, options=options, seed=12), first)
    assert not np.array_equal(backend.complete(batch, options=options, seed=13), first)


@pytest.mark.parametrize("changes", [{}, {"n_masks": 2}, {"tolerance": 1e-3}])
def test_image_does_not_depend_on_its_batch(backend, channels, changes):
    count = 11
    batch = noise(backend, (count, *SHAPE[1:]))
    batch[4] = 0
    batch[6] = 0.5
    options = SHORT.replace(channels=channels, **changes)
    whole = backend.complete(batch, options=options, seed=5, first_index=2**32 - 4)
    for i in range(count):
        alone = backend.complete(batch[i], options=options, seed=5, first_index=2**32 - 4 + i)
        assert np.array_equal(alone, whole[i])
    parts = [
        backend.complete(batch[a:b], options=options, seed=5, first_index=2**32 - 4 + a)
        for a, b in ((0, 1), (1, 4), (4, 4), (4, 11))
    ]
    assert np.array_equal(np.concatenate(parts), whole)


def test_image_does_not_depend_on_its_position(backend, channels):
    batch = noise(backend, (7, *SHAPE[1:]))
    masks = bernoulli_masks(batch.shape)
    options = SHORT.replace(channels=channels)
    expected = backend.complete(batch, masks, options=options)
    order = np.random.default_rng(0).permutation(7)
    shuffled = backend.complete(batch[order], masks[order], options=options)
    assert np.array_equal(shuffled, expected[order])
