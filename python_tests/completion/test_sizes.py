"""Sizes, element types, ranges and contents at their limits."""

from __future__ import annotations

import numpy as np
import pytest

from splic_ext import SolverOptions
from splic_ext.masks import bernoulli_masks

# Height, width, iterations: fewer for the larger ones.
SIZES = [
    (1, 1, 16),
    (1, 2, 16),
    (1, 9, 16),
    (9, 1, 16),
    (2, 2, 16),
    (3, 2, 16),
    (5, 7, 16),
    (8, 8, 16),
    (17, 16, 16),
    (28, 28, 16),
    (33, 31, 10),
    (64, 64, 10),
    (65, 65, 10),
    (100, 40, 8),
    (40, 100, 8),
    (224, 224, 3),
    (8, 512, 8),
    (512, 8, 8),
    (1, 512, 8),
    (512, 1, 8),
    (512, 512, 2),
]

CHANNELS = ["stacked", "separate"]


@pytest.fixture(scope="module")
def solved(reference):
    """The reference's answer, computed once for all back ends."""
    cache = {}

    def solve(key, batch, **arguments):
        key = (key, str(batch.dtype))
        if key not in cache:
            cache[key] = reference(batch, **arguments)
        return cache[key]

    return solve


def noise(shape, seed=0):
    return np.random.default_rng(seed).random(shape)


@pytest.mark.parametrize(("height", "width", "most"), SIZES)
def test_gray_images_of_any_size(backend, solved, smooth, height, width, most):
    count = 1 if height * width > 10_000 else 3
    batch = 0.8 * smooth((count, 1, height, width)) + 0.2 * noise((count, 1, height, width))
    batch = batch.astype(backend.dtype)
    options = SolverOptions(max_iterations=most, alternate=height * width < 10_000)
    result = backend.complete(batch, options=options)
    assert result.min() >= 0
    assert result.max() <= 1
    backend.check(result, solved((height, width), batch, options=options))


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(
    "shape",
    [(1, 2, 1, 1), (3, 3, 7, 5), (2, 4, 40, 24), (5, 2, 1, 6), (1, 40, 512, 1), (1, 9, 400, 5)],
)
@pytest.mark.parametrize("rank", [1, None, "full"])
def test_colour_images_at_every_rank(backend, solved, shape, channels, rank):
    batch = noise(shape).astype(backend.dtype)
    rank = min(shape[2:]) if rank == "full" else rank
    options = SolverOptions(max_iterations=10, channels=channels, rank=rank)
    result = backend.complete(batch, options=options)
    backend.check(result, solved((shape, channels, rank), batch, options=options))


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (0, 1, 1, 1), (0, 3, 0, 0)])
def test_empty_batch(backend, shape):
    result, info = backend.complete(np.empty(shape, backend.dtype), return_info=True)
    assert (result.shape, result.dtype) == (shape, backend.dtype)
    assert [record.shape for record in vars(info).values()] == [(0, 2), (0, 2), (0, 2), (0,)]


def border(shape):
    batch = np.zeros(shape)
    batch[..., 5:-6, 4:-3] = noise(batch[..., 5:-6, 4:-3].shape)
    return batch


def single(shape):
    batch = np.zeros(shape)
    batch[..., 3, 4] = 1
    return batch


def blocks(shape):
    coarse = noise((*shape[:-2], shape[-2] // 4, shape[-1] // 4))
    return coarse.repeat(4, -2).repeat(4, -1)


def stripes(shape):
    return np.broadcast_to(np.arange(shape[-1]) % 2, shape).astype(float)


def two_sizes(shape):
    """Half of the columns a million times darker than the others."""
    batch = noise(shape)
    batch[..., ::2] *= 1e-6
    return batch


# Low-rank, degenerate and badly scaled images: name -> shape -> float64 in [0, 1].
CONTENTS = {
    "zeros": np.zeros,
    "ones": np.ones,
    "single pixel": single,
    "black border": border,
    "blocks": blocks,
    "stripes": stripes,
    "white noise": noise,
    "tiny values": lambda shape: 1e-12 * noise(shape),
    "smallest values": lambda shape: np.full(shape, 1e-40),
    "two sizes": two_sizes,
    "binary": lambda shape: np.rint(noise(shape)),
    "almost white": lambda shape: 1 - 1e-5 * noise(shape),
}


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("name", CONTENTS)
def test_contents(backend, solved, name, channels):
    shape = (3, 3, 24, 20)
    batch = CONTENTS[name](shape).astype(backend.dtype)
    options = SolverOptions(channels=channels, max_iterations=35)
    result, info = backend.complete(batch, options=options, return_info=True)
    assert all(np.isfinite(record).all() for record in vars(info).values())
    assert result.min() >= 0
    assert result.max() <= 1
    if name == "zeros":
        assert not result.any()
    backend.check(result, solved((name, channels), batch, options=options))
    if 0 < batch.max() < 1e-3:
        scale = float(batch.max())
        expected = solved((name, channels), batch, options=options)
        assert np.abs(result - expected).max() <= max(1e-3 * scale, 1e-38)


@pytest.mark.parametrize("data_range", [1e-30, 1e-6, 1e30])
def test_very_small_and_very_large_ranges(backend, solved, data_range):
    batch = (data_range * noise((3, 1, 16, 12))).astype(backend.dtype).clip(0, data_range)
    options = SolverOptions(max_iterations=21)
    result, info = backend.complete(batch, options=options, data_range=data_range, return_info=True)
    assert result.max() <= backend.dtype.type(data_range)
    assert (info.iterations == 21).all()
    assert (info.delta < 24).all()
    expected = solved(data_range, batch, options=options, data_range=data_range)
    backend.check(result, expected, data_range)


@pytest.mark.parametrize("gradient_step", ["srf", "literal"])
@pytest.mark.parametrize("decay", [0.45, 0.01])
def test_delta_far_below_the_data(backend, reference, gradient_step, decay):
    """Delta, its square and their inverses leave the range of floats; the rank term is then 0."""
    batch = noise((3, 1, 9, 8)).astype(backend.dtype)
    options = SolverOptions(
        gradient_step=gradient_step,
        delta_decay=decay,
        inner_iterations=1,
        max_iterations=500,
        tolerance=0,
        alternate=False,
    )
    result, info = backend.complete(batch, options=options, return_info=True)
    assert (info.iterations == 500).all()
    assert np.isfinite(info.residual).all()
    mask = bernoulli_masks(batch.shape)
    assert np.array_equal(result[mask], batch[mask])
    assert result[~mask].max() > 0.1
    if gradient_step == "srf":
        backend.check(result, reference(batch, options=options))


@pytest.mark.parametrize("channels", CHANNELS)
def test_uint8_rounds_to_nearest(backend, reference, channels):
    batch = np.random.default_rng(0).integers(0, 256, (4, 3, 16, 12), dtype=np.uint8)
    options = SolverOptions(max_iterations=16, channels=channels)
    result = backend.complete(batch, options=options)
    expected = reference(batch, options=options, data_range=255)
    assert np.abs(result - expected).max() < 0.51
    assert (result == np.rint(expected)).mean() > 0.999


@pytest.mark.parametrize(("dtype", "digits"), [("float16", 11), ("bfloat16", 8)])
def test_half_precision_rounds_to_nearest(backend, reference, torch, dtype, digits):
    batch = torch.from_numpy(noise((4, 1, 16, 12))).to(getattr(torch, dtype))
    options = SolverOptions(max_iterations=16)
    result = backend.complete(batch, options=options).double().numpy()
    expected = reference(batch.double().numpy(), options=options)
    half_ulp = 2.0 ** (np.floor(np.log2(np.maximum(expected, 1e-4))) - digits)
    assert (np.abs(result - expected) <= half_ulp + 2.0**-13).all()


def test_values_beyond_uint8_do_not_wrap_around(backend, reference):
    """With a data range above 255 the solver may overshoot what uint8 can hold."""
    batch = 255 * np.random.default_rng(0).integers(0, 2, (2, 1, 16, 16), dtype=np.uint8)
    expected = reference(batch, data_range=1000)
    assert expected.max() > 256, "the problem must overshoot"
    result = backend.complete(batch, data_range=1000)
    assert np.abs(result - np.minimum(expected, 255)).max() < 0.6


def test_values_beyond_float16_stay_finite(backend):
    batch = np.where(noise((2, 1, 16, 16)) < 0.5, 0, 65504).astype(np.float16)
    result = backend.complete(batch, data_range=1e6)
    assert np.isfinite(result).all()


def test_clip(backend, reference):
    """Steps of 1.5 overshoot on both sides; the result stays in the range."""
    batch = np.rint(noise((3, 1, 16, 12))).astype(backend.dtype)
    options = SolverOptions(step_size=1.5, max_iterations=16)
    result = backend.complete(batch, options=options)
    assert (result == 0).any()
    assert (result == 1).any()
    backend.check(result, reference(batch, options=options))


@pytest.mark.parametrize(
    ("dtype", "data_range"), [("float32", 0.3), ("float16", 0.7), ("uint8", 101.5)]
)
def test_result_lies_in_the_data_range(backend, dtype, data_range):
    """A result may be completed again: it is not rounded to beyond the range."""
    top = np.array(np.floor(data_range) if dtype == "uint8" else data_range).astype(dtype)
    batch = np.where(noise((2, 1, 16, 16)) < 0.5, 0, top).astype(dtype)
    result = backend.complete(batch, data_range=data_range)
    assert result.max() <= top
    backend.complete(result, data_range=data_range)
