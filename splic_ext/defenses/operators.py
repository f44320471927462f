"""Defences as operators of torch: what torch.compile, torch.export, vmap and torch.func see.

Eager code does not come here. In a graph, a defence that leaves torch is one opaque operator, whose
kernel calls the defence itself: the bits are the same. Its masks come from an operator of their
own, which draws when the graph runs: ``torch.manual_seed``, :func:`frozen_masks` and
:func:`seeded_masks` mean in a graph what they mean outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from splic_ext.checks import check_integer
from splic_ext.defenses.images import check_images
from splic_ext.defenses.lookup import find, mode_of, name_of, whose

__all__ = ["checked", "defended", "in_graph", "straight_through"]

_LIBRARY: Any = torch.library.Library(  # type: ignore[no-untyped-call]
    "splic_ext", "FRAGMENT"
)
_KERNELS = torch.ops.splic_ext


def _define(schema: str, kernel: Callable[..., Any], fake: Any, *tags: torch.Tag) -> Any:
    """Define an operator for all devices, and return it."""
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag, *tags))
    _LIBRARY.impl(name, kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"splic_ext::{name}", fake, lib=_LIBRARY)
    return getattr(_KERNELS, name).default


def _each(operator: Any) -> Callable[..., Any]:
    """Return the rule of an operator for vmap: one call for each."""

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> Any:
        rows = (
            [a if d is None else a.select(d, i) for a, d in zip(arguments, in_dims, strict=True)]
            for i in range(info.batch_size)
        )
        return torch.stack([operator(*row) for row in rows]), 0

    return rule


def _like(images: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(images, memory_format=torch.contiguous_format)


def _seed(seed: Tensor | None) -> int | None:
    return None if seed is None else int(seed.item()) % 2**64


def _index(index: Tensor | None, first: int) -> Any:
    return first % 2**64 if index is None else index


def _draw(like: Tensor, token: str, text: str) -> Tensor:
    seed = whose(token, text).draw()
    return torch.tensor(seed - 2**64 if seed >= 2**63 else seed, device="cpu")


def _draw_rule(info: Any, in_dims: tuple[Any, ...], like: Tensor, token: str, text: str) -> Any:
    """Draw for each of a vmap, or for all, as its `randomness` says."""
    if info.randomness == "error":
        raise RuntimeError(
            "a random defence without `seed` inside vmap needs to know whose masks to draw; call "
            "vmap with randomness='different' or 'same', or give the defence a `seed`"
        )
    rows = like.unbind(in_dims[0])
    if info.randomness == "same":
        return draw(rows[0], token, text), None
    return torch.stack([draw(row, token, text) for row in rows]), 0


draw = _define(
    "draw(Tensor like, str token, str text) -> Tensor",
    _draw,
    lambda like, token, text: torch.empty((), dtype=torch.int64, device="cpu"),
    torch.Tag.nondeterministic_seeded,
)
torch.library.register_vmap("splic_ext::draw", _draw_rule, lib=_LIBRARY)


def _defend(
    images: Tensor, seed: Tensor | None, index: Tensor | None, first: int, text: str
) -> Tensor:
    done = find(text).compute(images, _index(index, first), _seed(seed))
    return done.contiguous()


def _pull_back(
    cotangent: Tensor,
    images: Tensor,
    seed: Tensor | None,
    index: Tensor | None,
    first: int,
    text: str,
) -> Tensor:
    # Torch comes here with autograd shut off, and the derivative is asked of the defence anew.
    key: Any = torch._C.DispatchKey.AutogradFunctionality
    with torch._C._SetExcludeDispatchKeyGuard(key, False):
        found = find(text).pull_back(cotangent, images, _index(index, first), _seed(seed))
    return found.contiguous()


def _check(images: Tensor) -> Tensor:
    check_images(images)
    return images.clone(memory_format=torch.contiguous_format)


_OPERANDS = "Tensor images, Tensor? seed, Tensor? index, SymInt first, str text"
defend = _define(f"defend({_OPERANDS}) -> Tensor", _defend, _like)
pull_back = _define(
    f"pull_back(Tensor cotangent, {_OPERANDS}) -> Tensor",
    _pull_back,
    lambda cotangent, images, *_: _like(images),
)
check = _define("check(Tensor images) -> Tensor", _check, _like)
pass_back = _define(
    "pass_back(Tensor images, Tensor result) -> Tensor",
    lambda images, result: result.clone(memory_format=torch.contiguous_format),
    lambda images, result: _like(result),
)
for _operator in (defend, pull_back, check, pass_back):
    torch.library.register_vmap(_operator.name(), _each(_operator), lib=_LIBRARY)


# Derivatives: of functions for torch.compile and torch.func, of the operators for exported graphs


def _refuse(text: str) -> Any:
    raise RuntimeError(
        f"the gradient of `{name_of(text)}` cannot be differentiated again; leave out "
        "`create_graph`, or set gradient='identity'"
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    images, seed, index, ctx.first, ctx.text = inputs
    ctx.exact = mode_of(ctx.text) != "identity"
    ctx.save_for_backward(*(images, seed, index) if ctx.exact else ())


def _back(ctx: Any, cotangent: Tensor, function: Any = pull_back) -> tuple[Tensor | None, ...]:
    if ctx.exact:
        cotangent = function(cotangent, *ctx.saved_tensors, ctx.first, ctx.text)
    return cotangent, None, None, None, None


def _keep_text(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.text = inputs[-1]


torch.library.register_autograd(defend.name(), _back, setup_context=_keep, lib=_LIBRARY)
torch.library.register_autograd(
    pull_back.name(), lambda ctx, _: _refuse(ctx.text), setup_context=_keep_text, lib=_LIBRARY
)
torch.library.register_autograd(check.name(), lambda ctx, cotangent: cotangent, lib=_LIBRARY)
torch.library.register_autograd(
    pass_back.name(), lambda ctx, cotangent: (cotangent, None), lib=_LIBRARY
)


class _PullBack(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        cotangent: Any, images: Any, seed: Any, index: Any, first: int, text: str
    ) -> Any:  # (torch.compile does not take a forward of *arguments)
        return pull_back(cotangent, images, seed, index, first, text)

    setup_context = staticmethod(_keep_text)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return _refuse(ctx.text)


class _Defend(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(images: Any, seed: Any, index: Any, first: int, text: str) -> Any:
        return defend(images, seed, index, first, text)

    setup_context = staticmethod(_keep)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return _back(ctx, cotangents[0], _PullBack.apply)


class _Check(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor) -> Any:
        return check(images)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: the derivative is the identity."""

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return cotangents[0]


class _StraightThrough(torch.autograd.Function):
    """Return the second argument, with the derivative of the first."""

    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor, result: Tensor) -> Tensor:
        return result.view_as(result)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: the derivative is the identity."""

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return cotangents[0], None


# The same with derivatives forwards, which torch.compile refuses.


class _Forwards:
    @staticmethod
    def jvp(ctx: Any, tangent: Any, *_: Any) -> Any:
        if getattr(ctx, "exact", False):
            raise RuntimeError(
                f"`{name_of(ctx.text)}` has no derivative forwards, as by torch.func.jvp; "
                "use torch.func.vjp or grad, or set gradient='identity'"
            )
        return tangent.clone()


class _DefendForwards(_Forwards, _Defend):
    pass


class _CheckForwards(_Forwards, _Check):
    pass


class _StraightThroughForwards(_Forwards, _StraightThrough):
    pass


# What a defence calls


def in_graph() -> bool:
    """Say whether torch makes a graph, or transforms what is called."""
    return bool(
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
    )


def checked(images: Tensor) -> Tensor:
    """Return the images, whose values are checked when the graph runs."""
    return _call(check, _Check, _CheckForwards, images)


def straight_through(images: Tensor, result: Tensor) -> Tensor:
    """Return `result`, whose gradient goes to `images` unchanged (BPDA)."""
    return _call(pass_back, _StraightThrough, _StraightThroughForwards, images, result)


def defended(images: Tensor, index: Any, token: str | None, text: str) -> Tensor:
    """Return the defended images; with a token, the masks are drawn when the graph runs."""
    seed, first = None, 0
    if token is not None:
        seed = draw(_split(images), token, text)
    if index is not None and not isinstance(index, Tensor):
        first, index = check_integer("index", index, 0, 2**64 - 1), None
        first = first if first < 2**63 else first - 2**64
    return _call(defend, _Defend, _DefendForwards, images, seed, index, first, text)


def _call(operator: Any, function: Any, forwards: Any, *arguments: Any) -> Tensor:
    """Call the one of three forms that torch takes where it is."""
    if _exporting():
        done: Tensor = operator(*arguments)
    else:
        done = (function if torch.compiler.is_compiling() else forwards).apply(*arguments)
    return done


def _exporting() -> bool:
    if hasattr(torch.compiler, "is_exporting"):  # of torch 2.7
        return torch.compiler.is_exporting()
    return torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()


def _split(images: Tensor) -> Tensor:
    """Return a tensor that vmap splits where each part is to have masks of its own."""
    if torch.compiler.is_compiling() or not torch._C._are_functorch_transforms_active():
        return images
    return torch.randint(1, (), generator=torch.Generator())  # or torch's error, by `randomness`
