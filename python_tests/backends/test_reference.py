"""The NumPy back end: its gradients are derivatives, its records and chunks are right."""

from __future__ import annotations

import numpy as np
import pytest

from splic_ext import SolverOptions, complete
from splic_ext.arrays.dtypes import decode, encode
from splic_ext.backends import reference as module
from splic_ext.masks import bernoulli_masks


def derivative(function, X):
    """Central differences of a scalar function of a matrix."""
    step = 1e-6
    gradient = np.zeros_like(X)
    for place in np.ndindex(X.shape):
        E = np.zeros_like(X)
        E[place] = step
        gradient[place] = (function(X + E) - function(X - E)) / (2 * step)
    return gradient


def total_variation(X, height):
    """Eq. (6), within each channel."""
    planes = X.reshape(-1, height, X.shape[1])
    rows, columns = np.diff(planes, axis=1), np.diff(planes, axis=2)
    return 0.5 * ((rows**2).sum() + (columns**2).sum())


@pytest.mark.parametrize(("rows", "height"), [(6, 6), (6, 3), (6, 2), (6, 1)])
def test_exact_tv_gradient_is_the_derivative(rows, height):
    X = np.random.default_rng(0).random((rows, 5))
    expected = derivative(lambda Z: total_variation(Z, height), X)
    assert module.tv_gradient(X[None], height)[0] == pytest.approx(expected, abs=1e-8)


def test_forward_tv_gradient_is_equation_10():
    X = np.arange(12.0).reshape(1, 3, 4) ** 2
    T = module.tv_gradient(X, 3, "forward")[0]
    assert T[0, 0] == 2 * X[0, 0, 0] - X[0, 1, 0] - X[0, 0, 1]
    assert T[2, 0] == X[0, 2, 0] - X[0, 2, 1]
    assert T[0, 3] == X[0, 0, 3] - X[0, 1, 3]
    assert T[2, 3] == 0


@pytest.mark.parametrize("kind", ["exact", "forward"])
def test_tv_gradient_of_a_constant_is_zero(kind):
    assert not module.tv_gradient(np.full((2, 6, 5), 0.3), 3, kind).any()


def test_one_step_descends_on_the_smoothed_rank():
    """With full rank and no TV, Y = X - mu delta^2 dF/dX for F of eq. (7)."""
    X = np.random.default_rng(1).random((5, 4))
    M = np.ones((5, 4), bool)
    M[2, 1] = M[4, 3] = False
    options = SolverOptions(rank=4, tv_weight=0, max_iterations=1, inner_iterations=1)
    A = X * M
    delta = np.linalg.norm(A, 2)

    def smoothed_rank(Z):
        s = np.linalg.svd(Z, compute_uv=False)
        return 4 - np.exp(-(s**2) / (2 * delta**2)).sum()

    expected = np.where(M, X, A - 0.5 * delta**2 * derivative(smoothed_rank, A))
    result, iterations, residual, last = module.complete_matrices(X[None], M[None], options, 5)
    assert result[0] == pytest.approx(expected, abs=1e-8)
    assert iterations.tolist() == [1]
    assert residual == pytest.approx(np.linalg.norm(expected - A) / 20, abs=1e-8)
    assert last == pytest.approx(delta)


def test_only_the_anchors_of_a_matrix_are_used():
    rng = np.random.default_rng(2)
    M = rng.random((3, 8, 6)) < 0.5
    X, other = rng.random((2, 3, 8, 6))
    options = SolverOptions(rank=2, max_iterations=10)
    first = module.complete_matrices(X, M, options, 8)[0]
    second = module.complete_matrices(np.where(M, X, other), M, options, 8)[0]
    assert np.array_equal(first, second)


def test_chunks_do_not_show():
    """A batch of more than one chunk equals its images alone."""
    shape = (module.CHUNK_ENTRIES // 144 + 3, 1, 12, 12)
    batch = np.random.default_rng(4).random(shape)
    options = SolverOptions(max_iterations=1)
    arguments = {"options": options, "backend": "numpy", "seed": 6}
    result, info = complete(batch, return_info=True, **arguments)
    assert (info.iterations == 1).all()
    assert (info.seconds > 0).all()
    for i in (0, len(batch) - 4, len(batch) - 3, len(batch) - 1):
        alone = complete(batch[i : i + 1], first_index=i, **arguments)
        assert np.array_equal(alone[0], result[i])
    masks = bernoulli_masks(shape, seed=6)
    given = complete(batch, masks, options=options, backend="numpy")
    assert np.array_equal(given, result)


def test_bfloat16_bits():
    values = np.array([0.0, 1.0, 0.5, 255.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 / 3, 1e-30, 1e30])
    bits = np.empty(values.shape, np.uint16)
    encode(values, bits, "bfloat16")
    assert bits[:4].tolist() == [0, 0x3F80, 0x3F00, 0x437F]
    # Halfway between two: the even one.
    assert bits[4:6].tolist() == [0x3F80, 0x3F82]
    back = decode(bits, "bfloat16")
    assert np.abs(back / np.where(values, values, 1) - (values > 0)).max() <= 2.0**-8
    again = np.empty_like(bits)
    encode(back, again, "bfloat16")
    assert np.array_equal(again, bits)


def test_uint8_rounds_to_nearest():
    target = np.empty(6, np.uint8)
    encode(np.array([0.0, 0.49, 0.5, 1.5, 254.51, 255.0]), target, "uint8")
    assert target.tolist() == [0, 0, 0, 2, 255, 255]


def test_the_literal_step_is_chaotic_on_dark_images(cifar10):
    """What the user guide says of it; the default is not."""
    images = 0.03 * cifar10[0][:2] / 255
    moved = np.abs(images + 1e-9 * np.random.default_rng(1).choice([-1, 1], images.shape))
    for step, least, most in (("literal", 0.05, np.inf), ("srf", 0.0, 1e-5)):
        options = SolverOptions(gradient_step=step)
        result, near = (complete(x, options=options, backend="numpy") for x in (images, moved))
        assert least <= np.abs(result - near).max() <= most
