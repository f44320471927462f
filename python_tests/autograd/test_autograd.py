"""The derivative of the solver, against finite differences and where svd has none."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import splic_ext
from splic_ext import SolverOptions

torch = pytest.importorskip("torch", reason="torch is not installed")

from splic_ext import autograd  # noqa: E402
from splic_ext.autograd import spectral_backward  # noqa: E402
from splic_ext.backends import get_backend  # noqa: E402

SHORT = {"rank": 2, "max_iterations": 9, "inner_iterations": 4, "tolerance": 0.0}
VARIANTS = {
    "srf": {},
    "literal": {"gradient_step": "literal", "step_size": 0.01},
    "forward": {"tv_gradient": "forward"},
    "no smoothing": {"tv_weight": 0.0},
    "one pass": {"alternate": False},
    "early stop": {"tolerance": 1e-3},
}


@pytest.fixture(params=["torch", "cpu"])
def differentiable(request):
    """The function, by each of its two back ends."""
    if request.param == "cpu":
        request.getfixturevalue("native_cpu")
    return functools.partial(autograd.complete_differentiable, backend=request.param)


def gradient_of(differentiable, images, cotangent=None, **arguments):
    leaf = images.clone().requires_grad_()
    completed = differentiable(leaf, **arguments)
    completed.backward(torch.ones_like(completed) if cotangent is None else cotangent)
    return leaf.grad


def images_and_mask(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(shape, dtype=torch.float64, generator=generator) * 0.5 + 0.25
    return images, torch.rand(shape, generator=generator) < 0.6


@pytest.mark.parametrize(
    ("channels", "shape"),
    [("stacked", (2, 3, 6, 6)), ("separate", (2, 2, 6, 9)), ("stacked", (1, 1, 5, 9))],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_is_exact(differentiable, channels, shape, variant):
    options = SolverOptions(channels=channels, **{**SHORT, **VARIANTS[variant]})
    images, mask = images_and_mask(shape)
    expected = splic_ext.complete(images, mask, options=options, backend="numpy")
    completed = differentiable(images, mask, options=options)
    # Unrolled, it is the reference; the compiled solver has a residual test.
    atol = 1e-12 if differentiable.keywords["backend"] == "torch" else 1e-10
    np.testing.assert_allclose(completed, expected, atol=atol)
    images.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: differentiable(x, mask, options=options),
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


@pytest.mark.parametrize("gradient", ["exact", "surrogate"])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_finite_on_constant_images(differentiable, value, dtype, gradient):
    images = torch.full((1, 3, 8, 8), value, dtype=getattr(torch, dtype))
    mask = images_and_mask(images.shape)[1]
    options = SolverOptions(max_iterations=14)
    found = gradient_of(differentiable, images, mask=mask, options=options, gradient=gradient)
    assert found.isfinite().all()


@pytest.mark.parametrize("gradient", ["exact", "surrogate"])
def test_finite_where_singular_values_tie(differentiable, gradient):
    """Blocks of the identity: all singular values of the anchors are equal."""
    images = torch.eye(8, dtype=torch.float64).expand(1, 1, 8, 8) * 0.5 + 0.25
    mask = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    mask[..., ::2, 1::2] = False
    options = SolverOptions(rank=3, max_iterations=14, alternate=False)
    found = gradient_of(differentiable, images, mask=mask, options=options, gradient=gradient)
    assert found.isfinite().all()


def test_matrices_without_anchor_pass_through(differentiable):
    images, mask = images_and_mask((2, 1, 6, 6))
    mask[0] = False
    images.requires_grad_()
    options = SolverOptions(alternate=False, **SHORT)
    completed = differentiable(images, mask, options=options)
    assert torch.equal(completed[0], images[0])
    completed.sum().backward()
    assert torch.equal(images.grad[0], torch.ones_like(images[0]))


def test_gradient_of_an_image_does_not_depend_on_the_batch(differentiable):
    images, _ = images_and_mask((19, 1, 8, 8))
    cotangent = torch.randn(images.shape, dtype=torch.float64)
    options = SolverOptions(**{**SHORT, "max_iterations": 28, "tolerance": 1e-4})
    together = gradient_of(differentiable, images, cotangent, options=options)
    for i in range(0, 19, 6):
        alone = gradient_of(
            differentiable,
            images[i : i + 1],
            cotangent[i : i + 1],
            options=options,
            first_index=i,
        )
        np.testing.assert_allclose(together[i], alone[0], atol=1e-10)


def test_along_a_direction_of_a_real_size(differentiable):
    """A 32 x 32 colour image, the paper's options: the slope along a random direction."""
    images, mask = images_and_mask((1, 3, 32, 32), seed=1)
    images = torch.nn.functional.avg_pool2d(images, 5, 1, 2)
    options = SolverOptions(max_iterations=14, tolerance=0.0)
    direction = torch.randn(images.shape, dtype=torch.float64)

    def loss(x):
        return differentiable(x, mask, options=options).square().sum()

    moved = images.clone().requires_grad_()
    loss(moved).backward()
    step = 1e-6
    slope = (loss(images + step * direction) - loss(images - step * direction)) / (2 * step)
    found = (moved.grad * direction).sum()
    np.testing.assert_allclose(found, slope, rtol=1e-4)


def test_empty_batch(differentiable):
    images = torch.zeros((0, 3, 8, 8), requires_grad=True)
    completed = differentiable(images)
    assert completed.shape == (0, 3, 8, 8)
    completed.sum().backward()
    assert images.grad.shape == (0, 3, 8, 8)


# The compiled back end, against torch

CASES = {
    "lanes": ((18, 1, 16, 16), {}),
    "colour": ((5, 3, 16, 16), {"tv_weight": 0.1}),
    "one mask for all channels": ((3, 3, 12, 12), {"channels": "separate"}),
    "wide": ((2, 1, 10, 24), {}),
    "literal": ((2, 1, 12, 12), {"gradient_step": "literal", "step_size": 0.05}),
    "forward": ((2, 3, 12, 20), {"tv_gradient": "forward", "tv_weight": 0.1}),
    "all of the rank": ((2, 1, 8, 8), {"rank": 8}),
    "one column": ((2, 1, 6, 1), {}),
    "two columns": ((2, 1, 6, 2), {"rank": 1}),
    "several masks": ((3, 3, 8, 8), {"n_masks": 3}),
    "dense": ((1, 1, 72, 68), {}),
}


@pytest.mark.parametrize("gradient", ["exact", "surrogate"])
@pytest.mark.parametrize("name", CASES)
def test_compiled_gradient_is_that_of_torch(native_cpu, smooth, name, gradient):
    shape, changes = CASES[name]
    options = SolverOptions(max_iterations=21).replace(**changes)
    images = torch.from_numpy(smooth(shape)).double()
    cotangent = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    arguments = {"options": options, "seed": 3, "first_index": 5, "gradient": gradient}

    def run(backend, dtype=torch.float64):
        return gradient_of(
            functools.partial(autograd.complete_differentiable, backend=backend),
            images.to(dtype),
            cotangent.to(dtype),
            **arguments,
        )

    expected = run("torch")
    scale = expected.flatten(1).norm(dim=1)
    assert ((run("cpu") - expected).flatten(1).norm(dim=1) / scale).max() < 1e-6
    single = run("cpu", torch.float32)
    assert single.dtype == torch.float32
    # A singular value next to the cut makes single images sensitive to rounding.
    assert ((single - expected).flatten(1).norm(dim=1) / scale).median() < 5e-2


@pytest.mark.parametrize("gradient", ["exact", "surrogate"])
@pytest.mark.parametrize("rank", [2, 5, 7, 8])
def test_images_of_a_low_rank(native_cpu, rank, gradient):
    """Digits have black columns: of the kept singular values some are 0."""
    sklearn = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    images = torch.from_numpy(sklearn.load_digits().images[:60, None] / 16)
    generator = torch.Generator().manual_seed(0)
    cotangent = torch.randn(images.shape, dtype=torch.float64, generator=generator)
    options = SolverOptions(rank=rank, max_iterations=14)

    def run(backend, dtype=torch.float64):
        leaf = images.to(dtype, copy=True).requires_grad_()
        completed = autograd.complete_differentiable(
            leaf, options=options, backend=backend, gradient=gradient, seed=3
        )
        inner = (completed > 1e-3) & (completed < 1 - 1e-3)  # off the corners of the clip
        completed.backward((cotangent * inner).to(dtype))
        return leaf.grad

    expected = run("torch")
    scale = expected.flatten(1).norm(dim=1)
    assert ((run("cpu") - expected).flatten(1).norm(dim=1) / scale).max() < 0.02
    single = run("cpu", torch.float32)
    assert ((single - expected).flatten(1).norm(dim=1) / scale).max() < 0.2


def test_no_anchor_and_no_second_pass(differentiable):
    images, _ = images_and_mask((20, 1, 4, 4))
    options = SolverOptions(anchor_fraction=0.0, alternate=False)
    for _ in range(5):
        found = gradient_of(differentiable, images, options=options)
        assert torch.equal(found, torch.ones_like(images))


def test_a_second_derivative_is_refused(differentiable):
    images, mask = images_and_mask((1, 1, 6, 6))
    images.requires_grad_()
    completed = differentiable(images, mask, options=SolverOptions(**SHORT))
    (first,) = torch.autograd.grad(completed.square().sum(), images, create_graph=True)
    with pytest.raises(RuntimeError, match="gradient of `SPLIC` cannot be differentiated again"):
        first.sum().backward()


def test_divergence_and_hostile_images_are_errors(differentiable):
    images, _ = images_and_mask((1, 1, 8, 8))
    for bad, message in ((float("nan"), "finite"), (300.0, "must lie in")):
        hostile = images.clone()
        hostile[0, 0, 0, 0] = bad
        with pytest.raises(ValueError, match=message):
            differentiable(hostile)
    with pytest.raises(splic_ext.ShapeError, match="at least one channel"):
        differentiable(torch.zeros(1, 0, 8, 8))
    with pytest.raises(TypeError, match="`threads` must be an integer"):
        differentiable(images, threads="x")
    wild = SolverOptions(gradient_step="literal", step_size=1e30, max_iterations=200)
    with pytest.raises(ArithmeticError, match="diverged"):
        differentiable(images.float(), options=wild)


def test_surrogate_and_exact_gradient_differ_where_the_rank_is_cut(differentiable):
    images, _ = images_and_mask((1, 1, 8, 8))
    cut, uncut = SolverOptions(rank=2, max_iterations=7), SolverOptions(rank=8, max_iterations=7)
    for options, same in ((cut, False), (uncut, True)):
        exact = gradient_of(differentiable, images, options=options)
        surrogate = gradient_of(differentiable, images, options=options, gradient="surrogate")
        assert torch.allclose(exact, surrogate, atol=1e-9) == same


def test_values_are_those_of_complete(native_cpu):
    images = images_and_mask((3, 3, 8, 8))[0].float()
    expected = splic_ext.complete(images, options="recommended", seed=2, first_index=4)
    found = autograd.complete_differentiable(images, options="recommended", seed=2, first_index=4)
    assert torch.equal(found, expected)


def test_gradient_does_not_depend_on_threads(native_cpu):
    images = images_and_mask((40, 1, 8, 8))[0].float()
    one, four = (
        gradient_of(autograd.complete_differentiable, images, threads=threads) for threads in (1, 4)
    )
    assert torch.equal(one, four)


def test_clipped_pixels_have_no_gradient(differentiable):
    """Black and white noise: what is re-estimated leaves [0, 1] in places."""
    images, mask = images_and_mask((1, 1, 12, 12))
    images = (images > 0.5).double()
    arguments = {"mask": mask, "options": SolverOptions(max_iterations=14, alternate=False)}
    completed = differentiable(images, **arguments)
    clipped = ~mask & ((completed == 0) | (completed == 1))
    assert clipped.any()
    assert gradient_of(differentiable, images, clipped.double(), **arguments).abs().max() == 0
    others = (~mask & ~clipped).double()
    assert gradient_of(differentiable, images, others, **arguments).abs().max() > 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch": np.zeros((1, 1, 8, 8))}, TypeError, "`batch` must be a torch tensor, got nd"),
        ({"batch": torch.zeros(1, 1, 8, 8).half()}, TypeError, "float32 or float64 to be diff"),
        ({"batch": torch.zeros(8, 8)}, splic_ext.ShapeError, r"got \(8, 8\); add an axis"),
        ({"mask": np.zeros((1, 1, 8, 8), bool)}, TypeError, "`mask` must be a torch tensor of b"),
        ({"mask": torch.zeros(1, 1, 8, 8)}, TypeError, "got torch.float32"),
        ({"mask": torch.zeros(8, 8).bool()}, splic_ext.ShapeError, r"got \(8, 8\); reshape it"),
        ({"gradient": "identity"}, ValueError, "`gradient` must be one of 'exact', 'surrogate'"),
        ({"backend": "numpy"}, ValueError, "`backend` must be one of 'auto', 'cpu', 'torch'"),
        ({"data_range": 0.0}, ValueError, "`data_range` must be"),
        ({"seed": -1}, ValueError, "`seed` must be an integer"),
        ({"options": "best"}, ValueError, "best"),
    ],
)
def test_refused_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        autograd.complete_differentiable(**{"batch": torch.zeros(1, 1, 8, 8), **arguments})


def test_several_masks_and_a_given_one():
    images, mask = images_and_mask((1, 1, 8, 8))
    with pytest.raises(ValueError, match="`n_masks` must be 1 with a given `mask`, got 3"):
        autograd.complete_differentiable(images, mask, options=SolverOptions(n_masks=3))


def test_each_back_end_says_whether_it_has_a_gradient():
    found = {name: get_backend(name, "cpu") for name in splic_ext.available_backends()}
    assert {name for name, known in found.items() if known.differentiates} <= {"cpu"}
    with pytest.raises(NotImplementedError, match="numpy"):
        found["numpy"].differentiate(None, None, 0.0)
