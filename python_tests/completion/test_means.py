"""`start="mean"`: targets begin at the mean of the anchors around them, or of completions."""

from __future__ import annotations

import numpy as np
import pytest

import splic_ext
from splic_ext import SolverOptions
from splic_ext.completion import means
from splic_ext.masks import bernoulli_masks

OPTIONS = SolverOptions(
    tv_weight=0.1, start="mean", first_delta=0.02, max_iterations=7, tolerance=0.0, n_masks=3
)


def pictures(shape, seed=0):
    """Smooth ones with a little noise, in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[2], : shape[3]] / max(shape[2:])
    images = rng.normal(0, 0.02, shape)
    for fy, fx in rng.normal(0, 3, (6, 2)):
        size = rng.normal(0, 0.3, (*shape[:2], 1, 1))
        images += size * np.cos(6.3 * (fy * y + fx * x) + rng.uniform(0, 6))
    return (images - images.min()) / np.ptp(images)


def around(images, anchors):
    """Mean of the anchors around each target, weighted 1, 2, 1 along both axes; all have some."""
    begin = images.copy()
    for n, c, h, w in zip(*np.nonzero(~anchors), strict=True):
        total = weight = 0.0
        for y in range(max(h - 1, 0), min(h + 2, images.shape[2])):
            for x in range(max(w - 1, 0), min(w + 2, images.shape[3])):
                share = (2 - abs(y - h)) * (2 - abs(x - w)) * anchors[n, c, y, x]
                total, weight = total + share * images[n, c, y, x], weight + share
        here = anchors[n, c]
        begin[n, c, h, w] = total / weight if weight else images[n, c][here].mean()
    return begin


def by_hand(images, options, seed, first_index, backend):
    """What the docstring says, from single passes."""
    total = np.zeros_like(images)
    how = options.replace(n_masks=1, alternate=False, start="image")
    for stream in range(options.n_masks):
        drawn = bernoulli_masks(
            images.shape, anchor_fraction=options.anchor_fraction, seed=seed,
            first_index=first_index, stream=stream, channels=options.channels,
        )  # fmt: skip
        mask = np.broadcast_to(drawn, images.shape)
        result = images
        for anchors in (mask, ~mask)[: 2 if options.alternate else 1]:
            mean = total / stream if stream else around(result, anchors)
            begin = np.where(anchors, result, mean)
            result = splic_ext.complete(begin, anchors, options=how, backend=backend)
        total += result
    return total / options.n_masks


@pytest.mark.parametrize("alternate", [True, False])
@pytest.mark.parametrize("channels", ["stacked", "separate"])
@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_is_what_it_says(reference, alternate, channels, fraction):
    options = OPTIONS.replace(alternate=alternate, channels=channels, anchor_fraction=fraction)
    images = pictures((3, 2, 18, 13))
    found = reference(images, options=options, seed=5, first_index=7)
    np.testing.assert_allclose(found, by_hand(images, options, 5, 7, "numpy"), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(4, 3, 20, 24), (2, 1, 70, 66)])
def test_agrees_with_the_reference(native, reference, size):
    images = pictures(size, 1).astype(native.dtype)
    expected, info = reference(images, options=OPTIONS, seed=3, return_info=True)
    result, found = native.complete(images, options=OPTIONS, seed=3, return_info=True)
    bound = 5e-5 if native.dtype == np.float32 else 1e-9
    assert np.abs(result - expected).max() <= bound
    assert np.array_equal(found.iterations, info.iterations)
    assert (info.iterations == 7).all()
    np.testing.assert_allclose(found.delta, info.delta, rtol=1e-5)
    assert (found.seconds > 0).all()


def test_does_not_depend_on_the_batch_or_the_threads(backend, monkeypatch):
    images = pictures((5, 3, 16, 20), 2).astype(np.float32)
    whole = backend.complete(images, options=OPTIONS, seed=1)
    monkeypatch.setattr(means, "CHUNK_ENTRIES", 2 * 3 * 16 * 20)
    assert np.array_equal(backend.complete(images, options=OPTIONS, seed=1, threads=1), whole)
    last = backend.complete(images[3:], options=OPTIONS, seed=1, first_index=3, threads=2)
    assert np.array_equal(last, whole[3:])


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float64"])
def test_every_dtype(backend, dtype):
    scale = 255 if dtype == "uint8" else 1
    images = (pictures((2, 3, 20, 16), 3) * scale).astype(dtype)
    result = backend.complete(images, options=OPTIONS)
    exact = splic_ext.complete(images / float(scale), options=OPTIONS, backend="numpy")
    assert result.dtype == images.dtype
    bound = {"uint8": 0.5 / 255 + 1e-4, "float16": 1e-3, "float64": 1e-9}[dtype]
    assert np.abs(result / float(scale) - exact).max() <= bound


@pytest.mark.parametrize("channels", ["stacked", "separate"])
def test_hidden_pixels_may_hold_anything(backend, channels):
    images = pictures((3, 2, 16, 16), 4).astype(np.float32)
    mask = np.random.default_rng(0).random(images.shape) < 0.5
    mask[0, 1] = channels == "separate"  # in a stack, a channel may have no anchor of its own
    options = OPTIONS.replace(n_masks=1, alternate=False, channels=channels)
    expected = backend.complete(images, mask, options=options)
    hidden = np.where(mask, images, np.float32(np.nan))
    assert np.array_equal(backend.complete(hidden, mask, options=options), expected)


def test_a_matrix_without_an_anchor(backend):
    images = pictures((2, 2, 12, 12), 7).astype(np.float32)
    mask = np.ones(images.shape, np.bool_)
    mask[1] = False
    options = OPTIONS.replace(n_masks=1, alternate=False)
    assert np.array_equal(backend.complete(images, mask, options=options), images)
    filled = backend.complete(images, mask, options=options.replace(empty_value=0.25))
    assert np.array_equal(filled[0], images[0])
    assert (filled[1] == np.float32(0.25)).all()


def test_into_the_batch_itself(backend):
    images = pictures((2, 3, 16, 16), 5).astype(np.float32)
    expected = backend.complete(images, options=OPTIONS)
    assert backend.complete(images, options=OPTIONS, out=images) is images
    assert np.array_equal(images, expected)


def test_divergence_is_an_error(backend):
    images = pictures((1, 1, 16, 16), 6).astype(np.float32)
    with pytest.raises(ArithmeticError, match="the iteration diverged on image 0"):
        backend.complete(images, options=OPTIONS.replace(tv_weight=1e6))


def test_preset_keeps_the_quality_of_recommended(native_cpu):
    """On a photograph of which nothing was tuned."""
    data = pytest.importorskip("skimage.data")
    image = data.astronaut()[40:152, 150:262].transpose(2, 0, 1)[None].astype(np.float32) / 255
    error = {
        name: float(np.square(native_cpu.complete(image, options=name) - image).mean())
        for name in ("photo", "recommended")
    }
    assert 10 * np.log10(error["photo"] / error["recommended"]) <= 0.1


@pytest.mark.parametrize("anchor_fraction", [0.02, 0.3])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_place_in_memory_changes_no_bit(anchor_fraction, dtype):
    images = pictures((2, 3, 40, 56))
    images = (255 * images).astype(dtype) if dtype == "uint8" else images.astype(dtype)
    options = SolverOptions.preset("photo", anchor_fraction=anchor_fraction)
    expected = splic_ext.complete(images, options=options)
    last = np.ascontiguousarray(np.moveaxis(images, 1, -1))
    for found in (
        splic_ext.complete(np.moveaxis(last, -1, 1), options=options),
        np.moveaxis(splic_ext.complete(last, options=options, channel_axis=-1), -1, 1),
    ):
        np.testing.assert_array_equal(found, expected)


def test_threads_and_batches_change_no_bit_of_a_large_image():
    images = pictures((2, 3, 150, 170)).astype(np.float32)
    options = SolverOptions.preset("photo", anchor_fraction=0.1)
    expected = splic_ext.complete(images, options=options, threads=1)
    np.testing.assert_array_equal(splic_ext.complete(images, options=options, threads=3), expected)
    alone = splic_ext.complete(images[1:], options=options, first_index=1)
    np.testing.assert_array_equal(alone[0], expected[1])


@pytest.mark.parametrize("size", [96, 130])
@pytest.mark.parametrize("anchor_fraction", [0.02, 0.05, 0.5])
@pytest.mark.parametrize("kind", ["constant", "rank 3", "photo"])
@pytest.mark.parametrize("start", ["image", "mean"])
def test_large_images_are_solved_as_in_float64(size, anchor_fraction, kind, start):
    """Of low rank from the first iterate on, with empty rows and columns, and of usual rank."""
    images = pictures((1, 3, size, size))
    if kind == "constant":
        images[:] = 0.4
    if kind == "rank 3":
        u, s, v = np.linalg.svd(images)
        images = (u[..., :3] * s[..., None, :3]) @ v[..., :3, :]
    mask = bernoulli_masks((1, 1, size, size), anchor_fraction=anchor_fraction)
    mask[..., 7:9, :] = mask[..., 20] = False
    options = OPTIONS.replace(start=start, n_masks=1, anchor_fraction=anchor_fraction)
    for scale in (1.0, 1e-6, 255.0):
        given = scale * images
        single = splic_ext.complete(
            given.astype(np.float32), mask, options=options, data_range=scale, backend="cpu"
        )
        double = splic_ext.complete(given, mask, options=options, data_range=scale, backend="cpu")
        assert np.abs(single - double).max() < 2e-4 * scale
