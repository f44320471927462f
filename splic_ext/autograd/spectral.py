"""Functions of the singular values of a matrix, with derivatives that stay finite.

Without autograd through svd, whose derivative is infinite where singular values tie or vanish.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from splic_ext.autograd.guards import differentiable_once

__all__ = ["largest_singular_value", "shrink_spectrum", "spectral_backward"]


def spectral_backward(
    U: Tensor, s: Tensor, Vt: Tensor, g: Tensor, slope: Tensor, grad: Tensor
) -> Tensor:
    r"""Return dL/dX of a loss of ``F(X) = U diag(g(s)) V'``, given dL/dF.

    With ``E = U' dL/dF V`` it is ``U (P * sym(E) + Q * skew(E)) V'``, where
    ``P_ij = (g_i - g_j) / (s_i - s_j)`` and ``Q_ij = (g_i + g_j) / (s_i + s_j)``, and the part of
    the gradient beyond the span of U times ``g / s``. Finite where autograd through `svd` is not:
    where singular values tie, ``P_ij`` is the slope of g, and where they vanish, ``Q_ij`` is.

    Parameters
    ----------
    U, s, Vt : Tensor of shapes (..., m, k), (..., k), (..., k, n)
        Thin singular value decomposition of X, k = min(m, n).
    g, slope : Tensor of shape (..., k)
        Values of an odd function at s, and its derivative. A function that jumps (a rank cut) is
        treated as if it moved along with the singular values.
    grad : Tensor of shape (..., m, n)
        dL/dF.

    Returns
    -------
    Tensor of shape (..., m, n)

    Notes
    -----
    Daleckii-Krein theorem for the symmetric case; Noferini, *A formula for the Frechet derivative
    of a generalized matrix function* (2017).

    Examples
    --------
    The identity has the identity as derivative:

    >>> import torch
    >>> X = torch.eye(3, dtype=torch.float64)[:, :2]
    >>> U, s, Vt = torch.linalg.svd(X, full_matrices=False)
    >>> grad = torch.arange(6.0, dtype=torch.float64).reshape(3, 2)
    >>> bool(torch.allclose(spectral_backward(U, s, Vt, s, torch.ones_like(s), grad), grad))
    True
    """
    V = Vt.mT
    if U.shape[-2] < V.shape[-2]:
        return spectral_backward(V, s, U.mT, g, slope, grad.mT).mT
    E = U.mT @ grad @ V
    gi, gj = g.unsqueeze(-1), g.unsqueeze(-2)
    si, sj = s.unsqueeze(-1), s.unsqueeze(-2)
    tiny = torch.finfo(s.dtype).eps * s.amax(-1).clamp_min(torch.finfo(s.dtype).tiny)
    tiny = tiny[..., None, None]
    gap, total = si - sj, si + sj
    mean_slope = (slope.unsqueeze(-1) + slope.unsqueeze(-2)) / 2
    # Near a tie the quotient is rounding noise and the mean of the slopes is right, but for a jump.
    noise = 16 * torch.finfo(s.dtype).eps * torch.maximum(gi.abs(), gj.abs())
    tied = (gap.abs() <= tiny) | ((gi - gj - mean_slope * gap).abs() <= noise)
    vanished = total <= tiny
    P = torch.where(tied, mean_slope, (gi - gj) / torch.where(tied, 1.0, gap))
    Q = torch.where(vanished, mean_slope, (gi + gj) / torch.where(vanished, 1.0, total))
    inner = U @ (P * (E + E.mT) / 2 + Q * (E - E.mT) / 2)
    zero = s <= tiny[..., 0]
    ratio = torch.where(zero, slope, g / torch.where(zero, 1.0, s))
    outer = (grad @ V - U @ E) * ratio.unsqueeze(-2)
    return (inner + outer) @ Vt


class _Shrink(torch.autograd.Function):
    """``U g(S) V'`` with ``g = max(s - threshold, 0)``, 0 beyond the first `rank` values."""

    @staticmethod
    def forward(ctx: Any, matrices: Tensor, threshold: Tensor, rank: int, owner: str) -> Any:
        """Decompose the squares, and keep the matrices alone."""
        ctx.save_for_backward(matrices, threshold)
        ctx.rank, ctx.owner = rank, owner
        return _shrink_by_squares(matrices, threshold, rank)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, saved: Any, *gradients: Any) -> Any:
        """Decompose the matrices, whose small singular values matter here."""
        matrices, threshold = saved
        u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
        kept = s > threshold[:, None]
        kept[:, ctx.rank :] = False
        gradient, slope = gradients[0], kept.to(s.dtype)
        g = (s - threshold[:, None]) * slope
        drop = -(slope * ((u.mT @ gradient) * vh).sum(-1)).sum(1)
        return spectral_backward(u, s, vh, g, slope, gradient), drop, None, None


def shrink_spectrum(
    matrices: Tensor, threshold: Tensor, rank: int | None = None, owner: str = "shrink_spectrum"
) -> Tensor:
    """Lower all singular values by the threshold of their matrix, to 0 at least, and cut the rank.

    Of matrices of shape (N, m, n) and thresholds of shape (N,), differentiable in both; the rank
    cut is taken as constant. The derivative has none: an error then names the `owner`.
    """
    most = min(matrices.shape[-2:])
    apply: Any = _Shrink.apply
    result: Tensor = apply(matrices, threshold, most if rank is None else rank, owner)
    return result


class _Largest(torch.autograd.Function):
    """The largest singular value, with a derivative in the precision of the matrices."""

    @staticmethod
    def forward(ctx: Any, matrices: Tensor, owner: str) -> Any:
        """Keep the matrices alone."""
        ctx.save_for_backward(matrices)
        ctx.owner = owner
        return torch.linalg.svdvals(matrices)[:, 0]

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, saved: Any, *gradients: Any) -> Any:
        """Multiply the first singular vectors."""
        (matrices,) = saved
        u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
        u, vh, gradient = u[:, :, :1], vh[:, :1], gradients[0][:, None, None]
        tall = matrices.shape[1] >= matrices.shape[2]
        return u @ (gradient * vh) if tall else (u * gradient) @ vh, None  # as torch multiplies


def largest_singular_value(matrices: Tensor, owner: str) -> Tensor:
    """Return that of each matrix (N, m, n), with a gradient asked for or not to the same bits.

    The derivative has none: an error then names the `owner`.
    """
    apply: Any = _Largest.apply
    result: Tensor = apply(matrices, owner)
    return result


def _shrink_by_squares(matrices: Tensor, threshold: Tensor, rank: int) -> Tensor:
    """Return it as a function of X X' in float64: what is small is cut all the same."""
    if matrices.shape[1] > matrices.shape[2]:
        return _shrink_by_squares(matrices.mT, threshold, rank).mT
    squares = matrices.double() @ matrices.double().mT
    values, vectors = torch.linalg.eigh(squares)  # the largest come last
    s = values.clamp(min=0.0).sqrt()
    kept = s > threshold[:, None]
    kept[:, : s.shape[1] - rank] = False
    share = torch.where(kept, 1 - threshold[:, None] / torch.where(kept, s, 1.0), 0.0)
    factor = (vectors * share[:, None]) @ vectors.mT
    result: Tensor = factor.to(matrices.dtype) @ matrices
    return result
