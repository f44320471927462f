"""One pass of SPLIC that begins at another fill: its options, its derivative."""

from __future__ import annotations

import pytest

from splic_ext import SolverOptions, complete

torch = pytest.importorskip("torch", reason="torch is not installed")
fills = pytest.importorskip("splic_ext.fills")

from helpers.fills import images_of, masks_of  # noqa: E402

STARTS = ("gray", "mean", "thin-plate", "tv")
REFINE, HOLES = SolverOptions.preset("refine"), SolverOptions.preset("holes")


def test_where_it_begins():
    assert fills.SPLICFill().start == "thin-plate"
    assert fills.SPLICFill().options == REFINE
    assert fills.SPLICFill(REFINE.replace(rank=3)).start == "thin-plate"
    assert fills.SPLICFill("holes").start is None


@pytest.mark.parametrize(
    ("spec", "options", "start"),
    [
        ("splic:start=tv", REFINE, "tv"),
        ("splic:start=tv,rank=4", REFINE.replace(rank=4), "tv"),
        ("splic:start=zero", REFINE.replace(start="zero"), None),
        ("splic:start=none", REFINE, "thin-plate"),
        ("splic:holes", HOLES, None),
        ("splic:holes,start=zero", HOLES, None),
        ("splic:holes,start=mean", HOLES.replace(start="image"), "mean"),
    ],
)
def test_texts_name_where_it_begins(spec, options, start):
    fill = fills.fill_from_spec(spec)
    assert (fill.options, fill.start) == (options, start)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"options": "holes", "start": "tv"},
            "must be None for options that do not start from the image",
        ),
        (
            {"options": "holes", "start": "image"},
            "must be None for options that do not start from the image",
        ),
        ({"start": "telea"}, "`start` must be one of 'gray', 'mean', .*got 'telea'"),
        ({"start": "splic"}, "`start` must be one of"),
        ({"start": 3}, "`start` must be one of"),
        ({"options": REFINE.replace(alternate=True)}, "must be of one pass with one mask"),
        ({"options": REFINE.replace(n_masks=2)}, "n_masks > 1"),
    ],
)
def test_what_does_not_go_together(given, message):
    with pytest.raises(ValueError, match=message):
        fills.SPLICFill(**given)
    if "options" in given:
        with pytest.raises(ValueError, match=message):
            fills.create_fill("splic", **given)


@pytest.mark.parametrize("start", STARTS)
def test_it_completes_what_the_first_fill_left(start):
    images, masks = images_of((6, 3, 9, 8)), masks_of(9, 8)[:6]
    first = fills.create_fill(start)(images, masks)
    expected = complete(first, masks, options=REFINE)
    result = fills.SPLICFill(start=start)(images, masks)
    assert torch.equal(result, torch.where(masks, images, expected))


@pytest.mark.parametrize("start", STARTS)
def test_hidden_pixels_never_change_a_bit(start):
    images, masks = images_of((7, 3, 9, 8)), masks_of(9, 8)
    hidden = ~masks.expand(images.shape)
    fill = fills.SPLICFill(start=start)
    expected = fill(images, masks)
    for value in (0.0, 1.0, float("nan"), images_of(images.shape, 5)):
        other = torch.where(hidden, torch.as_tensor(value), images)
        assert torch.equal(fill(other, masks), expected)
    for row in range(7):
        part = slice(row, row + 1)
        assert torch.equal(fill(images[part], masks[part]), expected[part])


def test_fewer_iterations_come_closer_to_the_end_than_from_zero():
    """Seven from the plate are nearer to seventy than seven from zero."""
    ramp = torch.linspace(0.2, 0.8, 16)
    images = (ramp[:, None] * ramp).expand(1, 1, 16, 16)
    mask = torch.ones(16, 16, dtype=torch.bool)
    mask[5:11, 4:10] = False
    zero = fills.SPLICFill(REFINE.replace(start="zero", first_delta=1.0))
    errors = [(fill(images, mask) - images).abs().max() for fill in (fills.SPLICFill(), zero)]
    assert errors[0] < 0.02
    assert errors[0] < errors[1] / 5


@pytest.mark.parametrize("start", ["gray", "mean", "thin-plate"])
def test_gradient_by_finite_differences(start):
    """In some directions, of visible and hidden pixels, with values far from 0 and 1."""
    masks = masks_of(6, 5)[[0, 3]]
    images = (0.35 + 0.3 * images_of((2, 2, 6, 5))).double().requires_grad_()
    weights = images_of(images.shape, 2).double()
    fill = fills.SPLICFill(REFINE.replace(max_iterations=4), start=start)

    def value(x):
        return (fill(x, masks) * weights).sum()

    (gradient,) = torch.autograd.grad(value(images), images)
    assert (gradient[~masks.expand(images.shape)] == 0).all()
    for seed in range(4):
        direction = images_of(images.shape, 10 + seed).double() - 0.5
        step = 1e-6 * direction
        with torch.no_grad():
            slope = (value(images + step) - value(images - step)) / 2e-6
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-7)
