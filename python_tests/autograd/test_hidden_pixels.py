"""What a mask hides from a single pass, and the gradient; a matrix without an anchor."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import splic_ext  # noqa: E402
from splic_ext import SolverOptions  # noqa: E402
from splic_ext.autograd import complete_differentiable  # noqa: E402

BAD = (float("nan"), float("inf"), -1.0, 1e30)


@pytest.fixture(params=["cpu", "torch"])
def name(request):
    if request.param == "cpu":
        request.getfixturevalue("native_cpu")
    return request.param


def problem(dtype):
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.random((4, 2, 9, 7))).to(dtype)
    mask = torch.ones((4, 2, 9, 7), dtype=torch.bool)
    mask[:, :, 2:5, 1:4] = False
    mask[1] = False
    mask[2, 0] = False
    mask[3] = torch.from_numpy(rng.random((2, 9, 7)) < 0.3)
    cotangent = torch.from_numpy(rng.standard_normal((4, 2, 9, 7))).to(dtype)
    return images, mask, cotangent


def gradient_of(images, mask, cotangent, **more):
    leaf = images.clone().requires_grad_()
    completed = complete_differentiable(leaf, mask, **more)
    (found,) = torch.autograd.grad(completed, leaf, cotangent)
    return completed.detach(), found


@pytest.mark.parametrize("channels", ["stacked", "separate"])
@pytest.mark.parametrize("gradient", ["exact", "surrogate"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hidden_pixels_have_no_gradient_and_no_say(name, dtype, gradient, channels):
    images, mask, cotangent = problem(dtype)
    options = SolverOptions(
        rank=2, max_iterations=9, alternate=False, empty_value=0.4, channels=channels
    )
    more = {"options": options, "gradient": gradient, "backend": name}
    completed, found = gradient_of(images, mask, cotangent, **more)
    assert (found[~mask] == 0).all()
    assert (found[mask] != 0).float().mean() > 0.9
    assert (completed[1] == torch.tensor(0.4, dtype=dtype)).all()
    for bad in BAD:
        hidden = torch.where(mask, images, bad)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result, again = gradient_of(hidden, mask, cotangent, **more)
        assert torch.equal(result, completed)
        assert torch.equal(again, found)


def test_what_counts_is_checked(name):
    images, mask, _ = problem(torch.float32)
    options = SolverOptions(rank=2, max_iterations=9, alternate=False)
    images[1] = float("nan")  # comes back as it is
    with pytest.raises(ValueError, match="image 1"):
        complete_differentiable(images, mask, options=options, backend=name)
    filled = options.replace(empty_value=0.0)
    assert complete_differentiable(images, mask, options=filled, backend=name).isfinite().all()
    with pytest.raises(ValueError, match="image 1"):
        complete_differentiable(images, mask, options=filled.replace(alternate=True), backend=name)


@pytest.mark.parametrize("gradient", ["exact", "surrogate"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_filled_matrix_has_no_gradient(name, dtype, gradient):
    """In whichever pass; beside others, which keep theirs."""
    images, mask, cotangent = problem(dtype)
    mask[3] = True
    options = SolverOptions(rank=2, max_iterations=9, channels="separate")
    more = {"gradient": gradient, "backend": name}
    _, before = gradient_of(images, mask, cotangent, options=options, **more)
    filled = options.replace(empty_value=0.4)
    _, found = gradient_of(images, mask, cotangent, options=filled, **more)
    empty = torch.zeros(4, 2, dtype=torch.bool)
    empty[1] = empty[3] = empty[2, 0] = True
    assert (found[empty] == 0).all()
    assert torch.equal(found[~empty], before[~empty])
    assert (before[empty] != 0).all()


def test_a_filled_batch_has_no_gradient(name):
    images = torch.rand(20, 1, 4, 4, dtype=torch.float64)
    options = SolverOptions(anchor_fraction=0.0, alternate=False, empty_value=0.5)
    _, found = gradient_of(images, None, torch.ones_like(images), options=options, backend=name)
    assert not found.any()


@pytest.mark.parametrize("low", [0x7F80, 0x7F81, 0xFF80, 0xBF80])
def test_hidden_bits_of_bfloat16(low):
    """Infinity, a signalling NaN and others, of which NumPy would warn."""
    images, mask, _ = problem(torch.bfloat16)
    options = SolverOptions(max_iterations=9, alternate=False, empty_value=0.4)
    hidden = images.clone()
    hidden.view(torch.int16)[~mask] = int(np.int16(np.uint16(low).view(np.int16)))
    for backend in splic_ext.available_backends():
        expected = splic_ext.complete(images, mask, options=options, backend=backend)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = splic_ext.complete(hidden, mask, options=options, backend=backend)
        assert torch.equal(result, expected)


def test_hidden_pixels_in_a_graph(native_cpu):
    """The operator of torch has the same checks."""
    images, mask, cotangent = problem(torch.float32)
    options = SolverOptions(rank=2, max_iterations=9, alternate=False, empty_value=0.4)
    grads = torch.func.vjp(lambda x: complete_differentiable(x, mask, options=options), images)[1](
        cotangent
    )[0]
    hidden = torch.where(mask, images, float("nan"))
    found = torch.func.vjp(lambda x: complete_differentiable(x, mask, options=options), hidden)[1](
        cotangent
    )[0]
    assert torch.equal(found, grads)
    assert (found[~mask] == 0).all()
