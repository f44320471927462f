"""Defences as operators of torch: what torch.compile, torch.export, vmap and torch.func see.

Eager code does not come here. In a graph, a defence that leaves torch is one opaque operator, whose
kernel calls the defence itself: the bits are the same. Its masks come from an operator of their
own, which draws when the graph runs: ``torch.manual_seed``, :func:`frozen_masks` and
:func:`seeded_masks` mean in a graph what they mean outside.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from splic_ext.autograd.guards import refuse_second
from splic_ext.autograd.operators import (
    Formula,
    contiguous_like,
    define,
    differentiate,
    each,
    set_vmap,
    shown,
    signed,
    unsigned,
)
from splic_ext.defenses.images import check_images
from splic_ext.defenses.lookup import find, mode_of, name_of, whose

__all__ = ["check", "defended", "pass_back", "train_mode", "warn_of_train_mode"]


# Masks


def _draw(like: Tensor, token: str, text: str) -> Tensor:
    seed = whose(token, text).draw()
    return torch.tensor(signed("seed", seed), device="cpu")


def _draw_rule(info: Any, in_dims: tuple[Any, ...], like: Tensor, token: str, text: str) -> Any:
    """Draw for each part of a vmap: `like` has parts where its `randomness` is "different"."""
    parts = [draw(part, token, text) for part in like.unbind(in_dims[0])]
    return torch.stack(parts) if parts else torch.empty(0, dtype=torch.int64), 0


draw = define(
    "draw(Tensor like, str token, str text) -> Tensor",
    _draw,
    lambda like, token, text: torch.empty((), dtype=torch.int64, device="cpu"),
    torch.Tag.nondeterministic_seeded,
)
set_vmap(draw, _draw_rule)


# Images


def _seed(seed: Tensor | None) -> int | None:
    return None if seed is None else unsigned(int(seed.item()))


def _index(index: Tensor | None, first: int) -> Any:
    return unsigned(first) if index is None else index


def _defend(
    images: Tensor, seed: Tensor | None, index: Tensor | None, first: int, text: str
) -> Tensor:
    done: Tensor = find(text)._compute(images, _index(index, first), _seed(seed))
    return done.contiguous()


def _pull_back(
    cotangent: Tensor,
    images: Tensor,
    seed: Tensor | None,
    index: Tensor | None,
    first: int,
    text: str,
) -> Tensor:
    with shown("AutogradFunctionality"):  # the derivative is asked of the defence anew
        found: Tensor = find(text)._pull_back(cotangent, images, _index(index, first), _seed(seed))
    return found.contiguous()


def warn_of_train_mode() -> None:
    """Warn of a network in train mode that is evaluated."""
    warnings.warn(
        "the network is in train mode under torch.no_grad(): dropout and batch statistics are at "
        "work; call `.eval()` before evaluating it",
        stacklevel=3,
    )


def _train_mode(images: Tensor) -> Tensor:
    warn_of_train_mode()
    return images.clone(memory_format=torch.contiguous_format)


def _check(images: Tensor) -> Tensor:
    check_images(images)
    return images.clone(memory_format=torch.contiguous_format)


_OPERANDS = "Tensor images, Tensor? seed, Tensor? index, SymInt first, str text"
defend = define(f"defend({_OPERANDS}) -> Tensor", _defend, contiguous_like)
pull_back = define(
    f"pull_back(Tensor cotangent, {_OPERANDS}) -> Tensor",
    _pull_back,
    lambda cotangent, images, *_: contiguous_like(images),
)
#: The images, whose values are checked when the graph runs.
check = define("check(Tensor images) -> Tensor", _check, contiguous_like)
#: The images, and a warning when the graph runs.
train_mode = define("train_mode(Tensor images) -> Tensor", _train_mode, contiguous_like)
#: The result, whose gradient goes to the images unchanged (BPDA).
pass_back = define(
    "pass_back(Tensor images, Tensor result) -> Tensor",
    lambda images, result: result.clone(memory_format=torch.contiguous_format),
    lambda images, result: contiguous_like(result),
)
for _operator in (defend, pull_back, check, train_mode, pass_back):
    each(_operator)


# Derivatives


class _PullBack(Formula):
    operator = pull_back

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _PullBack.below(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.exact, ctx.owner = True, name_of(inputs[-1])

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        refuse_second(ctx.owner)


class _Defend(Formula):
    operator = defend

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _Defend.below(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        images, seed, index, ctx.first, ctx.text = inputs
        ctx.exact, ctx.owner = mode_of(ctx.text) != "identity", name_of(ctx.text)
        ctx.save_for_backward(*(images, seed, index) if ctx.exact else ())

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        (found,) = cotangents
        if ctx.exact:
            found = pull_back(found, *ctx.saved_tensors, ctx.first, ctx.text)
        return found, None, None, None, None


class _Check(Formula):
    operator = check

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _Check.below(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.exact = False

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return cotangents[0]


class _TrainMode(_Check):
    operator = train_mode

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _TrainMode.below(*arguments)


class _PassBack(_Check):
    operator = pass_back

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _PassBack.below(*arguments)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return cotangents[0], None


for _formula in (_PullBack, _Defend, _Check, _TrainMode, _PassBack):
    differentiate(_formula)


def defended(images: Tensor, index: Any, token: str | None, text: str) -> Tensor:
    """Return the defended images; with a token, the masks are drawn when the graph runs."""
    seed, first = None, 0
    if token is not None:
        # A draw of no number: vmap gives parts to it, or an error, as its `randomness` says.
        like = torch.rand(0) if torch._C._are_functorch_transforms_active() else images
        seed = draw(like, token, text)
    if index is not None and not isinstance(index, Tensor):
        first, index = signed("index", index), None
    done: Tensor = defend(images, seed, index, first, text)
    return done
