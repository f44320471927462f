"""What a mask hides from a single pass: nothing of it reaches the result."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest

import splic_ext
from splic_ext import SolverOptions

CASES = 60
DTYPES = ("float32", "float64", "float16", "uint8")
#: Of floating-point images; those of bytes are hidden by other bytes.
BAD = (np.nan, np.inf, -np.inf, 1e30, -1.0)


def make_mask(kind, shape, rng):
    """Blocks hidden, or nearly everything, or nearly nothing; some images without an anchor."""
    n, c, h, w = shape
    planes = 1 if rng.random() < 0.5 else c
    mask = np.ones((n, planes, h, w), np.bool_)
    if kind == "blocks":
        for one in mask.reshape(-1, h, w):
            for _ in range(rng.integers(1, 3)):
                top, left = rng.integers(0, h), rng.integers(0, w)
                high, wide = 1 + rng.integers(0, h, 2) // 2
                one[top : top + high, left : left + wide] = False
    else:
        mask[:] = rng.random(mask.shape) < {"few": 0.03, "half": 0.5, "many": 0.97}[kind]
    mask[rng.random(n) < 0.25] = False
    if rng.random() < 0.3:
        mask[rng.integers(0, n), rng.integers(0, planes)] = False
    return mask


def make_problem(seed):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(2, 6)), *map(int, rng.integers([1, 2, 2], [4, 15, 15])))
    pick = rng.choice
    options = SolverOptions(
        rank=int(rng.integers(1, min(shape[2:]) + 1)) if rng.random() < 0.5 else None,
        tv_weight=float(pick([0, 0.02, 0.1, 0.4])),
        delta_decay=float(pick([0.45, 0.3, 0.8])),
        step_size=float(pick([0.5, 0.3])),
        inner_iterations=int(pick([7, 3])),
        max_iterations=int(pick([6, 14])),
        tolerance=float(pick([0, 1e-6])),
        alternate=False,
        empty_value=pick([None, 0.0, 0.3, 1.0]),
        channels=str(pick(["stacked", "separate"])),
        gradient_step="srf" if rng.random() < 0.8 else "literal",
        tv_gradient=str(pick(["exact", "forward"])),
    )
    mask = make_mask(str(pick(["blocks", "few", "half", "many"])), shape, rng)
    images = rng.random(shape) * pick([1.0, 1e-3])
    if rng.random() < 0.2:
        images *= rng.random(shape) < 0.1  # anchors that are all 0 here and there
    return images, mask, options, rng


def returned(mask, shape, options):
    """Where pixels come back as they are, for want of an anchor in their matrix."""
    seen = np.broadcast_to(mask, shape)
    axes = (2, 3) if options.channels == "separate" else (1, 2, 3)
    empty = ~seen.any(axis=axes, keepdims=True)
    return np.broadcast_to(empty, shape) & (options.empty_value is None)


def hidden_by(images, unseen, bad):
    with np.errstate(over="ignore"):
        return np.where(unseen, np.asarray(bad).astype(images.dtype), images)


def fills(images, unseen, rng):
    """The images with other things where they are not seen."""
    if images.dtype == np.uint8:
        yield np.where(unseen, rng.integers(0, 256, images.shape).astype(np.uint8), images)
        yield np.where(unseen, np.uint8(255), images)
        return
    yield np.where(unseen, rng.random(images.shape).astype(images.dtype), images)
    for bad in BAD:
        yield hidden_by(images, unseen, bad)
    yield hidden_by(images, unseen, rng.choice(BAD, images.shape))
    signalling = images.copy()
    bits = f"u{images.itemsize}"
    low = {2: 0x7C01, 4: 0x7F800001, 8: 0x7FF0000000000001}[images.itemsize]
    signalling.view(bits)[unseen] = low
    yield signalling


def run(images, mask, options, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return splic_ext.complete(images, mask, options=options, return_info=True, **more)


@pytest.mark.parametrize("name", ["cpu", "numpy"])
@pytest.mark.parametrize("seed", range(CASES))
def test_hidden_pixels_change_no_bit(request, name, seed):
    if name == "cpu":
        request.getfixturevalue("native_cpu")
    values, mask, options, rng = make_problem(seed)
    dtype = DTYPES[seed % 4]
    data_range = float(rng.choice([1.0, 3.5])) if dtype != "uint8" else 200.0
    images = (values * data_range).astype(dtype)
    if dtype != "uint8":
        images = np.minimum(images, np.asarray(data_range, dtype))
    back = returned(mask, images.shape, options)
    unseen = ~np.broadcast_to(mask, images.shape) & ~back
    more = {"backend": name, "data_range": data_range}
    expected, info = run(images, mask, options, **more)
    assert np.array_equal(expected[back], images[back])
    for hidden in fills(images, unseen, rng):
        result, found = run(hidden, mask, options, **more)
        assert result.tobytes() == expected.tobytes()
        for field in ("iterations", "residual", "delta"):
            assert np.array_equal(getattr(found, field), getattr(info, field))
    # The same from another layout, and in place.
    last = np.moveaxis(hidden, 1, -1)
    moved = np.moveaxis(mask, 1, -1)
    assert (
        run(last, moved, options, channel_axis=-1, **more)[0].tobytes()
        == np.moveaxis(expected, 1, -1).tobytes()
    )
    run(hidden, mask, options, out=hidden, **more)
    assert hidden.tobytes() == expected.tobytes()


@pytest.mark.parametrize("channels", ["stacked", "separate"])
@pytest.mark.parametrize("alternate", [False, True])
def test_a_matrix_without_an_anchor_gets_the_value(backend, channels, alternate):
    options = SolverOptions(
        max_iterations=7, alternate=alternate, channels=channels, empty_value=0.3
    )
    images = np.random.default_rng(0).random((3, 2, 8, 8)).astype(backend.dtype)
    mask = np.ones(images.shape, np.bool_)
    mask[:, :, 2:6, 3:5] = False
    mask[1] = False
    mask[2, 0] = False
    result, info = backend.complete(images, mask, options=options, return_info=True)
    alone = backend.complete(images, mask, options=options.replace(empty_value=None))
    value = backend.dtype.type(0.3)
    filled = np.zeros(images.shape, np.bool_)
    filled[1] = True
    filled[2, 0] = channels == "separate"
    assert np.array_equal(result[filled], np.full(filled.sum(), value))
    assert np.array_equal(result[~filled], alone[~filled])
    assert np.array_equal(alone[1], images[1])
    assert info.iterations[1, 0] == 0
    if alternate:  # all are anchors in the second pass of what has none in the first
        constant = np.full((1, 2, 8, 8), value)
        _, second = backend.complete(
            constant, ~mask[1:2], options=options.replace(alternate=False), return_info=True
        )
        assert info.iterations[1, 1] == second.iterations[0, 0]
        np.testing.assert_allclose(info.delta[1, 1], second.delta[0, 0], rtol=1e-5)


@pytest.mark.parametrize("given", [False, True])
def test_every_pass_has_the_rule(backend, given):
    """Without a target in the first pass there is no anchor in the second."""
    images = np.random.default_rng(1).random((2, 1, 6, 6)).astype(backend.dtype)
    options = SolverOptions(anchor_fraction=1.0, max_iterations=7, empty_value=0.6)
    mask = np.ones((6, 6), np.bool_) if given else None
    result, info = backend.complete(images, mask, options=options, return_info=True)
    assert np.array_equal(result, np.full_like(images, 0.6))
    assert (info.iterations[:, 0] > 0).all()
    assert (info.iterations[:, 1] == 0).all()
    single = options.replace(alternate=False)
    assert np.array_equal(backend.complete(images, mask, options=single), images)


@pytest.mark.parametrize(
    ("dtype", "data_range", "value"),
    [("uint8", 255, 128), ("uint8", 99.5, 50), ("float16", 1, 0.5), ("float32", 3.5, 1.75)],
)
def test_the_value_is_in_units_of_the_data_range(backend, dtype, data_range, value):
    options = SolverOptions(alternate=False, empty_value=0.5)
    images = np.zeros((1, 1, 4, 4), dtype)
    result = backend.complete(
        images, np.zeros((4, 4), np.bool_), options=options, data_range=data_range
    )
    assert (result == np.asarray(value, dtype)).all()


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e30])
def test_the_value_at_the_ends_of_the_scale(backend, scale):
    """Images whose own size is far from it."""
    images = np.full((2, 1, 4, 4), scale, backend.dtype)
    data_range = max(1.0, scale)
    for fraction in (0.0, 1.0):
        options = SolverOptions(anchor_fraction=fraction, empty_value=0.5)
        result = backend.complete(images, options=options, data_range=data_range)
        assert np.array_equal(result, np.full_like(images, 0.5 * data_range))


def test_drawn_masks_fill_too(backend):
    """Of several masks, some without an anchor: the mean counts the value."""
    images = np.random.default_rng(2).random((40, 1, 2, 2)).astype(backend.dtype)
    options = SolverOptions(
        anchor_fraction=0.1, alternate=False, empty_value=0.25, n_masks=2, max_iterations=7
    )
    result = backend.complete(images, options=options)
    filled = (result == 0.25).all(axis=(1, 2, 3))
    assert 5 < filled.sum() < 35


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.5, 2.0])
def test_what_counts_is_checked(bad):
    images = np.full((3, 2, 6, 6), 0.5, np.float32)
    mask = np.ones((3, 1, 6, 6), np.bool_)
    mask[2] = False
    mask[0, 0, 0, 0] = False
    once = SolverOptions(alternate=False)
    for place, options in (
        ((1, 0, 0, 0), once),  # an anchor
        ((2, 0, 0, 0), once),  # returned as it is
        ((0, 0, 0, 0), SolverOptions()),  # seen by the second pass
    ):
        wrong = images.copy()
        wrong[place] = bad
        with pytest.raises(ValueError, match=f"image {place[0]}"):
            splic_ext.complete(wrong, mask, options=options)
    wrong = images.copy()
    wrong[0, 0, 0, 0] = bad
    assert np.isfinite(splic_ext.complete(wrong, mask, options=once)).all()
    with pytest.raises(ValueError, match="image 0"):  # the library's masks are nobody's secret
        splic_ext.complete(wrong, options=once)


def test_an_excess_that_is_hidden_is_none():
    """A few roundings too much are clipped, in what is seen; not what is hidden beside it."""
    images = np.random.default_rng(3).random((2, 1, 8, 8)).astype(np.float32)
    images[0, 0, 0, 0] = 1 + 2e-7
    mask = np.ones((8, 8), np.bool_)
    mask[2:4, 2:4] = False
    options = SolverOptions(alternate=False, max_iterations=7)
    expected = splic_ext.complete(images.clip(0, 1), mask, options=options)
    images[:, :, 2:4, 2:4] = np.nan
    assert np.array_equal(splic_ext.complete(images, mask, options=options), expected)


MANY = 300


def block_masks(count, side=32):
    rng = np.random.default_rng(4)
    masks = np.ones((count, 1, side, side), np.bool_)
    for mask in masks:
        top, left = rng.integers(0, side - 9, 2)
        mask[0, top : top + 9, left : left + 9] = False
    return masks


@pytest.mark.parametrize("container", ["numpy", "torch"])
@pytest.mark.parametrize("excess", [False, True])
def test_many_masks_of_one_image(request, native_cpu, container, excess):
    """By broadcasting: the bits of single calls, and no copy of the repeated image."""
    image = np.random.default_rng(5).random((3, 32, 32)).astype(np.float32)
    image[0, 0, 0] += 1.5 * excess  # one rounding, once it is a fraction
    image[0, 0, 0] = min(image[0, 0, 0], 1 + 1.2e-7)
    masks = block_masks(MANY)
    options = SolverOptions(alternate=False, max_iterations=7)
    if container == "numpy":
        batch, given = np.broadcast_to(image, (MANY, 3, 32, 32)), masks
    else:
        torch = request.getfixturevalue("torch")
        batch = torch.from_numpy(image).expand(MANY, 3, 32, 32)
        given = torch.from_numpy(masks)
    splic_ext.complete(batch[:2], given[:2], options=options)
    result = np.asarray(splic_ext.complete(batch, given, options=options))
    for i in range(0, MANY, 29):
        alone = splic_ext.complete(image, masks[i], options=options)
        assert np.array_equal(result[i], alone)
    if container == "numpy":
        tracemalloc.start()
        try:
            result = splic_ext.complete(batch, given, options=options)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1.1 * result.nbytes + 200_000


def test_many_masks_of_an_image_with_hidden_nan(native_cpu):
    """Nor is there a copy where the check of the values has to look at the masks."""
    image = np.random.default_rng(6).random((3, 32, 32)).astype(np.float32)
    masks = block_masks(MANY)
    masks[:, :, 3:5, 3:5] = False
    options = SolverOptions(alternate=False, max_iterations=7)
    expected = splic_ext.complete(np.broadcast_to(image, (MANY, 3, 32, 32)), masks, options=options)
    image[:, 3:5, 3:5] = np.nan
    batch = np.broadcast_to(image, (MANY, 3, 32, 32))
    tracemalloc.start()
    try:
        result = splic_ext.complete(batch, masks, options=options)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.array_equal(result, expected)
    assert peak < 1.1 * result.nbytes + 200_000
