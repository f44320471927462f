"""What defences refuse, and what the surroundings must not change: derivatives, traces, autocast."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("PIL", reason="Pillow is not installed")
from helpers.defenses import MAKERS, QUICK, RANDOM, random_images  # noqa: E402

from splic_ext import defenses  # noqa: E402

SMOOTH = {
    "GaussianBlur": lambda: defenses.GaussianBlur(0.5),
    "TotalVariation": lambda: defenses.TotalVariation(iterations=3),
    "Bilateral": lambda: defenses.Bilateral(sigma_color=0.3, window=3),
    "GuidedFilter": lambda: defenses.GuidedFilter(radius=1),
    "GuidedFilter-self": lambda: defenses.GuidedFilter(radius=1, guide="self"),
}
ONCE = {name: lambda k=MAKERS[name]: k(seed=1, gradient="exact") for name in RANDOM}
ONCE["SPLIC-surrogate"] = lambda: defenses.SPLIC(QUICK, seed=1, gradient="surrogate")
ONCE["Compose"] = lambda: defenses.Compose(defenses.GaussianBlur(), ONCE["USVT"]())


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivative(name):
    """Against finite differences of the first."""
    values = 0.3 + 0.4 * np.random.default_rng(2).random((1, 3, 4, 3))
    inputs = torch.from_numpy(values).requires_grad_()
    assert torch.autograd.gradgradcheck(SMOOTH[name](), (inputs,), atol=1e-6)


@pytest.mark.parametrize("name", ONCE)
@pytest.mark.parametrize("loss", ["square", "sum", "weighted"])
def test_second_derivative_is_refused(name, loss):
    """By the images through the loss or without, and by what else the gradient depends on."""
    inputs = random_images().double().requires_grad_()
    weights = torch.rand_like(inputs).requires_grad_()
    result = ONCE[name]()(inputs)
    scores = {"square": result**2, "sum": result, "weighted": weights * result}[loss]
    (first,) = torch.autograd.grad(scores.sum(), inputs, create_graph=True)
    by = weights if loss == "weighted" else inputs
    with pytest.raises(RuntimeError, match=r"gradient of `\w+` cannot be differentiated again"):
        torch.autograd.grad(first.square().sum(), by)


@pytest.mark.parametrize("name", ["JPEG", "BitDepth", *RANDOM])
def test_second_derivative_of_the_identity(name):
    inputs = random_images().requires_grad_()
    result = MAKERS[name](gradient="identity")(inputs)
    (first,) = torch.autograd.grad(result.square().sum(), inputs, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), inputs)
    assert torch.equal(second, torch.full_like(second, 2))
