"""Shrinking and cutting singular values, with derivatives that stay finite."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["shrink_spectrum"]

#: Singular values closer than this, in units of the largest and of eps, count as equal.
_TIE = 8.0


class _Shrink(torch.autograd.Function):
    """``U g(S) V'`` with ``g = max(s - threshold, 0)``, 0 beyond the first `rank` values."""

    @staticmethod
    def forward(ctx: Any, matrices: torch.Tensor, threshold: torch.Tensor, rank: int) -> Any:
        u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
        kept = s > threshold[:, None]
        kept[:, rank:] = False
        ctx.save_for_backward(u, s, vh, threshold, kept)
        return (u * ((s - threshold[:, None]) * kept)[:, None]) @ vh

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        u, s, vh, threshold, kept = ctx.saved_tensors
        gradient, slope = gradients[0], kept.to(s.dtype)
        g = (s - threshold[:, None]) * slope
        tie = _TIE * torch.finfo(s.dtype).eps * s[:, :1, None]
        mean_slope = (slope[:, :, None] + slope[:, None]) / 2
        minus = _ratio(g[:, :, None] - g[:, None], s[:, :, None] - s[:, None], tie, mean_slope)
        plus = _ratio(g[:, :, None] + g[:, None], s[:, :, None] + s[:, None], tie, mean_slope)
        left = u.mT @ gradient  # U' G
        inner = left @ vh.mT  # E = U' G V
        core = (minus * (inner + inner.mT) + plus * (inner - inner.mT)) / 2
        scale = _ratio(g, s, tie[:, 0], slope)
        result = u @ core @ vh
        # One of these vanishes unless the matrix is rectangular the other way.
        result = result + (u * scale[:, None]) @ (left - inner @ vh)
        result = result + (gradient @ vh.mT - u @ inner) @ (scale[:, :, None] * vh)
        drop = -(slope * inner.diagonal(dim1=1, dim2=2)).sum(1)
        return result, drop, None


def _ratio(
    above: torch.Tensor, below: torch.Tensor, tie: torch.Tensor, limit: torch.Tensor
) -> torch.Tensor:
    """Return above / below, or the limit where `below` is next to 0."""
    near = below.abs() <= tie
    return torch.where(near, limit, above / torch.where(near, torch.ones_like(below), below))


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
