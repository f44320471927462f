"""Holes of pictures: what comes back, what it depends on, tiles."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import splic_ext
from splic_ext import ShapeError, SolverOptions
from splic_ext.inpainting import picture

MASK = np.ones((24, 20), bool)
MASK[5:12, 6:15] = False


@pytest.fixture
def smooth_picture(smooth):
    return smooth((3, 24, 20))


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize("axis", [-3, -1])
def test_visible_pixels_come_back(dtype, axis, smooth_picture):
    image = 255 * smooth_picture if dtype == "uint8" else smooth_picture
    image = image.astype(dtype)
    image = image if axis == -3 else np.ascontiguousarray(image.transpose(1, 2, 0))
    before = image.copy()
    filled = splic_ext.inpaint(image, MASK, channel_axis=axis)
    assert (filled.dtype, filled.shape) == (image.dtype, image.shape)
    assert np.array_equal(image, before)
    first, second = (x if axis == -3 else x.transpose(2, 0, 1) for x in (filled, image))
    assert np.array_equal(first[:, MASK], second[:, MASK])
    scale = 255 if dtype == "uint8" else 1
    error = np.abs(first.astype(float) - second)[:, ~MASK].max() / scale
    assert 0 < error < 0.1


def test_gray(smooth_picture):
    filled = splic_ext.inpaint(smooth_picture[0], MASK)
    assert np.allclose(filled, splic_ext.inpaint(smooth_picture[:1], MASK)[0])


def test_hidden_pixels_do_not_matter(smooth_picture):
    expected = splic_ext.inpaint(smooth_picture, MASK)
    for value in (np.nan, np.inf, -7.0):
        poisoned = np.where(MASK, smooth_picture, value)
        assert np.array_equal(splic_ext.inpaint(poisoned, MASK), expected)


def test_it_is_the_completion_of_the_fill(smooth_picture):
    """The surface and the pass are those of `SPLICFill` with these options."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from splic_ext.fills import SPLICFill

    for options in ("inpaint", "refine", "holes"):
        found = splic_ext.inpaint(smooth_picture, MASK, options=options)
        fill = SPLICFill(options)
        expected = fill(torch.from_numpy(smooth_picture)[None], torch.from_numpy(MASK))[0]
        assert np.abs(found - expected.numpy()).max() < 1e-5


def test_nothing_to_fill(smooth_picture):
    filled = splic_ext.inpaint(smooth_picture, np.ones((24, 20), bool))
    assert np.array_equal(filled, smooth_picture)
    assert filled is not smooth_picture


def test_spans_cover_a_side():
    for length in (1, 511, 512, 513, 897, 1500, 4000):
        weights = np.zeros(length)
        spans = list(picture._spans(length))
        for span, weight in spans:
            assert span.stop - span.start == len(weight) <= 512
            weights[span] += weight
        assert (weights > 0).all()
        for (a, _), (b, _) in pairwise(spans):
            assert a.stop - b.start >= picture.OVERLAP
        assert (len(spans) == 1) == (length <= 512)


def test_tiles_fade_into_each_other(monkeypatch, smooth):
    """A hole across the middle of a picture, which is cut there, is filled as without a cut."""
    image = smooth((1, 60, 150), 2)
    visible = np.ones((60, 150), bool)
    visible[20:40, 55:95] = False
    whole = splic_ext.inpaint(image, visible)
    monkeypatch.setattr(picture, "MAX_SIDE", 90)
    monkeypatch.setattr(picture, "OVERLAP", 30)
    assert len(list(picture._spans(150))) == 2
    cut = splic_ext.inpaint(image, visible)
    assert not np.array_equal(cut, whole)
    errors = [np.sqrt(((x - image)[:, ~visible] ** 2).mean()) for x in (cut, whole)]
    assert errors[0] < 1.5 * errors[1]
    # No step where a tile ends: differences along the rows are as without tiles.
    steps = [np.abs(np.diff(x[:, 20:40, 55:95], axis=2)).max() for x in (cut, whole, image)]
    assert steps[0] < 1.5 * max(steps[1:])


def test_large_pictures(smooth):
    image = smooth((1, 40, 700), 1).astype(np.float32)
    visible = np.ones((40, 700), bool)
    visible[10:22, 330:370] = False
    visible[:, 690:] = False
    filled = splic_ext.inpaint(image, visible)
    assert np.array_equal(filled[:, visible], image[:, visible])
    assert np.abs(filled - image)[:, 10:22, 330:370].max() < 0.1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ("recommended", ValueError, "of one pass with one mask, got alternate=True"),
        (
            SolverOptions(alternate=False, n_masks=2),
            ValueError,
            "of one pass with one mask, got n_masks > 1",
        ),
        ("best", ValueError, "preset name must be one of"),
        (3, TypeError, "`options` must be a SolverOptions"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        splic_ext.inpaint(np.zeros((24, 20)), MASK, options=options)


@pytest.mark.parametrize(
    ("image", "mask", "axis", "error", "message"),
    [
        ([[0.0]], MASK, -3, TypeError, "`image` must be a NumPy array, got list"),
        (np.zeros((24, 20)), [[True]], -3, TypeError, "`mask` must be a NumPy array, got list"),
        (np.zeros((24, 20), int), MASK, -3, TypeError, "must be of uint8, float16"),
        (np.zeros((2, 3, 24, 20)), MASK, -3, ShapeError, "inpaint pictures one by one"),
        (np.zeros((24, 20)), MASK.astype(int), -3, TypeError, "`mask` must be of bool"),
        (np.zeros((24, 21)), MASK, -3, ShapeError, "must have the size of the picture"),
        (np.zeros((24, 20, 3)), MASK, -3, ShapeError, "pass `channel_axis=-1`"),
        (np.zeros((24, 20)), MASK, 1, ValueError, "`channel_axis` must be -3"),
        (np.zeros((24, 20)), np.zeros((24, 20), bool), -3, ValueError, "hides every pixel"),
        (np.full((24, 20), np.nan), MASK, -3, ValueError, "must be finite and lie in"),
        (np.full((24, 20), 2.0), MASK, -3, ValueError, "or pass the right `data_range`"),
    ],
)
def test_wrong_pictures(image, mask, axis, error, message):
    with pytest.raises(error, match=message):
        splic_ext.inpaint(image, mask, channel_axis=axis)
