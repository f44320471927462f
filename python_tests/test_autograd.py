"""The derivative of the solver, against finite differences and where svd has none."""

from __future__ import annotations

import numpy as np
import pytest

import splic_ext
from splic_ext import SolverOptions

torch = pytest.importorskip("torch", reason="torch is not installed")

from splic_ext.autograd import complete_differentiable, spectral_backward  # noqa: E402

SHORT = {"rank": 2, "max_iterations": 9, "inner_iterations": 4, "tolerance": 0.0}
VARIANTS = {
    "srf": {},
    "literal": {"gradient_step": "literal", "step_size": 0.01},
    "forward": {"tv_gradient": "forward"},
    "no smoothing": {"tv_weight": 0.0},
    "one pass": {"alternate": False},
    "early stop": {"tolerance": 1e-3},
}


def images_and_mask(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(shape, dtype=torch.float64, generator=generator) * 0.5 + 0.25
    return images, torch.rand(shape, generator=generator) < 0.6


@pytest.mark.parametrize(
    ("channels", "shape"),
    [("stacked", (2, 3, 6, 6)), ("separate", (2, 2, 6, 9)), ("stacked", (1, 1, 5, 9))],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_is_exact(channels, shape, variant):
    options = SolverOptions(channels=channels, **{**SHORT, **VARIANTS[variant]})
    images, mask = images_and_mask(shape)
    expected = splic_ext.complete(images, mask, options=options, backend="numpy")
    completed = complete_differentiable(images, mask, options)
    np.testing.assert_allclose(completed, expected, atol=1e-12)
    images.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: complete_differentiable(x, mask, options),
        (images,),
        eps=1e-6,
        atol=1e-5,
        fast_mode=True,
    )


@pytest.mark.parametrize("singular", [(3.0, 3.0, 1.0), (2.0, 0.0, 0.0), (0.0, 0.0, 0.0)])
def test_spectral_function_where_svd_has_no_derivative(singular):
    """F(X) = X X'X has the spectral function s^3, and a derivative everywhere."""
    U = torch.linalg.qr(torch.randn(5, 3, dtype=torch.float64))[0]
    V = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    X = (U * torch.tensor(singular, dtype=torch.float64)) @ V.mT
    grad = torch.randn(5, 3, dtype=torch.float64)
    U, s, Vt = torch.linalg.svd(X, full_matrices=False)
    found = spectral_backward(U, s, Vt, s**3, 3 * s**2, grad)
    X.requires_grad_()
    (X @ X.mT @ X * grad).sum().backward()
    np.testing.assert_allclose(found, X.grad, atol=1e-10)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_finite_on_constant_images(value, dtype):
    images = torch.full((1, 3, 8, 8), value, dtype=getattr(torch, dtype), requires_grad=True)
    mask = images_and_mask(images.shape)[1]
    complete_differentiable(images, mask, SolverOptions(max_iterations=14)).sum().backward()
    assert images.grad.isfinite().all()


def test_matrices_without_anchor_pass_through():
    images, mask = images_and_mask((2, 1, 6, 6))
    mask[0] = False
    images.requires_grad_()
    options = SolverOptions(alternate=False, **SHORT)
    completed = complete_differentiable(images, mask, options)
    assert torch.equal(completed[0], images[0])
    completed.sum().backward()
    assert torch.equal(images.grad[0], torch.ones_like(images[0]))


def test_gradient_of_an_image_does_not_depend_on_the_batch():
    images, mask = images_and_mask((3, 1, 8, 8))
    options = SolverOptions(**{**SHORT, "max_iterations": 28, "tolerance": 1e-4})
    together = images.clone().requires_grad_()
    complete_differentiable(together, mask, options).square().sum().backward()
    for i in range(3):
        alone = images[i : i + 1].clone().requires_grad_()
        complete_differentiable(alone, mask[i : i + 1], options).square().sum().backward()
        np.testing.assert_allclose(together.grad[i], alone.grad[0], atol=1e-10)


def test_along_a_direction_of_a_real_size():
    """A 32 x 32 colour image, the paper's options: the slope along a random direction."""
    images, mask = images_and_mask((1, 3, 32, 32), seed=1)
    images = torch.nn.functional.avg_pool2d(images, 5, 1, 2)
    options = SolverOptions(max_iterations=14, tolerance=0.0)
    direction = torch.randn(images.shape, dtype=torch.float64)

    def loss(x):
        return complete_differentiable(x, mask, options).square().sum()

    moved = images.clone().requires_grad_()
    loss(moved).backward()
    step = 1e-6
    slope = (loss(images + step * direction) - loss(images - step * direction)) / (2 * step)
    found = (moved.grad * direction).sum()
    np.testing.assert_allclose(found, slope, rtol=1e-4)


def test_empty_batch():
    images = torch.zeros((0, 3, 8, 8), requires_grad=True)
    mask = torch.zeros((0, 3, 8, 8), dtype=torch.bool)
    assert complete_differentiable(images, mask, SolverOptions()).shape == (0, 3, 8, 8)
