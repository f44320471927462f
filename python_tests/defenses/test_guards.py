"""What defences make of second derivatives, traces, autocast and other layouts."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("PIL", reason="Pillow is not installed")
from helpers.defenses import MAKERS, QUICK, RANDOM, random_images  # noqa: E402

from splic_ext import defenses  # noqa: E402
from splic_ext.autograd import complete_differentiable  # noqa: E402

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


# Traces

TRACEABLE = ["Identity", "BitDepth", "GaussianBlur", "TotalVariation", "Bilateral", "GuidedFilter"]


def trace(module, images):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the checks; and torch calls traces obsolete
        return torch.jit.trace(module, (images,), check_trace=False)


@pytest.mark.parametrize("gradient", ["identity", "exact"])
@pytest.mark.parametrize("name", [*sorted(set(MAKERS) - set(TRACEABLE))])
def test_a_trace_is_refused(name, gradient):
    gradient = gradient if gradient in type(MAKERS[name]()).gradients else "identity"
    network = torch.nn.Sequential(MAKERS[name](gradient=gradient), torch.nn.Flatten())
    for module in (network, network[0]):
        with pytest.raises(RuntimeError, match=r"`\w+` cannot be traced"):
            trace(module, random_images())
    defended = defenses.Defended(torch.nn.Flatten(), network[0])
    with pytest.raises(RuntimeError, match=r"`\w+` cannot be traced"):
        trace(defended, random_images())


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_a_trace_of_the_completion_is_refused(backend):
    with pytest.raises(RuntimeError, match="`complete_differentiable` cannot be traced"):
        trace(lambda x: complete_differentiable(x, backend=backend), random_images())


@pytest.mark.parametrize("name", TRACEABLE)
def test_a_trace_is_right_for_other_images(name, monkeypatch):
    if name == "TotalVariation":  # native code agrees to rounding: test_compiled.py
        monkeypatch.setattr("splic_ext.defenses.compiled.native_module", lambda: None)
    defense = MAKERS[name]()
    traced = trace(defense, random_images())
    for images in (1 - random_images(), torch.rand(2, 3, 7, 12)):
        assert torch.equal(traced(images), defense(images))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", MAKERS)
def test_a_script_is_refused(name):
    defended = defenses.Defended(torch.nn.Flatten(), MAKERS[name]())
    for module in (defended, defended.defense):
        with pytest.raises(RuntimeError, match=r"`\w+` cannot be scripted"):
            torch.jit.script(module)


# Autocast

GRADIENTS = [(name, gradient) for name in MAKERS for gradient in type(MAKERS[name]()).gradients]


def autocast(enabled=True, dtype=torch.bfloat16):
    return torch.autocast("cpu", dtype=dtype, enabled=enabled)


@pytest.mark.parametrize(("name", "gradient"), GRADIENTS)
def test_autocast_changes_nothing(name, gradient):
    def run(forward, backward):
        with defenses.seeded_masks(3):
            inputs = random_images().requires_grad_()
            with autocast(forward):
                result = MAKERS[name](gradient=gradient)(inputs)
            with autocast(backward):
                (found,) = torch.autograd.grad(result, inputs, 1 - random_images())
        return result, found

    expected = run(False, False)
    for forward, backward in ((True, False), (False, True), (True, True)):
        found = run(forward, backward)
        assert all(map(torch.equal, found, expected))
        assert found[0].dtype == torch.float32


def test_autocast_changes_no_completion():
    def run(enabled):
        inputs = random_images().requires_grad_()
        with autocast(enabled):
            result = complete_differentiable(inputs, options=QUICK, backend="torch")
            return result, *torch.autograd.grad(result.square().sum(), inputs)

    assert all(map(torch.equal, run(True), run(False)))


def test_autocast_goes_on_behind_the_defence():
    network = torch.nn.Linear(8, 2)
    with autocast():
        assert defenses.Defended(network, defenses.GaussianBlur())(random_images()).dtype == (
            torch.bfloat16
        )


# Layout


@pytest.mark.filterwarnings("ignore:`batch`")  # of the solver, beside it
@pytest.mark.parametrize("shape", [(2, 8, 9, 3), (1, 5, 5, 4)])
@pytest.mark.parametrize("name", sorted(set(MAKERS) - {"JPEG"}))  # which refuses them
def test_images_that_look_channel_last_are_warned_of(name, shape):
    with pytest.warns(UserWarning, match=r"`images` of shape .* looks channel last; use images.pe"):
        MAKERS[name]()(torch.rand(shape))


@pytest.mark.parametrize("shape", [(2, 3, 9, 3), (2, 4, 4, 4), (2, 8, 9, 5), (0, 8, 9, 3)])
def test_images_that_do_not_look_channel_last(shape):
    defenses.GaussianBlur()(torch.rand(shape))


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_a_completion_that_looks_channel_last_is_warned_of(backend):
    with pytest.warns(UserWarning, match="`batch` of shape .* looks channel last"):
        complete_differentiable(torch.rand(1, 8, 9, 3), options=QUICK, backend=backend)
