"""What a user would write instead: the whole of SPLIC around a batched library decomposition.

The same algorithm, options and masks as :func:`splic_ext.complete` on float32 images in [0, 1]:
both passes, every iteration, the stop rule matrix by matrix. Written for speed as far as plain
array code goes: all matrices in one batch, the first delta taken from the first decomposition,
no copy that is not needed, finished matrices dropped from the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch

from splic_ext import SolverOptions

#: A peer: (images, masks, options) -> (completed images, iterations summed over the matrices).
Peer = Callable[[np.ndarray, np.ndarray, SolverOptions], tuple[np.ndarray, int]]

#: Leading triplets: ``U_r diag(s_r)``, ``s_r``, ``V_r'``; and what the next call begins from.
Leading = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]

TINY = 1e-30
#: Of the block iteration: vectors beyond the rank; steps from random vectors; from the last ones.
MORE_VECTORS, COLD_STEPS, WARM_STEPS = 8, 30, 3
#: Added to a Gram matrix of unit diagonal before its Cholesky factor is taken.
RIDGE = 1e-6


def matrix_rows(images: Any, options: SolverOptions) -> int:
    """Return the rows of one matrix: those of a channel, or of all channels stacked."""
    if (options.gradient_step, options.tv_gradient, options.n_masks) != ("srf", "exact", 1):
        raise ValueError("the peers know the default gradients and one mask only")
    return images.shape[2] * (images.shape[1] if options.channels == "stacked" else 1)


def leading_svd(X: torch.Tensor, r: int, state: Any = None) -> Leading:
    """Return ``U_r diag(s_r)``, ``s_r`` and ``V_r'`` from torch.linalg.svd, and no state."""
    U, s, Vt = torch.linalg.svd(X, full_matrices=False)
    s = s[:, None, :r]
    return U[:, :, :r] * s, s, Vt[:, :r], None


def leading_eigh(X: torch.Tensor, r: int, state: Any = None) -> Leading:
    """Return the same from torch.linalg.eigh of the Gram matrix ``X'X``."""
    values, V = torch.linalg.eigh(X.mT @ X)
    V = V[:, :, -r:].flip(-1)
    s = values[:, None, -r:].flip(-1).clamp_min_(0.0).sqrt_()
    return X @ V, s, V.mT, None


def leading_block(X: torch.Tensor, r: int, state: torch.Tensor | None = None) -> Leading:
    """Return the same from a few steps of block power iteration, and the block for the next call.

    The block has some more vectors than are asked for. It starts cold from random ones, else from
    the singular vectors of the last iterate, and closes with Rayleigh-Ritz. How many vectors and
    steps there are trades time against accuracy, and there is no test that they suffice.
    """
    V, steps = state, WARM_STEPS
    if V is None:
        k = min(r + MORE_VECTORS, *X.shape[1:])
        start = torch.randn((X.shape[2], k), generator=torch.Generator().manual_seed(0))
        V, steps = start.to(X.device).expand(len(X), -1, -1), COLD_STEPS
    gram = X.mT @ X
    for _ in range(steps):
        V = orthonormal(gram @ V)
    W = X @ V
    values, Q = torch.linalg.eigh(W.mT @ W)
    Q = Q.flip(-1)
    V, s = V @ Q, values[:, None].flip(-1)[:, :, :r].clamp_min(0.0).sqrt_()
    return W @ Q[:, :, :r], s, V[:, :, :r].mT, V


def orthonormal(V: torch.Tensor) -> torch.Tensor:
    """Return orthonormal columns of the same span: Cholesky of the Gram matrix, twice."""
    for _ in range(2):
        gram = V.mT @ V
        norms = gram.diagonal(dim1=1, dim2=2).clamp_min(TINY).sqrt()
        gram = gram / (norms[:, :, None] * norms[:, None, :])
        gram.diagonal(dim1=1, dim2=2).add_(RIDGE)  # for the columns of images of a low rank
        factor, _ = torch.linalg.cholesky_ex(gram)
        V = torch.linalg.solve_triangular(factor, (V / norms[:, None, :]).mT, upper=False).mT
    return V


def subtract_tv_torch(Y: torch.Tensor, R: torch.Tensor, height: int, weight: float) -> None:
    """Subtract `weight` times the TV gradient at R from Y, in place and channel by channel."""
    shape = (len(R), -1, height, R.shape[2])
    Y, R = Y.view(shape), R.view(shape)
    d = R[..., :-1] - R[..., 1:]
    Y[..., :-1].sub_(d, alpha=weight)
    Y[..., 1:].add_(d, alpha=weight)
    d = R[:, :, :-1] - R[:, :, 1:]
    Y[:, :, :-1].sub_(d, alpha=weight)
    Y[:, :, 1:].add_(d, alpha=weight)


def torch_pass(
    decompose: Callable[..., Leading],
    image: torch.Tensor,
    M: torch.Tensor,
    options: SolverOptions,
    height: int,
) -> tuple[torch.Tensor, int]:
    """Complete a batch of matrices once with torch."""
    r, mu, period = options.rank, options.step_size, options.inner_iterations
    A, unknown = torch.where(M, image, 0.0), (~M).to(image.dtype)
    X, done, active, work, delta, state = A, None, None, 0, None, None
    for t in range(1, options.max_iterations + 1):
        L, s, Vt, state = decompose(X, r, state)
        if delta is None:
            delta = s[:, :, :1].clamp_min(TINY)
        damping = torch.exp_((s / delta).square_().mul_(-0.5))
        R = L @ Vt
        Y = torch.baddbmm(R, L * damping, Vt, alpha=-mu)
        subtract_tv_torch(Y, R, height, mu * options.tv_weight)
        previous, X = X, Y.mul_(unknown).add_(A)  # as where(M, A, Y), but faster
        work += len(X)
        if t % period == 0 and t < options.max_iterations:
            change = torch.linalg.vector_norm(X - previous, dim=(1, 2)) / X[0].numel()
            going = change > options.tolerance
            if not going.all():
                if done is None:
                    done, active = torch.empty_like(A), torch.arange(len(A), device=A.device)
                done[active[~going]] = X[~going]
                if not going.any():
                    return done, work
                parts = (active, X, A, unknown, delta)
                active, X, A, unknown, delta = (part[going] for part in parts)
                state = None if state is None else state[going]
            delta *= options.delta_decay
    if done is None:
        return X, work
    done[active] = X
    return done, work


@torch.inference_mode()
def complete_tensors(
    decompose: Callable[..., Leading],
    images: torch.Tensor,
    masks: torch.Tensor,
    options: SolverOptions,
) -> tuple[torch.Tensor, int]:
    """Complete a batch of images, on their device, with the decomposition given."""
    rows, height, width = matrix_rows(images, options), *images.shape[2:]
    options = options.replace(rank=options.resolve_rank(height, width))
    X = images.view(-1, rows, width)
    M = masks.expand(images.shape).reshape(X.shape)
    total = 0
    for anchors in (M, ~M) if options.alternate else (M,):
        X, work = torch_pass(decompose, X, anchors, options, height)
        total += work
    return X.clamp_(0.0, 1.0).view(images.shape), total


def complete_torch(
    decompose: Callable[..., Leading],
    images: np.ndarray,
    masks: np.ndarray,
    options: SolverOptions,
) -> tuple[np.ndarray, int]:
    """Complete a batch of images with torch and the decomposition given."""
    tensors = torch.from_numpy(images), torch.from_numpy(masks)
    completed, work = complete_tensors(decompose, *tensors, options)
    return completed.numpy(), work


def subtract_tv_numpy(Y: Any, R: Any, height: int, weight: float) -> None:
    """Subtract `weight` times the TV gradient at R from Y, in place and channel by channel."""
    shape = (len(R), -1, height, R.shape[2])
    Y, R = Y.reshape(shape), R.reshape(shape)
    for upper, lower in (
        (np.s_[..., :-1], np.s_[..., 1:]),
        (np.s_[..., :-1, :], np.s_[..., 1:, :]),
    ):
        d = R[upper] - R[lower]
        d *= np.float32(weight)
        Y[upper] -= d
        Y[lower] += d


def numpy_pass(xp: Any, image: Any, M: Any, options: SolverOptions, height: int) -> tuple[Any, int]:
    """Complete a batch of matrices once with the svd of NumPy (in float64 inside) or of CuPy."""
    r, mu, period = options.rank, np.float32(options.step_size), options.inner_iterations
    A, unknown = xp.where(M, image, np.float32(0)), (~M).astype(image.dtype)
    X, done, active, work, delta = A, None, None, 0, None
    for t in range(1, options.max_iterations + 1):
        U, s, Vt = xp.linalg.svd(X, full_matrices=False)
        s, Vt = s[:, None, :r], Vt[:, :r]
        if delta is None:
            delta = xp.maximum(s[:, :, :1], np.float32(TINY))
        L = U[:, :, :r] * s
        damping = s / delta
        damping *= damping
        damping *= np.float32(-0.5)
        xp.exp(damping, out=damping)
        damping *= mu
        R = L @ Vt
        Y = R - (L * damping) @ Vt
        subtract_tv_numpy(Y, R, height, float(mu) * options.tv_weight)
        Y *= unknown  # as where(M, A, Y), but faster
        Y += A
        previous, X = X, Y
        work += len(X)
        if t % period == 0 and t < options.max_iterations:
            change = xp.linalg.norm(X - previous, axis=(1, 2)) / X[0].size
            going = change > options.tolerance
            if not going.all():
                if done is None:
                    done, active = xp.empty_like(A), xp.arange(len(A))
                done[active[~going]] = X[~going]
                if not going.any():
                    return done, work
                parts = (active, X, A, unknown, delta)
                active, X, A, unknown, delta = (part[going] for part in parts)
            delta *= np.float32(options.delta_decay)
    if done is None:
        return X, work
    done[active] = X
    return done, work


def complete_arrays(xp: Any, images: Any, masks: Any, options: SolverOptions) -> tuple[Any, int]:
    """Complete a batch of images with batched numpy.linalg.svd, or that of CuPy."""
    rows, height, width = matrix_rows(images, options), *images.shape[2:]
    options = options.replace(rank=options.resolve_rank(height, width))
    X = images.reshape(-1, rows, width)
    M = xp.broadcast_to(masks, images.shape).reshape(X.shape)
    total = 0
    for anchors in (M, ~M) if options.alternate else (M,):
        X, work = numpy_pass(xp, X, anchors, options, height)
        total += work
    return xp.clip(X, 0.0, 1.0, out=X).reshape(images.shape), total


def in_threads(peer: Peer, threads: int) -> Peer:
    """Return the peer with the batch split over Python threads; the libraries drop the GIL."""
    if threads == 1:
        return peer

    def split(
        images: np.ndarray, masks: np.ndarray, options: SolverOptions
    ) -> tuple[np.ndarray, int]:
        parts = [np.array_split(array, threads) for array in (images, masks)]
        with ThreadPoolExecutor(threads) as pool:
            results = list(pool.map(lambda part: peer(*part, options), zip(*parts, strict=True)))
        return np.concatenate([part for part, _ in results]), sum(work for _, work in results)

    return split


#: Decompositions of torch, on the CPU and on a GPU.
DECOMPOSITIONS: dict[str, Callable[..., Leading]] = {
    "torch block iteration": leading_block,
    "torch.linalg.eigh": leading_eigh,
    "torch.linalg.svd": leading_svd,
}
PEERS: dict[str, Peer] = {
    **{name: partial(complete_torch, one) for name, one in DECOMPOSITIONS.items()},
    "numpy.linalg.svd": partial(complete_arrays, np),
}
