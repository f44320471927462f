"""Completion as a differentiable torch function: values and exact gradients of Algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from splic_ext.autograd.guards import differentiable_once
from splic_ext.autograd.spectral import spectral_backward
from splic_ext.backends.base import empty_entry
from splic_ext.options import SolverOptions

__all__ = ["complete_unrolled"]


@dataclass(frozen=True)
class _Step:
    """What one iteration of a batch of matrices needs besides X: no tensors but `delta`."""

    options: SolverOptions
    rank: int
    height: int
    data_range: float
    delta: Tensor
    cut_width: float

    def cut(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the rank cut multiplies each singular value by, and its slope."""
        kept = (torch.arange(s.shape[-1], device=s.device) < self.rank).to(s.dtype).expand_as(s)
        if self.cut_width == 0 or self.rank == s.shape[-1]:
            return kept, torch.zeros_like(s)
        middle = (s[:, self.rank - 1 : self.rank] + s[:, self.rank : self.rank + 1]) / 2
        there = middle > 0
        width = torch.where(there, self.cut_width * middle, 1.0)
        smooth = torch.sigmoid((s - middle) / width)
        slope = smooth * (1 - smooth) / width
        return torch.where(there, smooth, kept), torch.where(there, slope, 0.0)

    def kernel(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return g, dg/ds and dg/d delta of the step, and g and slope of the rank cut alone."""
        o, delta = self.options, self.delta[:, None]
        kept, kept_slope = self.cut(s)
        usable = (delta > 0) & (s < 40 * delta)
        d = torch.where(usable, delta, 1.0)
        weight = torch.where(usable, torch.exp(-0.5 * (s / d) ** 2), 0.0)
        scale, scale_slope = torch.ones_like(d), torch.zeros_like(d)
        if o.gradient_step == "literal":
            scale = (self.data_range / d) ** 2
            scale_slope = -2 * scale / d
        mu = o.step_size
        step = 1 - mu * scale * weight
        slope = kept * (1 - mu * scale * weight * (1 - (s / d) ** 2)) + kept_slope * s * step
        by_delta = -mu * kept * s * weight * (scale_slope + scale * s**2 / d**3)
        by_delta = torch.where(usable, by_delta, 0.0)
        return kept * s * step, slope, by_delta, kept * s, kept + kept_slope * s


def _difference(R: Tensor, axis: int, forward: bool, transpose: bool) -> Tensor:
    """Return the TV gradient along one axis, or its transpose (they differ for "forward")."""
    d = R.diff(dim=axis)
    shape = list(R.shape)
    shape[axis] = 1
    zero = R.new_zeros(shape)
    ahead, behind = torch.cat([d, zero], axis), torch.cat([zero, d], axis)
    if not forward:
        return behind - ahead
    if not transpose:
        return -ahead
    length = R.shape[axis]
    here = torch.cat([R.narrow(axis, 0, length - 1), zero], axis)
    return here - torch.cat([zero, R.narrow(axis, 0, length - 1)], axis)


def _tv(R: Tensor, height: int, forward: bool, transpose: bool = False) -> Tensor:
    blocks = R.reshape(len(R), -1, height, R.shape[-1])
    total = _difference(blocks, -2, forward, transpose)
    total = total + _difference(blocks, -1, forward, transpose)
    return total.reshape(R.shape)


def _svd(X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    try:
        U, s, Vt = torch.linalg.svd(X, full_matrices=False)
    except RuntimeError as error:  # torch.linalg.LinAlgError among them
        if bool(X.isfinite().all()):
            raise
        raise ArithmeticError(
            "the iteration diverged; it is stable for step_size <= 1 and step_size * tv_weight "
            "<= 0.25 with the 'srf' step: use smaller ones"
        ) from error
    return U, s, Vt


def _advance(X: Tensor, M: Tensor, step: _Step) -> Tensor:
    """One iteration, lines 4 to 9."""
    o = step.options
    U, s, Vt = _svd(X)
    g, _, _, cut, _ = step.kernel(s)
    Y = (U * g[:, None, :]) @ Vt
    R = (U * cut[:, None, :]) @ Vt
    Y = Y - o.step_size * o.tv_weight * _tv(R, step.height, o.tv_gradient == "forward")
    return torch.where(M, X, Y)


def _advance_backward(X: Tensor, M: Tensor, step: _Step, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients by X and by delta of one iteration."""
    o = step.options
    U, s, Vt = _svd(X)
    g, slope, by_delta, cut, cut_slope = step.kernel(s)
    grad_Y = torch.where(M, 0.0, grad)
    grad_R = (
        -o.step_size
        * o.tv_weight
        * _tv(grad_Y, step.height, o.tv_gradient == "forward", transpose=True)
    )
    grad_delta = (((U.mT @ grad_Y) * Vt).sum(-1) * by_delta).sum(-1)
    back = spectral_backward(U, s, Vt, g, slope, grad_Y)
    back = back + spectral_backward(U, s, Vt, cut, cut_slope, grad_R)
    return back + torch.where(M, grad, 0.0), grad_delta


class _Pass(torch.autograd.Function):
    """One pass of Algorithm 1 over a batch of matrices, each with its own number of iterations."""

    @staticmethod
    def forward(
        ctx: Any,
        X: Tensor,
        M: Tensor,
        options: SolverOptions,
        rank: int,
        height: int,
        data_range: float,
        cut_width: float,
        empty: float | None,
    ) -> Tensor:
        """Run the iterations; keep X at the start of every outer loop."""
        start = X if options.start == "image" else torch.where(M, X, 0.0)
        top = options.first_delta * torch.linalg.matrix_norm(start, 2)
        has_anchor = M.any(-1).any(-1)
        X_t = torch.where(has_anchor[:, None, None], start, X if empty is None else empty)
        active = has_anchor.clone()
        loops: list[tuple[Tensor, Tensor, int]] = []
        t = outer = 0
        while bool(active.any()) and t < options.max_iterations:
            inner = min(options.inner_iterations, options.max_iterations - t)
            loops.append((X_t, active.clone(), inner))
            index = active.nonzero().squeeze(-1)
            delta = top[index] * options.delta_decay**outer
            step = _Step(options, rank, height, data_range, delta, 0.0)
            current = previous = X_t[index]
            for _ in range(inner):
                previous = current
                current = _advance(current, M[index], step)
            X_t = X_t.clone()
            X_t[index] = current
            change = (current - previous).flatten(1).norm(dim=1) / X[0].numel()
            active[index] = change > options.tolerance * data_range
            t, outer = t + inner, outer + 1
        ctx.save_for_backward(X, M, top, has_anchor)
        ctx.owner = "SPLIC"
        ctx.loops, ctx.step = loops, (options, rank, height, data_range)
        ctx.cut_width, ctx.fills = cut_width, empty is not None
        return X_t

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, saved: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Run the outer loops backwards, each forwards again first."""
        X, M, top, has_anchor = saved
        options, rank, height, data_range = ctx.step
        grad = grads[0].clone()
        grad_top = torch.zeros_like(top)
        for outer in range(len(ctx.loops) - 1, -1, -1):
            X_t, active, inner = ctx.loops[outer]
            index = active.nonzero().squeeze(-1)
            decay = options.delta_decay**outer
            delta = top[index] * decay
            hard = _Step(options, rank, height, data_range, delta, 0.0)
            step = _Step(options, rank, height, data_range, delta, ctx.cut_width)
            states = [X_t[index]]
            for _ in range(inner - 1):
                states.append(_advance(states[-1], M[index], hard))
            part = grad[index]
            for state in reversed(states):
                part, by_delta = _advance_backward(state, M[index], step, part)
                grad_top[index] += decay * by_delta
            grad[index] = part
        # delta begins at a share of the largest singular value of the first iterate.
        seen = torch.ones_like(M) if options.start == "image" else M
        U, _, Vt = _svd(torch.where(seen, X, 0.0))
        leading = options.first_delta * U[:, :, :1] @ Vt[:, :1]
        by_X = torch.where(seen, grad + grad_top[:, None, None] * leading, 0.0)
        by_batch = torch.where(has_anchor[:, None, None], by_X, 0.0 if ctx.fills else grad)
        return by_batch, *[None] * 7


def complete_unrolled(
    batch: Tensor, mask: Tensor, options: SolverOptions, data_range: float, cut_width: float
) -> Tensor:
    """Complete images (N, C, H, W) with given masks of that shape, on any device.

    The result is clipped to [0, data_range], where its gradient is that of a clamp. `cut_width` is
    0 where the rank cut is constant in the backward pass; else it is a sigmoid there, of that
    width in units of the middle between the singular values that it separates.
    """
    count, channels, height, width = batch.shape
    rows = height * channels if options.channels == "stacked" else height
    X, M = batch.reshape(-1, rows, width), mask.reshape(-1, rows, width)
    rank = options.resolve_rank(height, width)
    if count == 0:
        return batch.clone()
    empty = empty_entry(options.empty_value, str(batch.dtype).removeprefix("torch."), data_range)
    complete_pass: Any = _Pass.apply  # torch does not type it
    for anchors in (M, ~M) if options.alternate else (M,):
        X = complete_pass(X, anchors, options, rank, height, data_range, cut_width, empty)
    return X.reshape(batch.shape).clamp(0, data_range)
