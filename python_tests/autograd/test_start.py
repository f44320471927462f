"""Gradients of completions that start at the image, by finite differences."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from splic_ext import SolverOptions  # noqa: E402
from splic_ext.autograd import complete_differentiable  # noqa: E402

STEP = 1e-6
OPTIONS = SolverOptions(
    rank=3, tv_weight=0.1, inner_iterations=2, max_iterations=7, tolerance=0.0, alternate=False,
    start="image", first_delta=0.2,
)  # fmt: skip


@pytest.fixture(params=["cpu", "torch"])
def name(request):
    if request.param == "cpu":
        request.getfixturevalue("native_cpu")
    return request.param


def gradient_of(images, mask, cotangent, options, name, gradient="exact"):
    leaf = images.clone().requires_grad_()
    result = complete_differentiable(leaf, mask, options=options, backend=name, gradient=gradient)
    (found,) = torch.autograd.grad(result, leaf, cotangent)
    return found


def problem(seed, shape=(5, 2, 9, 7), fraction=0.7):
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(0.25 + 0.5 * rng.random(shape))
    mask = torch.from_numpy(rng.random(shape) < fraction)
    return images, mask, torch.from_numpy(rng.standard_normal(shape)), rng


@pytest.mark.parametrize("channels", ["stacked", "separate"])
@pytest.mark.parametrize("start", ["image", "zero"])
@pytest.mark.parametrize("alternate", [False, True])
@pytest.mark.parametrize("step", ["srf", "literal"])
def test_finite_differences(name, channels, start, alternate, step):
    """Along anchors alone, along targets alone."""
    images, mask, cotangent, rng = problem(0)
    options = OPTIONS.replace(
        start=start, alternate=alternate, channels=channels, gradient_step=step,
        step_size=0.5 if step == "srf" else 0.05,
    )  # fmt: skip
    found = gradient_of(images, mask, cotangent, options, name)
    if channels == "separate":
        assert images.shape == mask.shape
    for part in (mask, ~mask):
        way = torch.from_numpy(rng.standard_normal(images.shape)) * part
        ends = [
            complete_differentiable(images + sign * STEP * way, mask, options=options, backend=name)
            for sign in (1, -1)
        ]
        expected = ((ends[0] - ends[1]) * cotangent).sum((1, 2, 3)) / (2 * STEP)
        ours = (found * way).sum((1, 2, 3))
        torch.testing.assert_close(ours, expected, rtol=2e-5, atol=2e-6)
        if start == "image":
            assert (ours.abs() > 1e-4).all()
    if start == "zero" and not alternate:
        assert (found[~mask] == 0).all()


@pytest.mark.parametrize("gradient", ["exact", "surrogate"])
@pytest.mark.parametrize("shape", [(3, 3, 12, 12), (20, 1, 7, 16), (2, 1, 40, 9)])
def test_back_ends_agree(native_cpu, gradient, shape):
    images, mask, cotangent, _ = problem(1, shape)
    for alternate in (False, True):
        options = OPTIONS.replace(alternate=alternate)
        ours, torchs = (
            gradient_of(images, mask, cotangent, options, name, gradient)
            for name in ("cpu", "torch")
        )
        torch.testing.assert_close(ours, torchs, rtol=1e-6, atol=1e-8)
        assert (ours[~mask] != 0).float().mean() > 0.9


def test_targets_beyond_the_rank_have_a_gradient_too(name):
    """One iteration, no cut and no step: the gradient passes; a small step scales it."""
    images, mask, cotangent, _ = problem(2, (2, 1, 5, 4))
    still = OPTIONS.replace(rank=4, step_size=0.0, max_iterations=3)
    found = gradient_of(images, mask, cotangent, still, name)
    torch.testing.assert_close(found, cotangent, rtol=1e-9, atol=1e-11)
    zero = gradient_of(images, mask, cotangent, still.replace(start="zero"), name)
    assert (zero[~mask] == 0).all()


def test_no_anchor(name):
    images, mask, cotangent, _ = problem(3)
    mask[1] = False
    found = gradient_of(images, mask, cotangent, OPTIONS, name)
    assert torch.equal(found[1], cotangent[1])
    filled = gradient_of(images, mask, cotangent, OPTIONS.replace(empty_value=0.5), name)
    assert (filled[1] == 0).all()
    torch.testing.assert_close(filled[2:], found[2:])
