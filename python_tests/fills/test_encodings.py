"""Encodings that tell the network what is hidden."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from splic_ext.fills import ENCODINGS, Null, create_fill  # noqa: E402


@pytest.fixture
def images():
    return torch.rand(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def mask():
    return torch.rand(3, 1, 4, 5, generator=torch.Generator().manual_seed(1)) < 0.4


def test_null_is_both_values_or_nothing(images, mask):
    encoded = create_fill("null")(images, mask)
    assert encoded.shape == (3, 4, 4, 5)
    zero = torch.zeros(())
    assert torch.equal(encoded[:, :2], torch.where(mask, images, zero))
    assert torch.equal(encoded[:, 2:], torch.where(mask, 1 - images, zero))


def test_encodings_are_known_by_name():
    for name, kind in ENCODINGS.items():
        assert isinstance(create_fill(name), kind)
        assert kind.outputs > 1
    with pytest.raises(ValueError, match=r"fill name must be one of .*, null, got 'none'"):
        create_fill("none")


def test_null_tells_black_and_white_from_hidden():
    images = torch.tensor([[[[0.0, 1.0, 0.0]]]])
    encoded = Null()(images, torch.tensor([[True, True, False]]))[0, :, 0].T
    assert encoded.tolist() == [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]


def test_null_hides_what_is_hidden(images, mask):
    other = torch.where(mask, images, torch.full((), torch.nan))
    assert torch.equal(Null()(images, mask), Null()(other, mask))


def test_null_of_nothing_visible_is_zero(images):
    assert not Null()(images, torch.zeros(4, 5, dtype=torch.bool)).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_null_keeps_the_dtype(images, mask, dtype):
    encoded = Null()(images.to(dtype), mask)
    assert encoded.dtype == dtype
    assert torch.allclose(encoded.double().sum(1), 2 * mask[:, 0].double(), atol=2e-2)


def test_null_of_no_images(images, mask):
    assert Null()(images[:0], mask[:1]).shape == (0, 4, 4, 5)
    assert Null()(images[:1], mask).shape == (3, 4, 4, 5)


def test_null_is_differentiable(images, mask):
    inputs = images.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: Null()(x, mask), (inputs,))


def test_null_with_another_shape_is_refused(images, mask):
    class Wrong(Null):
        def fill(self, images, mask):
            return images

    with pytest.raises(ValueError, match=r"must return images of shape \(3, 4, 4, 5\)"):
        Wrong()(images, mask)
