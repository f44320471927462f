"""Completion as a differentiable torch function, by the compiled solver or in torch."""

from __future__ import annotations

import ast
import warnings
from dataclasses import fields
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from splic_ext.arrays.dtypes import nearest_range
from splic_ext.arrays.views import looks_channel_last
from splic_ext.autograd.guards import (
    differentiable_once,
    refuse_second,
    refuse_tracing,
    without_autocast,
)
from splic_ext.autograd.masks import masks_on
from splic_ext.autograd.operators import (
    Formula,
    contiguous_like,
    define,
    differentiate,
    each,
    in_graph,
    shown,
    signed,
    unsigned,
)
from splic_ext.autograd.unrolled import complete_unrolled
from splic_ext.backends import backend_info, get_backend, gradient_backends
from splic_ext.backends.base import Backend, Problem
from splic_ext.common.checks import check_integer, check_number
from splic_ext.completion import MAX_THREADS, complete, default_threads, resolve_options
from splic_ext.completion.means import complete_from_means
from splic_ext.completion.validate import (
    check_mask_place,
    check_sides,
    check_single,
    check_values,
)
from splic_ext.errors import ShapeError
from splic_ext.masks import count_up
from splic_ext.options import SolverOptions

__all__ = ["SURROGATE_WIDTH", "Gradient", "complete_differentiable"]

#: How to differentiate: exactly, or with a smooth rank cut in the backward pass.
Gradient: TypeAlias = Literal["exact", "surrogate"]

#: Width of the sigmoid that stands for the rank cut, in units of the singular values around it.
SURROGATE_WIDTH = 0.1


def complete_differentiable(
    batch: Tensor,
    mask: Tensor | None = None,
    *,
    options: SolverOptions | str | None = None,
    seed: int = 0,
    first_index: int = 0,
    data_range: float = 1.0,
    gradient: Gradient = "exact",
    backend: str = "auto",
    threads: int | None = None,
) -> Tensor:
    r"""Complete images as :func:`splic_ext.complete` does, differentiably in the images.

    Parameters
    ----------
    batch : Tensor of shape (N, C, H, W), float32 or float64 in [0, data_range]
        May require grad.
    mask : Tensor of shape (N, C, H, W), bool, optional
        True = anchor; default: drawn from `seed` and the index of the image.
    options, seed, first_index, data_range, threads
        As in :func:`splic_ext.complete`; the `algorithm` of the options means nothing here.
    gradient : {"exact", "surrogate"}, default "exact"
        ``"exact"``: the gradient of what is computed; the rank cut and the number of iterations
        are constant, since their derivatives are zero almost everywhere. ``"surrogate"``: backward,
        the rank cut is a sigmoid in the singular values, around the middle between the last one
        that is kept and the first one that is not, and 0.1 times that value wide. Forward is the
        same for both.
    backend : {"auto", "cpu", "torch"}, default "auto"
        ``"cpu"``: the compiled solver, which runs again in the backward pass; its memory is the
        iterations of a few images in each thread, whatever the batch. ``"torch"``: on any device,
        and much slower; keeps the iterates between outer loops. ``"auto"``: the first that can.

    Returns
    -------
    Tensor of shape (N, C, H, W)
        In [0, data_range]; where it is clipped, the gradient is that of a clamp.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.
    ShapeError
        A `ValueError`: another shape of `batch` or `mask`.
    ArithmeticError
        The iteration diverged (``"cpu"``).
    BackendUnavailableError
        ``"cpu"`` was asked for and was not built.
    RuntimeError
        While torch traces; in backward, when the gradient is differentiated again.

    Notes
    -----
    Zhao et al. 2021, Algorithm 1. One step is a spectral function of the iterate; its
    vector-Jacobian product has a closed form (Daleckii-Krein; Noferini 2017) that stays finite
    where singular values tie or vanish.

    Examples
    --------
    >>> x = torch.full((1, 1, 6, 6), 0.5, dtype=torch.float64, requires_grad=True)
    >>> y = complete_differentiable(x, options=SolverOptions(rank=2, max_iterations=4))
    >>> y.sum().backward()
    >>> bool(x.grad.isfinite().all())
    True
    """
    refuse_tracing("complete_differentiable")
    if not in_graph():
        return _complete(
            batch, mask, options, seed, first_index, data_range, gradient, backend, threads
        )
    if not isinstance(batch, Tensor):
        _check_batch(batch)
    completed: Tensor = _completed(
        batch,
        mask,
        _written(options),
        signed("seed", seed),
        signed("first_index", first_index),
        data_range,
        gradient,
        backend,
        threads,
    )
    return completed


def _complete(
    batch: Tensor,
    mask: Tensor | None,
    options: SolverOptions | str | None,
    seed: int,
    first_index: int,
    data_range: float,
    gradient: str,
    backend: str,
    threads: int | None,
) -> Tensor:
    """Do it where torch makes no graph."""
    _check_batch(batch)
    solver_options = resolve_options(options).replace(algorithm="auto")
    seed = check_integer("seed", seed, 0, 2**64 - 1)
    first_index = check_integer("first_index", first_index, 0, 2**64 - 1)
    data_range = check_number("data_range", data_range, 0.0, above=True)
    for name, value, known in (
        ("gradient", gradient, get_args(Gradient)),
        ("backend", backend, ("auto", *gradient_backends(), "torch")),
    ):
        if not isinstance(value, str) or value not in known:
            expected = ", ".join(map(repr, known))
            raise ValueError(f"`{name}` must be one of {expected}, got {value!r}")
    if mask is not None:
        mask = _check_mask(mask, batch, solver_options)
    if solver_options.start == "mean":
        return _from_means(
            batch, mask, solver_options, seed, first_index, data_range, gradient, backend, threads
        )
    cut_width = 0.0 if gradient == "exact" else SURROGATE_WIDTH
    chosen = _find_backend(backend, batch.device.type)
    if chosen is not None:
        threads = default_threads() if threads is None else threads
        others = {"seed": seed, "first_index": first_index, "threads": threads}
        apply: Any = _Native.apply
        completed: Tensor = apply(
            batch, mask, chosen, solver_options, data_range, others, cut_width
        )
        return completed
    if threads is not None:
        check_integer("threads", threads, 1, MAX_THREADS)
    if len(batch) == 0:
        return batch.clone()
    if looks_channel_last(tuple(batch.shape), -3):  # the compiled solver says so itself
        warnings.warn(
            f"`batch` of shape {tuple(batch.shape)} looks channel last; use "
            "batch.permute(0, 3, 1, 2)",
            stacklevel=3,
        )
    check_sides(tuple(batch.shape), tuple(batch.shape))
    if batch.device.type == "cpu":
        check_values(
            batch.detach().numpy(),
            str(batch.dtype).removeprefix("torch."),
            data_range,
            None if mask is None else mask.numpy(),
            solver_options,
        )
    if mask is not None:
        with without_autocast(batch.device):
            return complete_unrolled(batch, mask, solver_options, data_range, cut_width)
    indices = count_up(first_index, len(batch))
    total = torch.zeros_like(batch)
    for stream in range(solver_options.n_masks):
        drawn = masks_on(
            batch,
            indices,
            anchor_fraction=solver_options.anchor_fraction,
            seed=seed,
            stream=stream,
            channels=solver_options.channels,
        )
        anchors = drawn.expand(batch.shape)
        with without_autocast(batch.device):
            part = complete_unrolled(batch, anchors, solver_options, data_range, cut_width)
        total = total + part
    return total / solver_options.n_masks


def _from_means(
    batch: Tensor,
    mask: Tensor | None,
    options: SolverOptions,
    seed: int,
    first_index: int,
    data_range: float,
    gradient: str,
    backend: str,
    threads: int | None,
) -> Tensor:
    """Complete pass by pass, each from a mean: autograd goes through all of them."""
    indices = count_up(first_index, len(batch))

    def draw(stream: int) -> Tensor:
        if mask is not None:
            return mask
        drawn = masks_on(
            batch,
            indices,
            anchor_fraction=options.anchor_fraction,
            seed=seed,
            stream=stream,
            channels=options.channels,
        )
        return drawn.expand(batch.shape)

    def single(images: Tensor, anchors: Tensor, how: SolverOptions, _: int) -> Tensor:
        return _complete(images, anchors, how, 0, 0, data_range, gradient, backend, threads)

    return complete_from_means(batch, options, draw, single, torch.where)


def _find_backend(name: str, device: str) -> Backend | None:
    """Return the back end that completes and differentiates; None where torch does."""
    if name == "auto":
        known = backend_info()
        for candidate in gradient_backends():
            if known[candidate].available and device in known[candidate].devices:
                return get_backend(candidate, device)
        return None
    return None if name == "torch" else get_backend(name, device)


class _Native(torch.autograd.Function):
    """A back end's solver, and its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        batch: Tensor,
        mask: Tensor | None,
        backend: Backend,
        options: SolverOptions,
        data_range: float,
        others: dict[str, int],
        cut_width: float,
    ) -> Tensor:
        """Complete, and keep the images alone."""
        ctx.save_for_backward(batch, mask)
        ctx.backend, ctx.options, ctx.data_range = backend, options, data_range
        ctx.others, ctx.cut_width, ctx.owner = others, cut_width, "SPLIC"
        known: dict[str, Any] = {"backend": backend.name, "options": options, **others}
        completed: Tensor = complete(batch.detach(), mask, data_range=data_range, **known)
        return completed

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, saved: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Complete again, and go back."""
        batch, mask = saved
        images = batch.detach().numpy()
        gradient, dtype = np.empty(images.shape, images.dtype), str(images.dtype)
        if gradient.size > 0:
            problem = Problem.of(
                images,
                dtype,
                ctx.options,
                nearest_range(ctx.data_range, dtype),
                target=gradient,
                mask=None if mask is None else mask.numpy(),
                **ctx.others,
            )
            cotangent = grads[0].numpy().astype(images.dtype, copy=False)
            ctx.backend.differentiate(problem, cotangent, ctx.cut_width)
        return torch.from_numpy(gradient), *[None] * 6


def _check_batch(batch: Any) -> None:
    if not isinstance(batch, Tensor):
        raise TypeError(
            f"`batch` must be a torch tensor, got {type(batch).__name__}; "
            "convert it with torch.as_tensor()"
        )
    if batch.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"`batch` must be of float32 or float64 to be differentiated, got {batch.dtype}; "
            "convert it with `batch.float()`"
        )
    if batch.ndim != 4:
        raise ShapeError(
            f"`batch` must have shape (N, C, H, W), got {tuple(batch.shape)}; "
            "add an axis with `batch[None]` to a single image",
            tuple(batch.shape),
            "(N, C, H, W)",
        )


def _check_mask(mask: Any, batch: Tensor, options: SolverOptions) -> Tensor:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(
            f"`mask` must be a torch tensor of bool (True = anchor pixel, kept), got {kind}; "
            "convert it with `torch.as_tensor(mask) > 0`"
        )
    check_single(options)
    shape = tuple(batch.shape)
    if mask.ndim != 4 or tuple(mask.shape) not in (shape, (shape[0], 1, *shape[2:])):
        raise ShapeError(
            f"`mask` must have shape {shape}, or one channel, got {tuple(mask.shape)}; reshape it",
            tuple(mask.shape),
            str(shape),
        )
    check_mask_place(str(mask.device), str(batch.device))
    return mask.expand(batch.shape)


# The same as operators of torch, for graphs

_FIELDS = tuple(field.name for field in fields(SolverOptions))


def _written(options: SolverOptions | str | None) -> str:
    """Return options as a text; torch.compile looks into this, so that it is plain."""
    if options is None or isinstance(options, str):
        return options or "paper"
    if not isinstance(options, SolverOptions):
        resolve_options(options)
    return "(" + ", ".join([f"{getattr(options, name)!r}" for name in _FIELDS]) + ")"


def _read(options: str) -> SolverOptions:
    if not options.startswith("("):
        return resolve_options(options)
    return SolverOptions(**dict(zip(_FIELDS, ast.literal_eval(options), strict=True)))


def _kernel(
    batch: Tensor, mask: Any, options: str, seed: int, first_index: int, *others: Any
) -> Tensor:
    places = unsigned(seed), unsigned(first_index)
    with torch.no_grad():
        return _complete(batch, mask, _read(options), *places, *others).contiguous()


def _kernel_back(
    cotangent: Tensor,
    batch: Tensor,
    mask: Any,
    options: str,
    seed: int,
    first_index: int,
    *others: Any,
) -> Tensor:
    places = unsigned(seed), unsigned(first_index)
    batch = batch.detach().requires_grad_()
    with shown("AutogradFunctionality"), torch.enable_grad():
        completed = _complete(batch, mask, _read(options), *places, *others)
        (found,) = torch.autograd.grad(completed, batch, cotangent)
    return found.contiguous()


_OPERANDS = (
    "Tensor batch, Tensor? mask, str options, SymInt seed, SymInt first_index, float data_range, "
    "str gradient, str backend, SymInt? threads"
)
_completed = define(f"complete({_OPERANDS}) -> Tensor", _kernel, contiguous_like)
_pulled_back = define(
    f"complete_pull_back(Tensor cotangent, {_OPERANDS}) -> Tensor",
    _kernel_back,
    lambda cotangent, batch, *_: contiguous_like(batch),
)


class _PullBack(Formula):
    operator = _pulled_back

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _PullBack.below(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.exact, ctx.owner = True, "SPLIC"

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        refuse_second(ctx.owner)


class _Completed(_PullBack):
    operator = _completed

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _Completed.below(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        batch, mask, *ctx.others = inputs
        ctx.exact, ctx.owner = True, "SPLIC"
        ctx.save_for_backward(batch, mask)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return _pulled_back(cotangents[0], *ctx.saved_tensors, *ctx.others), *[None] * 8


for _formula in (_PullBack, _Completed):
    each(_formula.operator)
    differentiate(_formula)
