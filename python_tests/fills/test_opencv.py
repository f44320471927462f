"""The fills by OpenCV: what cv2.inpaint returns, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
fills = pytest.importorskip("splic_ext.fills")

from helpers.fills import images_of  # noqa: E402

KINDS = {fills.Telea: cv2.INPAINT_TELEA, fills.NavierStokes: cv2.INPAINT_NS}


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


@pytest.fixture
def mask():
    mask = torch.ones(24, 21, dtype=torch.bool)
    mask[6:15, 7:16] = False
    return mask


@pytest.mark.parametrize("radius", [1, 3, 7])
def test_a_hole_away_from_the_border_is_that_of_opencv(kind, mask, radius):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 21, 3), np.uint8)
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    expected = cv2.inpaint(pixels, (~mask).numpy().astype(np.uint8), radius, KINDS[kind])
    result = kind(radius)(images, mask)[0].permute(1, 2, 0) * 255
    assert np.array_equal(np.rint(result.numpy()), expected)
    assert (result - torch.from_numpy(expected)).abs().max() < 1e-4
    gray = kind(radius)(images[:, :1], mask)[0, 0] * 255
    expected = cv2.inpaint(
        np.ascontiguousarray(pixels[..., 0]), (~mask).numpy().astype(np.uint8), radius, KINDS[kind]
    )
    assert np.array_equal(np.rint(gray.numpy()), expected)


def test_other_numbers_of_channels_are_filled_one_by_one(kind, mask):
    images = images_of((2, 4, 24, 21))
    result = kind()(images, mask)
    for channel in range(4):
        alone = slice(channel, channel + 1)
        assert torch.equal(kind()(images[:, alone], mask), result[:, alone])


@pytest.mark.parametrize("value", [0.0, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("size", [(1, 9), (9, 1), (2, 2), (9, 8)], ids=str)
def test_a_constant_is_kept_to_some_steps_at_every_border(kind, size, value):
    """Where OpenCV reads hidden pixels it must not find black ones."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(40, 1, *size, generator=generator) < torch.linspace(0.1, 0.9, 40).view(
        40, 1, 1, 1
    )
    masks[:, 0, 0, 0] = True
    result = kind()(torch.full((40, 3, *size), value), masks)
    steps = 0.01 if kind is fills.NavierStokes else 12.5
    assert (result - value).abs().max() * 255 <= steps


def test_settings_of_opencv_are_left_alone(kind, mask):
    before = cv2.getNumThreads(), cv2.useOptimized()
    kind()(images_of((2, 3, 24, 21)), mask)
    assert (cv2.getNumThreads(), cv2.useOptimized()) == before
