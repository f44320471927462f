"""Properties over random shapes, dtypes and options, found by Hypothesis."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from splic_ext import SolverOptions
from splic_ext.masks import bernoulli_masks

sides = st.integers(1, 14)
shapes = st.tuples(st.integers(1, 5), st.integers(1, 4), sides, sides)
seeds = st.integers(0, 2**64 - 1)


@st.composite
def problems(draw):
    """A shape, options that suit it, and seeds of the image and of the mask."""
    shape = draw(shapes)
    options = SolverOptions(
        rank=draw(st.none() | st.integers(1, min(shape[2:]))),
        tv_weight=draw(st.sampled_from([0.0, 0.02, 0.1, 0.25])),
        delta_decay=draw(st.sampled_from([0.3, 0.45, 0.8, 1.0])),
        step_size=draw(st.sampled_from([0.0, 0.3, 0.5, 1.0])),
        inner_iterations=draw(st.integers(1, 9)),
        max_iterations=draw(st.integers(1, 16)),
        tolerance=draw(st.sampled_from([0.0, 1e-6, 1e-3])),
        anchor_fraction=draw(st.sampled_from([0.0, 0.05, 0.3, 0.5, 0.8, 1.0])),
        alternate=draw(st.booleans()),
        start=draw(st.sampled_from(["zero", "zero", "image"])),
        first_delta=draw(st.sampled_from([1.0, 1.0, 0.3, 0.05])),
        empty_value=draw(st.sampled_from([None, None, 0.0, 0.3])),
        n_masks=draw(st.integers(1, 3)),
        channels=draw(st.sampled_from(["stacked", "separate"])),
        gradient_step=draw(st.sampled_from(["srf", "srf", "literal"])),
        tv_gradient=draw(st.sampled_from(["exact", "forward"])),
    )
    return shape, options, draw(st.integers(0, 2**32)), draw(seeds)


def noise(shape, seed):
    return np.random.default_rng(seed).random(shape)


@given(problem=problems())
def test_agrees_with_the_reference(native, reference, problem):
    """Wherever the answer is well defined: at no tie of s_r and s_{r+1}, nor at the tolerance."""
    shape, options, image_seed, seed = problem
    batch = noise(shape, image_seed).astype(native.dtype)
    expected = reference(batch, options=options, seed=seed)
    wiggle = 1 + 2.0**-20 * (2 * noise(shape, image_seed + 1) - 1)
    nearby = reference((batch * wiggle).clip(0, 1), options=options, seed=seed)
    # Measured, not assumed: the map must not magnify a change of 1e-6 more than tenfold here.
    assume(np.abs(nearby - expected).max() < 10 * 2.0**-20)
    native.check(native.complete(batch, options=options, seed=seed), expected)


@given(problem=problems(), dtype=st.sampled_from(["uint8", "float16", "float32", "float64"]))
def test_result_is_an_image_of_the_same_kind(backend, problem, dtype):
    shape, options, image_seed, seed = problem
    values = noise(shape, image_seed)
    batch = np.rint(255 * values).astype(dtype) if dtype == "uint8" else values.astype(dtype)
    before = batch.copy()
    result, info = backend.complete(batch, options=options, seed=seed, return_info=True)
    assert (result.dtype, result.shape) == (batch.dtype, batch.shape)
    assert np.array_equal(batch, before)
    assert np.isfinite(result).all()
    assert result.min() >= 0
    assert result.max() <= (255 if dtype == "uint8" else 1)
    assert info.iterations.shape == (shape[0], 2 if options.alternate else 1)
    assert ((info.iterations >= 0) & (info.iterations <= options.max_iterations)).all()
    for record in (info.residual, info.delta, info.seconds):
        assert np.isfinite(record).all()
        assert (record >= 0).all()


@given(problem=problems(), levels=st.integers(1, 3))
def test_degenerate_images_stay_images(backend, problem, levels):
    """Few grey levels and repeated rows: ties and zeros among the singular values."""
    shape, options, image_seed, seed = problem
    batch = np.floor(levels * noise(shape, image_seed)) / levels
    batch[..., ::2, :] = batch[..., :1, :]
    result = backend.complete(batch.astype(backend.dtype), options=options, seed=seed)
    assert np.isfinite(result).all()
    assert result.min() >= 0
    assert result.max() <= 1


@given(problem=problems())
def test_anchors_of_a_single_pass_are_kept(backend, problem):
    shape, options, image_seed, seed = problem
    options = options.replace(alternate=False, n_masks=1)
    batch = noise(shape, image_seed).astype(backend.dtype)
    mask = bernoulli_masks(
        shape, anchor_fraction=options.anchor_fraction, seed=seed, channels=options.channels
    )
    result = backend.complete(batch, mask, options=options)
    kept = np.broadcast_to(mask, shape)
    assert np.array_equal(result[kept], batch[kept])


@given(problem=problems(), cut=st.integers(0, 5), first=seeds)
def test_batch_may_be_split_anywhere(backend, problem, cut, first):
    shape, options, image_seed, seed = problem
    batch = noise(shape, image_seed).astype(backend.dtype)
    cut = min(cut, shape[0])
    assume(first + cut < 2**64)
    run = {"options": options, "seed": seed}
    whole = backend.complete(batch, first_index=first, **run)
    head = backend.complete(batch[:cut], first_index=first, **run)
    tail = backend.complete(batch[cut:], first_index=first + cut, **run)
    assert np.array_equal(np.concatenate([head, tail]), whole)


@pytest.mark.parametrize("channels", ["stacked", "separate"])
@given(
    fraction=st.floats(0, 1),
    seed=seeds,
    first=seeds,
    stream=st.integers(0, 2**32 - 1),
    shape=shapes,
)
def test_masks_of_any_key(channels, fraction, seed, first, stream, shape):
    draw = {"anchor_fraction": fraction, "seed": seed, "stream": stream, "channels": channels}
    masks = bernoulli_masks(shape, first_index=first, **draw)
    assert masks.shape == (shape[0], shape[1] if channels == "stacked" else 1, *shape[2:])
    index = (first + shape[0] - 1) % 2**64
    last = bernoulli_masks((1, *shape[1:]), first_index=index, **draw)
    assert np.array_equal(masks[-1], last[0])
