"""What a user would write instead: the whole of SPLIC around a batched library decomposition.

The same algorithm, options and masks as :func:`splic_ext.complete` on float32 images in [0, 1]:
both passes, every iteration, the stop rule matrix by matrix. Written for speed as far as plain
array code goes: all matrices in one batch, the first delta taken from the first decomposition,
no copy that is not needed, finished matrices dropped from the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from splic_ext import SolverOptions

#: A peer: (images, masks, options) -> (completed images, iterations summed over the matrices).
Peer = Callable[[np.ndarray, np.ndarray, SolverOptions], tuple[np.ndarray, int]]

TINY = 1e-30


def matrix_rows(images: Any, options: SolverOptions) -> int:
    """Return the rows of one matrix: those of a channel, or of all channels stacked."""
    if (options.gradient_step, options.tv_gradient, options.n_masks) != ("srf", "exact", 1):
        raise ValueError("the peers know the default gradients and one mask only")
    return images.shape[2] * (images.shape[1] if options.channels == "stacked" else 1)


def leading_svd(X: torch.Tensor, r: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ``U_r diag(s_r)``, ``s_r`` and ``V_r'`` from torch.linalg.svd."""
    U, s, Vt = torch.linalg.svd(X, full_matrices=False)
    s = s[:, None, :r]
    return U[:, :, :r] * s, s, Vt[:, :r]


def leading_eigh(X: torch.Tensor, r: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the same three from torch.linalg.eigh of the Gram matrix ``X'X``."""
    values, V = torch.linalg.eigh(X.mT @ X)
    V = V[:, :, -r:].flip(-1)
    s = values[:, None, -r:].flip(-1).clamp_min_(0.0).sqrt_()
    return X @ V, s, V.mT


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
    decompose: Callable[..., Any],
    image: torch.Tensor,
    M: torch.Tensor,
    options: SolverOptions,
    height: int,
) -> tuple[torch.Tensor, int]:
    """Complete a batch of matrices once with torch."""
    r, mu, period = options.rank, options.step_size, options.inner_iterations
    A = torch.where(M, image, 0.0)
    X, done, active, work, delta = A, None, None, 0, None
    for t in range(1, options.max_iterations + 1):
        L, s, Vt = decompose(X, r)
        if delta is None:
            delta = s[:, :, :1].clamp_min(TINY)
        damping = torch.exp_((s / delta).square_().mul_(-0.5))
        R = L @ Vt
        Y = torch.baddbmm(R, L * damping, Vt, alpha=-mu)
        subtract_tv_torch(Y, R, height, mu * options.tv_weight)
        previous, X = X, torch.where(M, A, Y, out=Y)
        work += len(X)
        if t % period == 0 and t < options.max_iterations:
            change = torch.linalg.vector_norm(X - previous, dim=(1, 2)) / X[0].numel()
            going = change > options.tolerance
            if not going.all():
                if done is None:
                    done, active = torch.empty_like(A), torch.arange(len(A))
                done[active[~going]] = X[~going]
                if not going.any():
                    return done, work
                active, X, A, M, delta = (part[going] for part in (active, X, A, M, delta))
            delta *= options.delta_decay
    if done is None:
        return X, work
    done[active] = X
    return done, work


@torch.inference_mode()
def complete_tensors(
    decompose: Callable[..., Any], images: torch.Tensor, masks: torch.Tensor, options: SolverOptions
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
    decompose: Callable[..., Any], images: np.ndarray, masks: np.ndarray, options: SolverOptions
) -> tuple[np.ndarray, int]:
    """Complete a batch of images with torch and the decomposition given."""
    tensors = torch.from_numpy(images), torch.from_numpy(masks)
    completed, work = complete_tensors(decompose, *tensors, options)
    return completed.numpy(), work


def complete_torch_svd(
    images: np.ndarray, masks: np.ndarray, options: SolverOptions
) -> tuple[np.ndarray, int]:
    """Complete a batch of images with batched torch.linalg.svd."""
    return complete_torch(leading_svd, images, masks, options)


def complete_torch_eigh(
    images: np.ndarray, masks: np.ndarray, options: SolverOptions
) -> tuple[np.ndarray, int]:
    """Complete a batch of images with batched torch.linalg.eigh of the Gram matrices."""
    return complete_torch(leading_eigh, images, masks, options)


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
    A = xp.where(M, image, np.float32(0))
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
        xp.copyto(Y, A, where=M)
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
                active, X, A, M, delta = (part[going] for part in (active, X, A, M, delta))
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


def complete_numpy_svd(
    images: np.ndarray, masks: np.ndarray, options: SolverOptions
) -> tuple[np.ndarray, int]:
    """Complete a batch of images with batched numpy.linalg.svd."""
    return complete_arrays(np, images, masks, options)


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


PEERS: dict[str, Peer] = {
    "torch.linalg.svd": complete_torch_svd,
    "torch.linalg.eigh": complete_torch_eigh,
    "numpy.linalg.svd": complete_numpy_svd,
}
