"""The thin plate under tension: its minimum, its derivative, and the surfaces that it keeps."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from splic_ext import MissingExtraError

torch = pytest.importorskip("torch", reason="torch is not installed")
fills = pytest.importorskip("splic_ext.fills")

from helpers.fills import images_of, masks_of  # noqa: E402

from splic_ext.fills import thinplate  # noqa: E402


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    """No surface of another test."""
    monkeypatch.setattr(thinplate, "_KEPT", thinplate._Kept())
    return lambda: thinplate._KEPT


@pytest.fixture
def sparse(monkeypatch):
    """All surfaces are those of large holes."""
    pytest.importorskip("scipy", reason="SciPy is not installed")
    monkeypatch.setattr(thinplate, "MOST_DENSE", 0)


def scattered(height, width, share, seed):
    """A mask (1, 1, H, W) with at least one visible pixel and one hidden one."""
    mask = torch.from_numpy(np.random.default_rng(seed).random((1, 1, height, width)) < share)
    mask[0, 0, 0, 0], mask[0, 0, -1, -1] = True, False
    return mask


def differences(height, width, tension):
    """The energy is the squared norm of this matrix times the pixels; second implementation."""

    def along(n, steps):
        return np.diff(np.eye(n), steps, axis=0) if n > steps else np.zeros((0, n))

    rows, columns = np.eye(height), np.eye(width)
    return np.concatenate(
        [
            np.kron(along(height, 2), columns),
            np.kron(rows, along(width, 2)),
            np.sqrt(2) * np.kron(along(height, 1), along(width, 1)),
            np.sqrt(tension) * np.kron(along(height, 1), columns),
            np.sqrt(tension) * np.kron(rows, along(width, 1)),
        ]
    )


def least_squares(images, mask, tension):
    """The minimum, by the least squares of NumPy."""
    matrix = differences(*images.shape[2:], tension)
    seen = mask.numpy().ravel()
    flat = images.numpy().reshape(-1, seen.size).copy()
    right = -(matrix[:, seen] @ flat[:, seen].T)
    flat[:, ~seen] = np.linalg.lstsq(matrix[:, ~seen], right, rcond=None)[0].T
    return torch.from_numpy(flat.reshape(images.shape)).clamp(0, 1)


@pytest.mark.parametrize("size", [(9, 8), (1, 7), (7, 1), (2, 2), (1, 2), (3, 12)], ids=str)
@pytest.mark.parametrize("tension", [1e-4, 0.1, 1.0, 1e4])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_energy_is_least(size, tension, share):
    images = images_of((1, 3, *size)).double()
    for seed in range(3):
        mask = scattered(*size, share, seed)
        result = fills.ThinPlate(tension)(images, mask)
        expected = least_squares(images, mask, tension)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-7)


def test_the_energy_is_least_with_large_holes(sparse):
    images = images_of((1, 3, 9, 8)).double()
    for seed in range(5):
        mask = scattered(9, 8, 0.4, seed)
        result = fills.ThinPlate()(images, mask)
        torch.testing.assert_close(result, least_squares(images, mask, 0.1), rtol=0, atol=1e-9)


def test_large_holes_have_the_same_surface(monkeypatch):
    pytest.importorskip("scipy", reason="SciPy is not installed")
    images = images_of((2, 3, 40, 41)).double()
    mask = torch.ones(40, 41, dtype=torch.bool)
    mask[2:36, 3:37] = False
    assert (~mask).sum() > thinplate.MOST_DENSE
    large = fills.ThinPlate()(images, mask)
    monkeypatch.setattr(thinplate, "MOST_DENSE", 2000)
    monkeypatch.setattr(thinplate, "_KEPT", thinplate._Kept())
    torch.testing.assert_close(fills.ThinPlate()(images, mask), large, rtol=0, atol=1e-10)


@pytest.mark.parametrize("tension", [1e-4, 0.1, 1e4])
def test_ramps_are_restored_inside(tension):
    """Their second derivatives are 0, and so is the Laplacian that the tension asks for."""
    across, down = (
        torch.linspace(0, to, n, dtype=torch.float64) for to, n in ((0.4, 20), (0.6, 24))
    )
    images = (across + down[:, None]).expand(1, 2, 24, 20)
    mask = torch.ones(24, 20, dtype=torch.bool)
    mask[5:14, 6:15] = False
    mask[17, 3:9] = False
    torch.testing.assert_close(fills.ThinPlate(tension)(images, mask), images, rtol=0, atol=1e-8)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_constants_are_restored(value):
    images = torch.full((6, 3, 9, 8), value)
    torch.testing.assert_close(
        fills.ThinPlate()(images, masks_of(9, 8)[:6]), images, rtol=0, atol=1e-6
    )


def test_one_visible_pixel_gives_its_value_to_all():
    images = images_of((1, 3, 6, 5))
    mask = torch.zeros(6, 5, dtype=torch.bool)
    mask[4, 2] = True
    expected = images[:, :, 4:5, 2:3].expand(1, 3, 6, 5)
    torch.testing.assert_close(fills.ThinPlate()(images, mask), expected, rtol=0, atol=1e-5)


def test_an_image_of_one_pixel():
    image = torch.full((1, 2, 1, 1), 0.25)
    assert torch.equal(fills.ThinPlate()(image, torch.ones(1, 1, dtype=torch.bool)), image)
    assert (fills.ThinPlate()(image, torch.zeros(1, 1, dtype=torch.bool)) == 0.5).all()


def test_more_tension_overshoots_less():
    """Beyond the end of a slope a plate goes on, and a membrane does not."""
    images = torch.linspace(0.2, 0.5, 8).expand(1, 1, 8, 8).double()
    mask = torch.ones(8, 8, dtype=torch.bool)
    mask[:, 4:] = False
    last = [fills.ThinPlate(t)(images, mask)[0, 0, 4, 7] for t in (1e-4, 0.1, 10.0, 1e4)]
    assert sorted(last, reverse=True) == last
    assert last[0] > 0.49
    assert abs(last[-1] - images[0, 0, 0, 3]) < 1e-2


# Its derivative


def inner_fill(mask):
    """Without the limits to [0, 1], which have corners."""
    return lambda images: fills.ThinPlate().fill(torch.where(mask, images, 0.0), mask)


def test_gradient_by_finite_differences():
    images, masks = images_of((7, 2, 5, 4)).double().requires_grad_(), masks_of(5, 4)
    assert torch.autograd.gradcheck(inner_fill(masks), (images,))


def test_gradient_by_finite_differences_with_large_holes(sparse):
    images, masks = images_of((7, 2, 5, 4)).double().requires_grad_(), masks_of(5, 4)
    assert torch.autograd.gradcheck(inner_fill(masks), (images,))


def test_gradient_with_more_than_1024_hidden_pixels():
    """Along one direction: the fill is linear, so a difference is exact but for rounding."""
    pytest.importorskip("scipy", reason="SciPy is not installed")
    mask = torch.ones(1, 1, 40, 40, dtype=torch.bool)
    mask[..., 2:36, 3:37] = False
    images = images_of((1, 2, 40, 40)).double().requires_grad_()
    direction, weights = images_of(images.shape, 1).double(), images_of(images.shape, 2).double()
    fill = inner_fill(mask)
    (gradient,) = torch.autograd.grad((fill(images) * weights).sum(), images)
    change = ((fill(images + direction) - fill(images)) * weights).sum()
    torch.testing.assert_close((gradient * direction).sum(), change, rtol=1e-10, atol=0)
    assert (gradient[~mask.expand(images.shape)] == 0).all()


def test_there_is_no_second_derivative():
    images, mask = images_of((1, 1, 5, 4)).requires_grad_(), masks_of(5, 4)[:1]
    result = fills.ThinPlate()(images, mask).square().sum()
    (gradient,) = torch.autograd.grad(result, images, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


# Surfaces that are kept


@pytest.mark.parametrize("path", ["dense", "sparse"])
def test_the_second_call_gives_the_same_bits(path, request, kept):
    if path == "sparse":
        request.getfixturevalue("sparse")
    images, masks = images_of((7, 3, 9, 8)), masks_of(9, 8)
    first = fills.ThinPlate()(images, masks)
    before = dict(kept()._found)
    assert len(before) == 6
    assert torch.equal(fills.ThinPlate()(images, masks), first)
    assert dict(kept()._found) == before, "nothing was made anew"
    kept()._found.clear()
    assert torch.equal(fills.ThinPlate()(images, masks), first)


def test_what_is_kept_belongs_to_a_mask_a_size_a_tension_and_a_dtype(kept):
    image, mask = images_of((1, 1, 4, 6)), torch.ones(4, 6, dtype=torch.bool)
    mask.view(-1)[8:10] = False
    expected = {
        name: fill(images, hidden)
        for name, fill, images, hidden in (
            ("", fills.ThinPlate(), image, mask),
            ("size", fills.ThinPlate(), image.view(1, 1, 6, 4), mask.view(6, 4)),
            ("tension", fills.ThinPlate(5.0), image, mask),
            ("dtype", fills.ThinPlate(), image.double(), mask),
            ("mask", fills.ThinPlate(), image, mask.flip(0)),
        )
    }
    assert len(kept()._found) == 5
    assert torch.equal(fills.ThinPlate()(image, mask), expected[""])
    assert not torch.equal(expected["size"].view(1, 1, 4, 6), expected[""])
    assert not torch.equal(expected["tension"], expected[""])
    torch.testing.assert_close(expected["dtype"].float(), expected[""], rtol=0, atol=1e-6)


@pytest.mark.parametrize("most", [0, 3000])
def test_bytes_are_bounded(monkeypatch, kept, most):
    images, masks = images_of((7, 3, 9, 8)), masks_of(9, 8)
    expected = fills.ThinPlate()(images, masks)
    sizes = [surface.size for surface in kept()._found.values()]
    assert kept().bytes == sum(sizes) > most
    monkeypatch.setattr(thinplate, "_KEPT", thinplate._Kept())
    monkeypatch.setattr(thinplate, "CACHE_BYTES", most)
    for row in range(7):
        part = slice(row, row + 1)
        assert torch.equal(fills.ThinPlate()(images[part], masks[part]), expected[part])
        assert kept().bytes == sum(surface.size for surface in kept()._found.values()) <= most
    assert (len(kept()._found) > 0) == (most > 0)
    weights = images_of(images.shape, 1)
    gradients = []
    for limit in (most, 2**20):
        monkeypatch.setattr(thinplate, "CACHE_BYTES", limit)
        given = images.clone().requires_grad_()
        (fills.ThinPlate()(given, masks) * weights).sum().backward()
        gradients.append(given.grad)
    assert torch.equal(*gradients)


def test_the_last_used_ones_are_kept(monkeypatch, kept):
    images, masks = images_of((1, 1, 8, 8)), torch.ones(4, 1, 8, 8, dtype=torch.bool)
    for row in range(4):
        masks[row, 0, 3, row + 2] = False
    fill = fills.ThinPlate()
    fill(images, masks[:1])
    monkeypatch.setattr(thinplate, "CACHE_BYTES", 3 * kept().bytes)
    for row in (1, 2, 0, 3):  # 1 was used longest ago
        fill(images, masks[row : row + 1])
    found = [key[-1] for key in kept()._found]
    assert found == [np.packbits(masks[row].numpy()).tobytes() for row in (2, 0, 3)]


@pytest.mark.parametrize("path", ["dense", "sparse"])
def test_several_threads_at_once(monkeypatch, kept, path, request):
    if path == "sparse":
        request.getfixturevalue("sparse")
    images, masks = images_of((7, 3, 9, 8)), masks_of(9, 8)
    expected = fills.ThinPlate()(images, masks)
    monkeypatch.setattr(thinplate, "CACHE_BYTES", 3000)
    monkeypatch.setattr(thinplate, "_KEPT", thinplate._Kept())

    def some(seed):
        order = torch.from_numpy(np.random.default_rng(seed).permutation(7))
        return torch.equal(fills.ThinPlate()(images[order], masks[order]), expected[order])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(some, range(100)))
    assert kept().bytes == sum(surface.size for surface in kept()._found.values()) <= 3000


def test_bits_do_not_depend_on_the_batch(sparse):
    """With large holes; the tests of all fills have small ones."""
    images, masks = images_of((7, 3, 9, 8)), masks_of(9, 8)
    whole = fills.ThinPlate()(images, masks)
    for row in range(7):
        part = slice(row, row + 1)
        assert torch.equal(fills.ThinPlate()(images[part], masks[part]), whole[part])


def test_a_pickled_fill_takes_no_surface_along():
    fill, images, masks = fills.ThinPlate(0.3), images_of((7, 3, 9, 8)), masks_of(9, 8)
    before = len(pickle.dumps(fill))
    expected = fill(images, masks)
    assert len(pickle.dumps(fill)) == before
    assert torch.equal(pickle.loads(pickle.dumps(fill))(images, masks), expected)


# Errors


@pytest.mark.parametrize("tension", [0, 9e-5, 1.1e4, float("nan"), -1])
def test_tension_out_of_its_range(tension):
    with pytest.raises(ValueError, match="`tension` must be finite and in"):
        fills.ThinPlate(tension)


def test_tension_of_the_wrong_kind():
    with pytest.raises(TypeError, match="`tension` must be a number"):
        fills.ThinPlate("much")


def test_large_holes_need_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    mask = torch.zeros(33, 33, dtype=torch.bool)
    mask[0] = True
    with pytest.raises(
        MissingExtraError, match=r"`ThinPlate` with more than 1,024 hidden"
    ) as found:
        fills.ThinPlate()(torch.rand(1, 1, 33, 33), mask)
    assert found.value.extra == "certify"
    assert fills.ThinPlate()(torch.rand(1, 1, 32, 33), mask[:32]).isfinite().all()
