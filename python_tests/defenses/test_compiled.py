"""Defences in native code against the same in torch, and the native calls alone."""

from __future__ import annotations

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
defenses = pytest.importorskip("splic_ext.defenses")

from splic_ext.backends.cpu import native_module  # noqa: E402
from splic_ext.defenses import compiled  # noqa: E402

DTYPES = [torch.float32, torch.float64]
SHAPES = [(2, 3, 32, 32), (1, 1, 1, 1), (1, 1, 1, 7), (2, 2, 7, 1), (3, 1, 9, 8), (1, 4, 33, 65)]


@pytest.fixture(scope="module")
def core():
    found = native_module()
    if found is None:
        pytest.skip("the native module was not built")
    return found


def in_torch(monkeypatch):
    monkeypatch.setattr(compiled, "native_module", lambda: None)


def random(shape, dtype=torch.float64):
    return torch.from_numpy(np.random.default_rng(0).random(shape)).to(dtype)


def run(defense, images, cotangent):
    leaf = images.clone().requires_grad_()
    result = defense.defend(leaf, None)
    result.backward(cotangent)
    return result.detach(), leaf.grad


def relative(found, expected):
    scale = expected.abs().max().item()
    return (found - expected).abs().max().item() / (scale or 1.0)


def agree(monkeypatch, defense, images, bounds):
    cotangent = torch.from_numpy(np.random.default_rng(1).standard_normal(images.shape))
    cotangent = cotangent.to(images.dtype)
    native = run(defense, images, cotangent)
    in_torch(monkeypatch)
    for found, expected, bound in zip(native, run(defense, images, cotangent), bounds, strict=True):
        assert relative(found, expected) <= bound


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("weight", "iterations"), [(0.1, 50), (1.0, 7), (1e-6, 3), (0.05, 1)])
def test_total_variation(core, monkeypatch, shape, dtype, weight, iterations):
    bound = 1e-13 if dtype == torch.float64 else 1e-5
    defense = defenses.TotalVariation(weight, iterations)
    agree(monkeypatch, defense, random(shape, dtype), (bound, bound))


def test_total_variation_of_a_constant_image(core, monkeypatch):
    images = torch.full((1, 3, 8, 9), 0.25)
    images[0, 1, :4] = 0.75  # one edge: nearly all differences are zero
    agree(monkeypatch, defenses.TotalVariation(), images, (1e-6, 1e-5))
    assert torch.equal(defenses.TotalVariation()(images[:, :1]), images[:, :1])


def test_total_variation_has_the_derivative_of_finite_differences(core):
    defense = defenses.TotalVariation(0.2, 9)
    images = random((1, 2, 5, 6)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: defense.defend(x, None), images)


def test_total_variation_is_differentiated_twice(core, monkeypatch):
    defense, images = defenses.TotalVariation(0.2, 4), random((1, 1, 4, 5)).requires_grad_()

    def curvature():
        (first,) = torch.autograd.grad(
            defense.defend(images, None).square().sum(), images, create_graph=True
        )
        (second,) = torch.autograd.grad(first.square().sum(), images)
        return second

    found = curvature()
    in_torch(monkeypatch)
    assert relative(found, curvature()) < 1e-12


def test_total_variation_of_no_image_and_of_wrong_ones(core):
    assert defenses.TotalVariation()(torch.zeros(0, 3, 4, 5)).shape == (0, 3, 4, 5)
    with pytest.raises(ValueError, match="finite"):
        defenses.TotalVariation()(torch.full((1, 1, 4, 4), float("nan")))


def denoise(core, images, cotangent=None, threads=1, out=None, **given):
    out = np.empty_like(images) if out is None else out
    core.denoise_tv(
        images, out, **{"weight": 0.1, "iterations": 9, **given}, threads=threads,
        cotangent=cotangent,
    )  # fmt: skip
    return out


@pytest.mark.parametrize("threads", [2, 3, 7, 2**31 - 1])
def test_threads_change_no_bit(core, threads):
    images = random((5, 3, 11, 9), torch.float32).numpy()
    for cotangent in (None, images[::-1].copy()):
        one, many = (denoise(core, images, cotangent, count) for count in (1, threads))
        assert np.array_equal(one, many)


def test_strides_of_any_kind(core):
    images = random((4, 3, 11, 9)).numpy()
    expected = denoise(core, images, images)
    last = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    wide = np.full((4, 3, 22, 27), np.nan)
    denoise(core, last, last, out=wide[:, :, ::-2, ::3])
    assert np.array_equal(wide[:, :, ::-2, ::3], expected)
    assert np.isnan(wide[:, :, ::2]).all(), "beside the output nothing is written"
    denoise(core, images, images, out=images)
    assert np.array_equal(images, expected)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_nothing_to_do(core, shape):
    assert denoise(core, np.zeros(shape)).shape == shape


@pytest.mark.parametrize(
    ("images", "out", "cotangent", "kind"),
    [
        (np.zeros((2, 3, 4, 5), np.float16), np.zeros((2, 3, 4, 5), np.float16), None, TypeError),
        (np.zeros((3, 4, 5)), np.zeros((3, 4, 5)), None, ValueError),
        (np.zeros((2, 3, 4, 5)), np.zeros((2, 3, 4, 6)), None, ValueError),
        (np.zeros((2, 3, 4, 5)), np.zeros((2, 3, 4, 5), np.float32), None, ValueError),
        (np.zeros((2, 3, 4, 5)), np.zeros((2, 3, 4, 5)), np.zeros((2, 3, 4, 4)), ValueError),
        (np.zeros((1, 1, 4, 5)), np.zeros((1, 1, 4, 5)), np.zeros((1, 1, 4, 5), "f"), TypeError),
    ],
)
def test_arrays_that_do_not_fit_are_refused(core, images, out, cotangent, kind):
    with pytest.raises(kind):
        denoise(core, images, cotangent, out=out)


def test_steps_that_no_memory_holds_are_refused(core):
    images = np.zeros((1, 1, 64, 64))
    with pytest.raises(MemoryError):
        denoise(core, images, images, iterations=2**31 - 1)


INTERRUPT = """
import os, signal, threading, time
import numpy as np
from splic_ext import _core
images, sent = np.random.default_rng(0).random({shape}, np.float32), []
def interrupt():
    time.sleep(0.5)
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    out, mask, done = np.empty_like(images), images > 0.5, np.zeros(len(images), np.int32)
    _core.{call}, iterations=2**31 - 1, threads={threads})
except KeyboardInterrupt:
    print(time.perf_counter() - sent[0])
"""


DENOISE = "denoise_tv(images, out, weight=0.1"
ESTIMATE = "estimate(images, out, mask, done, nuclear=False, amount=0.1, tolerance=0.0"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no signals to itself")
@pytest.mark.parametrize(
    "problem",
    [
        {"call": DENOISE, "shape": (1, 1, 8, 8), "threads": 1},
        {"call": DENOISE, "shape": (5, 3, 300, 300), "threads": 2},
        {"call": ESTIMATE, "shape": (1, 1, 8, 24), "threads": 1},
        {"call": ESTIMATE, "shape": (40, 1, 48, 144), "threads": 2},
    ],
    ids=lambda problem: f"{problem['call'][:8]}-{problem['threads']}",
)
def test_an_interrupt_ends_a_call_at_once(core, run_python, problem):
    """Within 0.2 s on an idle machine; others may work on this one."""
    code = INTERRUPT.format(**problem)
    assert min(float(run_python(code)) for _ in range(2)) < 0.4


# Soft-Impute and the nuclear norm

ESTIMATES = {
    "soft": lambda: defenses.SoftImpute(0.02, 40),
    "soft, few": lambda: defenses.SoftImpute(0.1, 7, 0.0),
    "soft, no shrinkage": lambda: defenses.SoftImpute(0.0, 5),
    "nuclear": lambda: defenses.NuclearNorm(iterations=60),
    "nuclear, few": lambda: defenses.NuclearNorm(5.0, 20, 0.0),
}
SIDES = [(9, 12, 36), (2, 1, 7), (2, 7, 1), (3, 24, 8), (1, 5, 5)]


def estimated(defense, matrices, observed, cotangent):
    leaf = matrices.clone().requires_grad_()
    result = defense.estimate(leaf, observed)
    result.backward(cotangent)
    return result.detach(), leaf.grad


def estimates_agree(monkeypatch, defense, matrices, observed, bounds):
    cotangent = 2 * random(matrices.shape, matrices.dtype) - 1
    native = estimated(defense, matrices, observed, cotangent)
    in_torch(monkeypatch)
    # The derivative of torch in float32 is the less accurate one.
    truth = estimated(defense, matrices.double(), observed.double(), cotangent.double())
    for found, expected, bound in zip(native, truth, bounds, strict=True):
        assert found.dtype == matrices.dtype
        assert relative(found.double(), expected) <= bound


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SIDES, ids=str)
@pytest.mark.parametrize("name", ESTIMATES)
def test_estimates(core, monkeypatch, name, shape, dtype):
    matrices = 2 * random(shape, dtype) - 1
    observed = torch.from_numpy(np.random.default_rng(2).random(shape) < 0.5).to(dtype)
    bounds = (1e-11, 1e-8) if dtype == torch.float64 else (1e-5, 1e-4)
    estimates_agree(monkeypatch, ESTIMATES[name](), matrices, observed, bounds)


@pytest.mark.parametrize("name", ["soft", "nuclear"])
@pytest.mark.parametrize("value", [0.0, 0.5, -1.0])
def test_estimates_of_constant_matrices_are_finite(core, monkeypatch, name, value):
    """Singular values that are 0, and ties of them."""
    matrices = torch.full((3, 8, 24), value)
    matrices[1, :4] = 0.25
    matrices[2] = torch.eye(8).repeat(1, 3)
    observed = torch.ones_like(matrices)
    observed[:, ::3, 1::2] = 0
    estimates_agree(monkeypatch, ESTIMATES[name](), matrices, observed, (1e-5, 1e-3))


@pytest.mark.parametrize("name", ["soft", "nuclear"])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_estimates_from_nothing_and_from_everything(core, monkeypatch, name, share):
    matrices = 2 * random((2, 6, 9)) - 1
    observed = torch.full_like(matrices, share)
    estimates_agree(monkeypatch, ESTIMATES[name](), matrices, observed, (1e-11, 1e-8))


@pytest.mark.parametrize("name", ["soft, few", "nuclear, few"])
def test_estimates_have_the_derivative_of_finite_differences(core, name):
    matrices = 2 * random((2, 4, 5)) - 1
    observed = (random((2, 4, 5)) < 0.6).double()
    defense, leaf = ESTIMATES[name](), matrices.requires_grad_()
    check = torch.autograd.gradcheck
    assert check(lambda x: defense.estimate(x, observed), leaf, fast_mode=True)


def test_a_derivative_of_the_gradient_is_refused(core):
    defense = defenses.SoftImpute(seed=0, gradient="exact")
    images = random((1, 3, 8, 8)).requires_grad_()
    (first,) = torch.autograd.grad(defense(images).sum(), images, create_graph=True)
    with pytest.raises(RuntimeError, match="the gradient of `SoftImpute` cannot be"):
        first.sum().backward()


def test_no_matrix_hears_of_its_neighbours(core):
    """To the bit, whatever lies in the other lanes."""
    matrices = 2 * random((11, 8, 24), torch.float32) - 1
    observed = (random((11, 8, 24)) < 0.5).float()
    for name in ("soft", "nuclear"):
        defense = ESTIMATES[name]()
        together = estimated(defense, matrices, observed, matrices)
        for i in (0, 5, 10):
            alone = estimated(
                defense, matrices[i : i + 1], observed[i : i + 1], matrices[i : i + 1]
            )
            assert all(torch.equal(a[0], t[i]) for a, t in zip(alone, together, strict=True))


def test_long_matrices_are_left_to_torch(core, monkeypatch):
    matrices = 2 * random((1, compiled.LONGEST + 1, 70)) - 1
    monkeypatch.setattr(compiled, "default_threads", lambda: pytest.fail("native code was asked"))
    defenses.SoftImpute(iterations=1).estimate(matrices, torch.ones_like(matrices))
    with pytest.raises(pytest.fail.Exception, match="native code was asked"):
        defenses.SoftImpute(iterations=1).estimate(
            matrices[:, 1:], torch.ones_like(matrices[:, 1:])
        )


GIVEN = {"nuclear": False, "amount": 0.02, "tolerance": 0.0, "iterations": 9}


def test_threads_change_no_bit_of_an_estimate(core):
    matrices, mask = 2 * random((37, 1, 6, 18)).numpy() - 1, random((37, 1, 6, 18)).numpy() < 0.5
    for nuclear in (False, True):
        given = {**GIVEN, "nuclear": nuclear, "tolerance": 1e-3}
        found = []
        for threads in (1, 2, 7):
            out, back = np.empty_like(matrices), np.empty_like(matrices)
            done = np.zeros(37, np.int32)
            core.estimate(matrices, out, mask, done, threads=threads, **given)
            core.estimate(matrices, back, mask, done, threads=threads, cotangent=matrices, **given)
            found.append((out, back, done))
        for other in found[1:]:
            assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))
        assert 1 <= found[0][2].min() <= found[0][2].max() <= 9


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"matrices": np.zeros((2, 1, 4, 5), np.float16)}, TypeError),
        ({"matrices": np.zeros((2, 3, 4, 5)), "out": np.zeros((2, 3, 4, 5))}, ValueError),
        ({"out": np.zeros((2, 1, 4, 6))}, ValueError),
        ({"mask": np.zeros((2, 1, 4, 4), bool)}, ValueError),
        ({"done": np.ones(3, np.int32)}, ValueError),
        ({"done": np.ones(2, np.int64)}, TypeError),
        ({"done": np.zeros(2, np.int32), "cotangent": np.zeros((2, 1, 4, 5))}, ValueError),
        ({"done": np.full(2, 10, np.int32), "cotangent": np.zeros((2, 1, 4, 5))}, ValueError),
        ({"cotangent": np.zeros((2, 1, 4, 5), np.float32)}, TypeError),
    ],
    ids=str,
)
def test_matrices_that_do_not_fit_are_refused(core, change, kind):
    given = {
        "matrices": np.zeros((2, 1, 4, 5)),
        "out": np.zeros((2, 1, 4, 5)),
        "mask": np.zeros((2, 1, 4, 5), bool),
        "done": np.ones(2, np.int32),
    }
    with pytest.raises(kind):
        core.estimate(**{**given, **change}, threads=1, **GIVEN)


def test_no_matrix(core):
    empty = np.zeros((0, 1, 4, 5))
    core.estimate(empty, empty.copy(), empty > 0, np.zeros(0, np.int32), threads=4, **GIVEN)
