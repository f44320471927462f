"""The vector-Jacobian product of a spectral function of a matrix, without autograd through svd."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["spectral_backward"]


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
