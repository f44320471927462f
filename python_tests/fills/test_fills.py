"""What all fills keep: hidden pixels tell nothing, visible ones stay, each row by itself."""

from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest

from splic_ext import MissingExtraError, ShapeError

torch = pytest.importorskip("torch", reason="torch is not installed")
fills = pytest.importorskip("splic_ext.fills")

from helpers.fills import White, diagonal, images_of, masks_of  # noqa: E402

OWN = {"own class": White, "own function": lambda: fills.FunctionFill(diagonal)}
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.fixture(params=[*fills.FILLS, *OWN])
def fill(request):
    if request.param in OWN:
        return OWN[request.param]()
    try:
        return fills.create_fill(request.param)
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.fixture
def images():
    return images_of((7, 3, 9, 8))


@pytest.fixture
def masks():
    return masks_of(9, 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_hidden_pixels_never_change_a_bit(fill, images, masks, dtype):
    images = images.to(dtype)
    hidden = ~masks.expand(images.shape)
    expected = fill(images, masks)
    values = [0.0, 1.0, float("nan"), float("inf"), -float("inf"), 1e4, -7.0]
    for value in [*values, images_of(images.shape, seed=9).to(dtype)]:
        other = torch.where(hidden, torch.as_tensor(value, dtype=dtype), images)
        assert torch.equal(fill(other, masks), expected)


def test_visible_pixels_do_change_it(fill, images, masks):
    if isinstance(fill, (fills.Constant, White)):
        pytest.skip("this fill is a constant")
    other = 1 - images
    hidden = ~masks.expand(images.shape)
    difference = fill(other, masks)[:6] != fill(images, masks)[:6]
    assert difference[hidden[:6]].any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_visible_pixels_come_back(fill, images, masks, dtype):
    images = images.to(dtype)
    before = images.clone()
    result = fill(images, masks)
    assert (result.shape, result.dtype) == (images.shape, dtype)
    visible = masks.expand(images.shape)
    assert torch.equal(result[visible], images[visible])
    assert result.min() >= 0
    assert result.max() <= 1
    assert torch.equal(images, before), "the input was changed"
    assert torch.equal(fill(images, torch.ones(9, 8, dtype=torch.bool)), images)


def test_an_image_of_which_nothing_is_visible_is_gray(fill, images, masks):
    assert (fill(images, masks)[6] == 0.5).all()
    assert (fill(images, torch.zeros(9, 8, dtype=torch.bool)) == 0.5).all()


def test_each_row_is_that_of_the_row_alone(fill, images, masks):
    whole = fill(images, masks)
    for row in range(7):
        alone = fill(images[row : row + 1], masks[row : row + 1])
        assert torch.equal(alone, whole[row : row + 1])
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    assert torch.equal(fill(images[order], masks[order]), whole[order])
    assert torch.equal(fill(images, masks), whole)


@pytest.mark.parametrize("name", ["gray", "mean", "telea", "thin-plate", "tv"])
def test_large_images_too_with_any_number_of_threads(name):
    """Where there is but one, torch lets several threads share a sum."""
    images, mask = images_of((3, 1, 224, 224)), torch.ones(224, 224, dtype=torch.bool)
    mask[100:109, 50:59] = False
    try:
        fill = fills.create_fill(name)
    except MissingExtraError as error:
        pytest.skip(str(error))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results += [
                fill(images, mask),
                torch.cat([fill(image[None], mask) for image in images]),
            ]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


def test_one_image_or_one_mask_stands_for_as_many_as_the_other(fill, images, masks):
    image = images[:1]
    assert torch.equal(fill(image, masks), fill(image.expand(7, -1, -1, -1), masks))
    for mask in (masks[3:4], masks[3, 0]):
        assert torch.equal(fill(images, mask), fill(images, masks[3:4].expand(7, -1, -1, -1)))


def test_empty_batches(fill, images, masks):
    assert fill(images[:0], masks[0, 0]).shape == (0, 3, 9, 8)
    assert fill(images[:0], masks[:0]).shape == (0, 3, 9, 8)
    assert fill(images[:1], masks[:0]).shape == (0, 3, 9, 8)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_numbers_of_channels(fill, masks, channels):
    images = images_of((7, channels, 9, 8))
    assert fill(images, masks).shape == images.shape


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (1, 7), (9, 1), (2, 3), (3, 3)], ids=str)
def test_small_images(fill, size):
    images = images_of((2, 3, *size))
    mask = torch.ones(size, dtype=torch.bool)
    assert torch.equal(fill(images, mask), images)
    mask[-1, -1] = False
    expected = fill(images, mask)
    assert torch.equal(fill(torch.where(mask, images, images.new_tensor(0.9)), mask), expected)
    assert torch.equal(fill(images, mask), expected)


def test_layouts(fill, images, masks):
    spaced = torch.zeros(7, 3, 18, 24)[:, :, ::2, ::3]
    spaced.copy_(images)
    for layout in (spaced, images.contiguous(memory_format=torch.channels_last)):
        assert not layout.is_contiguous()
        assert torch.equal(fill(layout, masks), fill(images, masks))
    transposed = masks.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(fill(images, transposed), fill(images, masks))


def test_gradients_are_finite_and_pass_no_hidden_pixel(fill, images, masks):
    hidden = ~masks.expand(images.shape)
    poisoned = torch.where(hidden, images.new_tensor(float("nan")), images).requires_grad_()
    (gradient,) = torch.autograd.grad(
        (fill(poisoned, masks) * images_of(images.shape, 4)).sum(), poisoned
    )
    assert gradient.isfinite().all()
    assert (gradient[hidden] == 0).all()
    if not fill.differentiable:
        weights = images_of(images.shape, 4)
        assert torch.equal(gradient[~hidden], weights[~hidden])


def test_module_protocol(fill, images, masks):
    expected = fill(images, masks)
    assert list(fill.parameters()) == []
    assert fill.state_dict() == {}
    for twin in (copy.copy(fill), copy.deepcopy(fill), pickle.loads(pickle.dumps(fill))):
        assert repr(twin) == repr(fill)
        assert torch.equal(twin(images, masks), expected)


@pytest.mark.parametrize("name", fills.FILLS)
def test_repr_shows_all_parameters(name):
    kind = fills.FILLS[name]
    assert list(kind.shown) == list(inspect.signature(kind).parameters)
    try:
        fill = kind()
    except MissingExtraError as error:
        pytest.skip(str(error))
    assert repr(fill).startswith(f"{kind.__name__}(")
    assert all(f"{shown}={getattr(fill, shown)!r}" in repr(fill) for shown in kind.shown)


@pytest.mark.parametrize(
    ("images", "kind", "message"),
    [
        (np.zeros((1, 1, 2, 2)), TypeError, "`images` must be a torch tensor"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), TypeError, "`images` must be of float16"),
        (torch.zeros(1, 2, 2), ShapeError, "`images` must have shape"),
        (torch.full((1, 1, 2, 2), 1.5), ValueError, "`images` must be finite and lie in"),
        (torch.full((1, 1, 2, 2), -0.5), ValueError, "`images` must be finite and lie in"),
        (torch.full((1, 1, 2, 2), float("nan")), ValueError, "`images` must be finite"),
    ],
)
def test_wrong_images(fill, images, kind, message):
    mask = torch.tensor([[True, True], [True, False]])
    with pytest.raises(kind, match=message):
        fill(images, mask)


@pytest.mark.parametrize(
    ("mask", "kind", "message"),
    [
        (np.ones((9, 8), bool), TypeError, "`mask` must be a bool tensor.*ndarray"),
        (torch.ones(9, 8), TypeError, "`mask` must be a bool tensor.*float32"),
        (torch.ones(8, 9, dtype=torch.bool), ShapeError, "`mask` must have shape"),
        (torch.ones(7, 9, 8, dtype=torch.bool), ShapeError, "`mask` must have shape"),
        (torch.ones(7, 3, 9, 8, dtype=torch.bool), ShapeError, "one mask serves all channels"),
        (torch.ones(2, 1, 9, 8, dtype=torch.bool), ShapeError, "with M = 7"),
        (torch.ones(9, 8, dtype=torch.bool, device="meta"), ValueError, "device of `images`"),
    ],
)
def test_wrong_masks(fill, images, mask, kind, message):
    with pytest.raises(kind, match=message) as caught:
        fill(images, mask)
    if kind is ShapeError:
        assert caught.value.actual_shape == tuple(mask.shape)


def test_slight_excess_is_clipped(fill):
    images = torch.tensor([-5e-5, 1 + 5e-5] * 32).reshape(1, 1, 8, 8)
    mask = masks_of(8, 8)[3]
    assert torch.equal(fill(images, mask[None]), fill(images.clamp(0, 1), mask[None]))


# Fills of one's own


def made(function):
    return fills.FunctionFill(function)


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        (lambda x, m: x[:, :1], ShapeError, r"must return images of shape .*got \(7, 1, 9, 8\)"),
        (lambda x, m: x.numpy(), ShapeError, "must return images of shape .*got ndarray"),
        (lambda x, m: None, ShapeError, "must return images of shape .*got NoneType"),
        (lambda x, m: x / 0, ValueError, "must return finite images"),
        (lambda x, m: x + float("nan"), ValueError, "must return finite images"),
    ],
)
def test_wrong_returns(images, masks, function, kind, message):
    with pytest.raises(kind, match=message):
        made(function)(images, masks)


def test_a_function_sees_no_hidden_pixel_and_cannot_change_a_visible_one(images, masks):
    seen = []

    def vandal(x, m):
        seen.append(x.clone())
        return torch.full_like(x, 7.0)

    result = made(vandal)(images, masks)
    visible = masks.expand(images.shape)
    assert (seen[0][~visible] == 0).all()
    assert torch.equal(result[visible], images[visible])
    assert (result[:6][~visible[:6]] == 1).all(), "the excess is clipped"


def test_a_function_may_change_what_it_is_given(images, masks):
    def vandal(x, m):
        m.logical_not_()
        return x.fill_(0.25)

    before = images.clone(), masks.clone()
    result = made(vandal)(images, masks)
    visible = before[1].expand(images.shape)
    assert torch.equal(images, before[0])
    assert torch.equal(masks, before[1])
    assert torch.equal(result[visible], images[visible])
    assert torch.equal(made(vandal)(images, masks[0, 0])[:, :, 0], images[:, :, 0])


def test_a_fill_may_compute_in_another_dtype(images, masks):
    result = made(lambda x, m: x.double() + 0.25)(images, masks)
    assert result.dtype == torch.float32


def test_what_is_no_fill():
    with pytest.raises(TypeError, match="`function` must be callable"):
        fills.FunctionFill(3)
    with pytest.raises(NotImplementedError, match="Fill must implement the method `fill`"):
        fills.Fill()(torch.zeros(1, 1, 1, 2), torch.tensor([[True, False]]))


def test_autocast_does_not_reach_a_fill(images, masks):
    fill = made(lambda x, m: (x.flatten(2) @ x.flatten(2).mT @ x.flatten(2) / 99).view_as(x))
    expected = fill(images, masks)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fill(images, masks), expected)
