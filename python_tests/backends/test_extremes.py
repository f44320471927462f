"""The native solver all over its parameters, at their ends above all: `make asan` watches it here.

SPLIC_EXTREMES problems are drawn. Each gives the bits of the plainest call: contiguous arrays, one
thread. So a value of memory that is not its own shows in a build without a sanitizer, too.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

import splic_ext
from splic_ext import SolverOptions

PROBLEMS = int(os.environ.get("SPLIC_EXTREMES", "120"))
MOST = 2**31 - 1
SIDES = (1, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 33, 65)


def pick(rng, *values):
    return values[rng.integers(len(values))]


def draw_options(rng, height, width):
    # `tolerance` of 1e9 stops a pass when delta changes first, after how many iterations it may be.
    endless = bool(rng.random() < 0.3)
    return SolverOptions(
        rank=pick(rng, None, 1, min(height, width)),
        tv_weight=pick(rng, 0.0, 5e-324, 0.02, 0.4),
        delta_decay=pick(rng, 5e-324, 0.01, 0.45, 0.9, 1.0),
        step_size=pick(rng, 0.0, 0.01, 0.5, 0.9),
        inner_iterations=pick(rng, 1, 2, 7, 7 if endless else MOST),
        max_iterations=MOST if endless else pick(rng, 1, 2, 9),
        tolerance=1e9 if endless else pick(rng, 0.0, 5e-324, 1e-4),
        anchor_fraction=pick(rng, 0.0, 2**-32, 0.01, 0.5, 0.99, 1.0),
        alternate=bool(rng.random() < 0.5),
        n_masks=1 if endless else pick(rng, 1, 1, 2, 5),
        channels=pick(rng, "stacked", "separate"),
        tv_gradient=pick(rng, "exact", "forward"),
        gradient_step=pick(rng, "srf", "srf", "srf", "literal"),
    )


def laid_out(rng, values):
    """The same values elsewhere: reversed axes, gaps, another order, an odd address."""
    how = rng.integers(5)
    if how == 0:
        axis = int(rng.integers(values.ndim))
        return np.flip(np.ascontiguousarray(np.flip(values, axis)), axis)
    if how == 1:
        wide = np.zeros((*values.shape[:-1], 3 * values.shape[-1]), values.dtype)
        wide[..., ::3] = values
        return wide[..., ::3]
    if how == 2:
        return np.ascontiguousarray(values.transpose(3, 1, 0, 2)).transpose(2, 1, 3, 0)
    if how == 3:
        flat = np.empty(values.nbytes + 1, np.uint8)[1:].view(values.dtype)
        flat[...] = values.ravel()
        return flat.reshape(values.shape)
    return values.copy()


def draw_images(rng, shape, dtype):
    x = rng.random(shape)
    kind = rng.integers(4)
    x = (x, x * (rng.random(shape) < 0.1), np.full(shape, rng.random()), (x < 0.5) * 1.0)[kind]
    return (255 * x if dtype == "uint8" else x).astype(dtype)


def solve(function, *arguments, **more):
    """What comes of a call: the array, or the words of an error that is documented."""
    try:
        return function(*arguments, **more)
    except ArithmeticError as error:
        return str(error)


def same(ours, plain):
    return ours == plain if isinstance(plain, str) else np.array_equal(ours, plain)


@pytest.mark.parametrize("number", range(PROBLEMS))
def test_anywhere(native_cpu, number):
    rng = np.random.default_rng(number)
    height, width = (int(rng.choice(SIDES)) for _ in range(2))
    shape = (pick(rng, 1, 1, 2, 7, 18), pick(rng, 1, 3, 4), height, width)
    if number % 10 == 0:
        shape = (1, 700, *((height, 1) if number % 20 else (1, 5)))
    if number % 15 == 7:
        shape = (1, pick(rng, 1, 2), *pick(rng, (512, 1), (1, 512), (512, 3), (130, 90)))
    options = draw_options(rng, *shape[2:])
    images = draw_images(rng, shape, pick(rng, "uint8", "float16", "float32", "float64"))
    mask = None
    if options.n_masks == 1 and rng.random() < 0.5:
        mask = rng.random(shape) < options.anchor_fraction
        if options.channels == "separate":
            mask = np.broadcast_to(mask[:, :1], shape)
    draws = {"seed": pick(rng, 0, 2**64 - 1), "first_index": pick(rng, 0, 2**63, 2**64 - shape[0])}
    draws |= {"options": options, "backend": "cpu"}
    plain = solve(splic_ext.complete, images, mask, threads=1, **draws)
    out = laid_out(rng, np.zeros_like(images))
    mask = mask if mask is None else laid_out(rng, mask)
    threads = pick(rng, 2, 3, MOST)
    ours = solve(splic_ext.complete, laid_out(rng, images), mask, threads=threads, out=out, **draws)
    assert same(ours, plain)
    if not isinstance(plain, str):
        assert np.isfinite(plain.astype(float)).all()
        assert plain.min() >= 0
        assert plain.max() <= (255 if plain.dtype == np.uint8 else 1)


@pytest.mark.parametrize("number", range(PROBLEMS // 3))
def test_gradient_anywhere(native_cpu, number):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from splic_ext.autograd import complete_differentiable

    rng = np.random.default_rng([number, 1])
    height, width = (int(rng.choice(SIDES)) for _ in range(2))
    shape = (pick(rng, 1, 2, 7, 18), pick(rng, 1, 3), height, width)
    options = draw_options(rng, height, width)
    options = options.replace(max_iterations=min(options.max_iterations, 9))
    images = torch.from_numpy(draw_images(rng, shape, pick(rng, "float32", "float64")))
    gradient = pick(rng, "exact", "surrogate")

    def differentiate(x, threads):
        leaf = x.detach().requires_grad_()
        result = complete_differentiable(
            leaf, options=options, gradient=gradient, threads=threads, seed=2**64 - 1, backend="cpu"
        )
        result.square().sum().backward()
        return leaf.grad.numpy()

    plain = solve(differentiate, images, 1)
    flipped = images.flip(3).contiguous().flip(3)
    assert same(solve(differentiate, flipped, MOST), plain)
