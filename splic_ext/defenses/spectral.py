"""Shrinking and cutting singular values, with derivatives that stay finite."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from splic_ext.autograd import spectral_backward

__all__ = ["shrink_spectrum"]


class _Shrink(torch.autograd.Function):
    """``U g(S) V'`` with ``g = max(s - threshold, 0)``, 0 beyond the first `rank` values."""

    @staticmethod
    def forward(ctx: Any, matrices: torch.Tensor, threshold: torch.Tensor, rank: int) -> Any:
        """Decompose the squares, and keep the matrices alone."""
        ctx.save_for_backward(matrices, threshold)
        ctx.rank = rank
        return _shrink_by_squares(matrices, threshold, rank)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Decompose the matrices, whose small singular values matter here."""
        matrices, threshold = ctx.saved_tensors
        u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
        kept = s > threshold[:, None]
        kept[:, ctx.rank :] = False
        gradient, slope = gradients[0], kept.to(s.dtype)
        g = (s - threshold[:, None]) * slope
        drop = -(slope * ((u.mT @ gradient) * vh).sum(-1)).sum(1)
        return spectral_backward(u, s, vh, g, slope, gradient), drop, None


def shrink_spectrum(
    matrices: torch.Tensor, threshold: torch.Tensor, rank: int | None = None
) -> torch.Tensor:
    """Lower all singular values by a threshold, to 0 at least, and keep the largest alone.

    Differentiable in `matrices` and `threshold`. The derivative of ``U g(S) V'`` needs the
    singular vectors only where singular values differ, so that it is finite for repeated and zero
    ones as well; the rank cut is taken as constant.

    Parameters
    ----------
    matrices : tensor of shape (N, m, n), float32 or float64
        Any matrices.
    threshold : tensor of shape (N,)
        Of each matrix, at least 0.
    rank : int, optional
        Most singular values to keep; default: all.

    Returns
    -------
    tensor of shape (N, m, n)

    Examples
    --------
    >>> matrices = torch.diag(torch.tensor([3.0, 2.0, 1.0]))[None]
    >>> shrink_spectrum(matrices, torch.tensor([1.0])).diagonal(dim1=1, dim2=2)
    tensor([[2., 1., 0.]])
    >>> shrink_spectrum(matrices, torch.tensor([0.0]), rank=1).diagonal(dim1=1, dim2=2)
    tensor([[3., 0., 0.]])
    """
    most = min(matrices.shape[-2:])
    apply: Any = _Shrink.apply
    result: torch.Tensor = apply(matrices, threshold, most if rank is None else rank)
    return result


def _shrink_by_squares(matrices: torch.Tensor, threshold: torch.Tensor, rank: int) -> torch.Tensor:
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
    result: torch.Tensor = factor.to(matrices.dtype) @ matrices
    return result
