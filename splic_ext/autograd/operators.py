"""Operators of torch, which torch.compile, torch.export, vmap and torch.func take as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from splic_ext.common.checks import check_integer

__all__ = [
    "Formula",
    "contiguous_like",
    "define",
    "differentiate",
    "each",
    "in_graph",
    "set_vmap",
    "shown",
    "signed",
    "unsigned",
]

_LIBRARY: Any = torch.library.Library("splic_ext", "FRAGMENT")  # type: ignore[no-untyped-call]


def in_graph() -> bool:
    """Say whether torch makes a graph or transforms what is called: operators are needed."""
    return bool(
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or forward_ad._current_level >= 0
    )


def define(
    schema: str, kernel: Callable[..., Any], fake: Callable[..., Any], *tags: torch.Tag
) -> Any:
    """Define an operator for all devices, and return it; `fake` makes a result without values."""
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag, *tags))
    # Else torch.compile would look into the kernel, where it runs the graph in parts.
    disable: Any = torch._disable_dynamo  # type: ignore[attr-defined]
    _LIBRARY.impl(name, disable(kernel), "CompositeExplicitAutograd")
    torch.library.register_fake(f"splic_ext::{name}", fake, lib=_LIBRARY)
    return getattr(torch.ops.splic_ext, name).default


def signed(name: str, value: Any) -> int:
    """Return the integer of 64 bits with a sign that stands for one without in an operator."""
    number = isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool)
    if not (number and 0 <= value < 2**64):  # (the check makes a constant of a SymInt)
        value = check_integer(name, value, 0, 2**64 - 1)
    found: int = value if value < 2**63 else value - 2**64
    return found


def unsigned(value: int) -> int:
    """Return what was given to :func:`signed`."""
    return value % 2**64


def contiguous_like(images: Tensor, *_: Any) -> Tensor:
    """Return an empty tensor of that shape, dtype and device."""
    return torch.empty_like(images, memory_format=torch.contiguous_format)


def each(operator: Any) -> None:
    """Let vmap call an operator, whose result is like its first argument, once for each part."""

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> Any:
        if info.batch_size == 0:
            shape = list(arguments[0].shape)
            if in_dims[0] is not None:
                del shape[in_dims[0]]
            return arguments[0].new_empty([0, *shape]), 0
        rows = (
            [a if d is None else a.select(d, i) for a, d in zip(arguments, in_dims, strict=True)]
            for i in range(info.batch_size)
        )
        return torch.stack([operator(*row) for row in rows]), 0

    set_vmap(operator, rule)


def set_vmap(operator: Any, rule: Callable[..., Any]) -> None:
    """Give an operator a rule of :func:`torch.library.register_vmap`."""
    torch.library.register_vmap(operator.name(), rule, lib=_LIBRARY)


def shown(key: str) -> Any:
    """Show a key of torch's dispatcher again, which hides those above the one of a kernel."""
    return torch._C._SetExcludeDispatchKeyGuard(getattr(torch._C.DispatchKey, key), False)


class _Lowering:
    """A transform of torch.func, inside which those around it are seen from a kernel too."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._interpreter, name)

    @contextmanager
    def lower(self) -> Iterator[None]:
        with self._interpreter.lower(), shown("FuncTorchDynamicLayerFrontMode"):
            yield


class Formula(torch.autograd.Function):
    """The derivative of an operator, which a subclass names as `operator`.

    Where `setup_context` sets ``ctx.exact`` to False, it is the identity in the first argument.
    """

    operator: Any
    generate_vmap_rule = True

    @classmethod
    def below(cls, *arguments: Any) -> Any:
        """Call the operator, without a derivative."""
        with torch._C._AutoDispatchBelowAutograd():
            return cls.operator(*arguments)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        """Hand the tangent on, or refuse."""
        if ctx.exact:
            raise RuntimeError(
                f"`{ctx.owner}` has no derivative forwards, as by torch.func.jvp; use "
                "torch.func.vjp or grad, or set gradient='identity'"
            )
        return tangent.clone()


def differentiate(formula: type[Formula]) -> None:
    """Let autograd, torch.func and exported graphs differentiate an operator by a formula.

    That is what :func:`torch.library.register_autograd` does, which torch.func does not take.
    """
    from torch._functorch.autograd_function import custom_function_call_grad
    from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter

    def kernel(*arguments: Any) -> Any:
        if torch._C._are_functorch_transforms_active():
            current: Any = _Lowering(retrieve_current_functorch_interpreter())
            return custom_function_call_grad(current, formula, *arguments)
        return formula.apply(*arguments)  # type: ignore[no-untyped-call]

    _LIBRARY.impl(formula.operator.name().partition("::")[2], kernel, "Autograd")
