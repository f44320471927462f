"""Defences in native code on the CPU, where it was built: what their modules compute in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splic_ext.autograd.guards import differentiable_once, without_autocast
from splic_ext.autograd.operators import in_graph
from splic_ext.backends.cpu import native_module
from splic_ext.completion import default_threads

__all__ = ["denoise_tv", "estimate", "is_native", "is_small"]

#: Matrices of more rows and columns are decomposed by LAPACK, in torch.
LONGEST = 64
#: Iterations that native code counts.
MOST_ITERATIONS = 2**31 - 1


def is_native(images: Tensor) -> bool:
    """Say whether native code takes the images: not from a device, a graph or a trace."""
    jit: Any = torch.jit  # which types nothing
    if in_graph() or jit.is_tracing():  # first: torch.compile looks no further
        return False
    return native_module() is not None and images.device.type == "cpu"


def is_small(matrices: Tensor) -> bool:
    """Say whether native code takes the matrices: on long sides its rotations lose to LAPACK."""
    return is_native(matrices) and min(matrices.shape[1:]) <= LONGEST


def denoise_tv(
    images: Tensor, weight: float, iterations: int, formula: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return what `formula` computes in torch, which also gives derivatives beyond the first."""
    apply: Any = _Denoise.apply
    result: Tensor = apply(images, weight, iterations, formula)
    return result


def _denoise(images: Tensor, weight: float, iterations: int, cotangent: Any = None) -> Tensor:
    source = images.detach().numpy()
    target = np.empty(source.shape, source.dtype)
    native_module().denoise_tv(
        source,
        target,
        weight=weight,
        iterations=min(iterations, MOST_ITERATIONS),
        threads=default_threads(),
        cotangent=cotangent,
    )
    return torch.from_numpy(target)


class _Denoise(torch.autograd.Function):
    """Total-variation denoising, and its derivative."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: float,
        iterations: int,
        formula: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Denoise, and keep the images alone."""
        ctx.save_for_backward(images)
        ctx.parameters, ctx.formula = (weight, iterations), formula
        return _denoise(images, weight, iterations)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Denoise again, and go back; in torch if that is to be differentiated."""
        (images,) = ctx.saved_tensors
        (gradient,) = gradients
        if torch.is_grad_enabled():
            with without_autocast(images.device):
                result = ctx.formula(images)
            return *torch.autograd.grad(result, images, gradient, create_graph=True), *[None] * 3
        cotangent = gradient.to(images.dtype).numpy()
        weight, iterations = ctx.parameters
        return _denoise(images, weight, iterations, cotangent), *[None] * 3


def estimate(
    matrices: Tensor,
    observed: Tensor,
    *,
    nuclear: bool,
    amount: float,
    tolerance: float,
    iterations: int,
    owner: str,
) -> Tensor:
    """Return the estimates of matrices (N, m, n) by the nuclear norm, or by Soft-Impute.

    `amount` is tau, or with Soft-Impute its share of the first singular value. The derivative has
    none: an error then names the `owner`.
    """
    parameters = {
        "nuclear": nuclear,
        "amount": amount,
        "tolerance": tolerance,
        "iterations": min(iterations, MOST_ITERATIONS),
    }
    apply: Any = _Estimate.apply
    result: Tensor = apply(matrices, observed != 0, parameters, owner)
    return result


def _estimate(
    matrices: Tensor, mask: Tensor, done: Tensor, parameters: dict[str, Any], cotangent: Any = None
) -> Tensor:
    source = matrices.detach().numpy()[:, None]
    target = np.empty(source.shape, source.dtype)
    native_module().estimate(
        source,
        target,
        mask.numpy()[:, None],
        done.numpy(),
        **parameters,
        threads=default_threads(),
        cotangent=cotangent,
    )
    return torch.from_numpy(target[:, 0])


class _Estimate(torch.autograd.Function):
    """Soft-Impute or the nuclear norm, and the derivative."""

    @staticmethod
    def forward(
        ctx: Any, matrices: Tensor, mask: Tensor, parameters: dict[str, Any], owner: str
    ) -> Tensor:
        """Estimate, and keep the matrices and the number of iterations of each."""
        done = torch.zeros(len(matrices), dtype=torch.int32, device="cpu")
        result = _estimate(matrices, mask, done, parameters)
        ctx.save_for_backward(matrices, mask, done)
        ctx.parameters, ctx.owner = parameters, owner
        return result

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, saved: Any, *gradients: Tensor) -> Any:
        """Estimate again, and go back."""
        matrices, mask, done = saved
        cotangent = gradients[0].to(matrices.dtype).numpy()[:, None]
        return _estimate(matrices, mask, done, ctx.parameters, cotangent), *[None] * 3
