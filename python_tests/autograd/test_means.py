"""Gradients through completions that begin at means."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import splic_ext  # noqa: E402
from splic_ext import SolverOptions  # noqa: E402
from splic_ext.autograd import complete_differentiable  # noqa: E402
from splic_ext.defenses import SPLIC  # noqa: E402

STEP = 1e-6
OPTIONS = SolverOptions(
    rank=3, tv_weight=0.1, start="mean", first_delta=0.2, max_iterations=5, tolerance=0.0, n_masks=3
)  # fmt: skip


@pytest.fixture(params=["cpu", "torch"])
def name(request):
    if request.param == "cpu":
        request.getfixturevalue("native_cpu")
    return request.param


@pytest.mark.parametrize("alternate", [False, True])
def test_finite_differences(name, alternate):
    rng = np.random.default_rng(0)
    images = torch.from_numpy(0.25 + 0.5 * rng.random((3, 2, 9, 7))).requires_grad_()
    cotangent, way = (torch.from_numpy(rng.standard_normal(images.shape)) for _ in range(2))

    def complete(batch):
        options = OPTIONS.replace(alternate=alternate)
        return complete_differentiable(batch, options=options, backend=name, seed=4, first_index=2)

    (found,) = torch.autograd.grad(complete(images), images, cotangent)
    with torch.no_grad():
        ends = [complete(images + sign * STEP * way) for sign in (1, -1)]
    expected = ((ends[0] - ends[1]) * cotangent).sum((1, 2, 3)) / (2 * STEP)
    torch.testing.assert_close((found * way).sum((1, 2, 3)), expected, rtol=2e-5, atol=2e-6)
    assert (expected.abs() > 1e-3).all()


def test_forward_is_the_completion(name):
    images = torch.rand(3, 2, 12, 16, dtype=torch.float64)
    found = complete_differentiable(images, options=OPTIONS, backend=name, seed=1)
    expected = splic_ext.complete(images, options=OPTIONS, backend="numpy", seed=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_defence_of_images_of_any_index():
    images = torch.rand(3, 1, 12, 12)
    defense = SPLIC(OPTIONS, seed=2)
    whole = defense(images)
    index = torch.tensor([2, 0])
    assert torch.equal(defense(images[[2, 0]], index=index), whole[[2, 0]])


def test_with_a_given_mask(name):
    images = torch.rand(2, 1, 12, 12, dtype=torch.float64)
    mask = torch.rand(images.shape) < 0.5
    options = OPTIONS.replace(n_masks=1)
    found = complete_differentiable(images, mask, options=options, backend=name)
    expected = splic_ext.complete(images, mask, options=options, backend="numpy")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
