"""The reference back end: NumPy, float64, written straight from the formulas.

It is the fallback where the compiled module is absent, and the oracle of the tests. The
variables are those of Algorithm 1 of the paper (Zhao et al. 2021, arXiv:2103.02781).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.arrays.dtypes import decode, encode
from splic_ext.backends.base import DIVERGED, Backend, BackendInfo, CompletionInfo, Problem
from splic_ext.masks import bernoulli_masks
from splic_ext.options import GradientStep, SolverOptions, TVGradient

__all__ = ["BACKEND", "complete_matrices", "tv_gradient"]

Array = npt.NDArray[np.float64]

#: Images are solved in chunks of about this many float64 entries, to bound the memory.
CHUNK_ENTRIES = 1 << 19


def forward_difference_gradient(X: Array, axis: int, kind: TVGradient) -> Array:
    """Gradient of half the sum of squared forward differences along one axis.

    With d_i = x_i - x_{i+1}, ``"exact"`` is d_i - d_{i-1} and ``"forward"`` is d_i alone.
    """
    X = np.moveaxis(X, axis, -1)
    T = np.zeros_like(X)
    d = X[..., :-1] - X[..., 1:]
    T[..., :-1] += d
    if kind == "exact":
        T[..., 1:] -= d
    return np.moveaxis(T, -1, axis)


def tv_gradient(X: Array, height: int, kind: TVGradient = "exact") -> Array:
    """Gradient of the total-variation term C(X), eq. (6) (``"exact"``) or eq. (10) as printed.

    The matrices, of shape (B, m, n), stack m / height channels, of which it couples no two.
    """
    channels = X.reshape(X.shape[0], -1, height, X.shape[2])
    T = forward_difference_gradient(channels, -1, kind)
    T += forward_difference_gradient(channels, -2, kind)
    return T.reshape(X.shape)


def rank_gradient(s: Array, delta: Array, data_range: float, step: GradientStep) -> Array:
    """Return the singular values of the rank gradient: delta^2 times eq. (9), or as printed.

    A singular value far above delta weighs nothing, one of 0 neither: also where delta is 0 (an
    all-zero matrix) or so small that a quotient overflows.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        weight = np.exp(-0.5 * (s / delta) ** 2)
        if step == "literal":
            weight = weight * (data_range / delta) ** 2
        return np.where((s > 0) & (s < 40 * delta), s * weight, 0.0)


def complete_matrices(
    X: Array,
    M: npt.NDArray[np.bool_],
    options: SolverOptions,
    height: int,
    data_range: float = 1.0,
    empty: float | None = None,
) -> tuple[Array, npt.NDArray[np.int32], Array, Array]:
    """Complete a batch of matrices once: Algorithm 1.

    Of `X`, of shape (B, m, n), only the anchors (`M` is True) are used, unless the options start at
    the image; a matrix without one comes
    back as it is, or filled with `empty`, after 0 iterations. `height` is that of one channel;
    `data_range` the unit of the tolerance and of the literal gradient step. Returns the matrices,
    and iterations, residual and delta of each as in :class:`CompletionInfo`, in the unit of the
    data.
    """
    r, mu, lam = options.rank, options.step_size, options.tv_weight
    X_t = X.copy() if options.start == "image" else np.where(M, X, 0.0)  # line 1
    delta = options.first_delta * np.linalg.svd(X_t, compute_uv=False)[:, 0]
    has_anchor = M.any(axis=(1, 2))
    X_t[~has_anchor] = X[~has_anchor] if empty is None else empty
    iterations = np.zeros(len(X), np.int32)
    residual = np.zeros(len(X))
    active = np.flatnonzero(has_anchor)
    t = 0
    while active.size and t < options.max_iterations:
        previous = X_t[active]
        for _ in range(min(options.inner_iterations, options.max_iterations - t)):  # line 3
            previous = X_t[active]
            U, s, Vt = np.linalg.svd(previous, full_matrices=False)  # line 4
            U, s, Vt = U[..., :r], s[:, :r], Vt[:, :r]  # line 5
            R = (U * s[:, None, :]) @ Vt
            weight = rank_gradient(s, delta[active, None], data_range, options.gradient_step)
            G = (U * weight[:, None, :]) @ Vt  # line 6
            T = tv_gradient(R, height, options.tv_gradient)  # line 7
            Y = R - mu * (G + lam * T)  # line 8
            X_t[active] = np.where(M[active], previous, Y)  # line 9
            t += 1  # line 10
        change = (X_t[active] - previous).reshape(active.size, -1)
        residual[active] = np.linalg.norm(change, axis=1) / (X.shape[1] * X.shape[2])
        residual[residual > DIVERGED * data_range] = np.inf
        iterations[active] = t
        going = (residual > options.tolerance * data_range) & np.isfinite(residual)
        active = active[going[active]]
        if t < options.max_iterations:
            delta[active] *= options.delta_decay  # line 12
    return X_t, iterations, residual, np.where(has_anchor, delta, 0.0)


def _complete_once(
    images: Array, mask: npt.NDArray[np.bool_], problem: Problem, info: CompletionInfo
) -> Array:
    """Complete images of shape (N, C, H, W) with one mask: all passes, clipped."""
    options = problem.options
    count, _, height, width = images.shape
    rows = height if options.channels == "separate" else height * images.shape[1]
    X = images.reshape(-1, rows, width)
    M = np.broadcast_to(mask, images.shape).reshape(X.shape)
    for p, anchors in enumerate((M, ~M) if options.alternate else (M,)):
        X, iterations, residual, delta = complete_matrices(
            X, anchors, options, height, problem.data_range, problem.empty
        )
        for total, record in (
            (info.iterations, iterations),
            (info.residual, residual / problem.data_range),
            (info.delta, delta / problem.data_range),
        ):
            worst = np.asarray(record).reshape(count, -1).max(axis=1)
            np.maximum(total[:, p], worst, out=total[:, p])
    return np.clip(X.reshape(images.shape), 0.0, problem.largest)


class ReferenceBackend(Backend):
    """NumPy in float64, one batched LAPACK call for each iteration."""

    name = "numpy"

    def info(self) -> BackendInfo:
        """Describe the back end: always there."""
        details: dict[str, Any] = {"numpy": np.__version__, "threads": "those of NumPy's BLAS"}
        return BackendInfo(self.name, True, None, ("cpu",), ("float64",), details)

    def solve(self, problem: Problem) -> None:
        """Complete the batch, a bounded number of images at a time."""
        count, *image_shape = problem.source.shape
        chunk = max(1, CHUNK_ENTRIES // int(np.prod(image_shape)))
        for start in range(0, count, chunk):
            _solve_part(problem, start, min(start + chunk, count))


def _solve_part(problem: Problem, start: int, stop: int) -> None:
    """Complete some images of the batch together; one by one if LAPACK refuses them.

    LAPACK takes no matrix that has overflowed, and does not say which one it was.
    """
    options = problem.options
    part = slice(start, stop)
    began = time.perf_counter()
    with np.errstate(invalid="ignore"):  # signalling NaN where the mask hides
        images = decode(problem.source[part], problem.dtype)
    info = CompletionInfo.empty(len(images), problem.info.iterations.shape[1])
    total = np.zeros_like(images)
    try:
        for stream in range(options.n_masks):
            if problem.mask is None:
                mask = bernoulli_masks(
                    images.shape,
                    anchor_fraction=options.anchor_fraction,
                    seed=problem.seed,
                    first_index=(problem.first_index + start) % 2**64,
                    stream=stream,
                    channels=options.channels,
                )
            else:
                mask = problem.mask[part]
            with np.errstate(over="ignore", invalid="ignore"):
                total += _complete_once(images, mask, problem, info)
    except np.linalg.LinAlgError:
        if len(images) > 1:
            for i in range(start, stop):
                _solve_part(problem, i, i + 1)
            return
        info.residual[:] = np.inf
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.minimum(total / options.n_masks, problem.largest)
        encode(mean, problem.target[part], problem.dtype)
    problem.info.iterations[part] = info.iterations
    problem.info.residual[part] = info.residual
    problem.info.delta[part] = info.delta
    problem.info.seconds[part] = (time.perf_counter() - began) / len(images)


BACKEND = ReferenceBackend()
