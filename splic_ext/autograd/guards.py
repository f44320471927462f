"""What keeps derivatives right: none of a derivative, full precision, no trace."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

import torch

__all__ = ["differentiable_once", "refuse_second", "refuse_tracing", "without_autocast"]


def refuse_second(name: str) -> NoReturn:
    """Raise: the derivative of a gradient was asked for."""
    raise RuntimeError(
        f"the gradient of `{name}` cannot be differentiated again; leave out "
        "`create_graph`, or set gradient='identity'"
    )


class _Once(torch.autograd.Function):
    """Return a gradient that must not be differentiated, as a function of its origins."""

    @staticmethod
    def forward(ctx: Any, name: str, gradient: torch.Tensor, *origins: torch.Tensor) -> Any:
        """Keep the name for the message."""
        ctx.name = name
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Refuse."""
        refuse_second(ctx.name)


def differentiable_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate `backward` of a torch function: in full precision, and an error in its derivative.

    The function keeps its inputs by ``save_for_backward``, which `backward` gets as its second
    argument (checkpoints of torch let them be read once), and ``ctx.owner`` for the message. The
    decorator of torch cuts the result off its inputs: ``torch.autograd.grad`` then finds no way to
    them, or another one, and says nothing.
    """

    @functools.wraps(backward)
    def once(ctx: Any, *gradients: Any) -> Any:
        saved = ctx.saved_tensors
        origins = [
            part
            for part in (*gradients, *saved)
            if isinstance(part, torch.Tensor) and part.requires_grad
        ]
        with torch.no_grad(), without_autocast(gradients[0].device):
            found = backward(ctx, saved, *gradients)
        if not (torch.is_grad_enabled() and origins):
            return found
        apply: Any = _Once.apply
        return tuple(None if part is None else apply(ctx.owner, part, *origins) for part in found)

    return once


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Leave the dtypes of what is computed on a device as they are, for a while."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def refuse_tracing(name: str) -> None:
    """Raise while torch traces: what is computed outside of torch would become a constant."""
    jit: Any = torch.jit  # which types nothing
    if jit.is_tracing():
        raise RuntimeError(
            f"`{name}` cannot be traced, as by torch.jit.trace: it leaves torch, and the trace "
            "would keep its result for all images; trace the network alone"
        )
