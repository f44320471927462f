"""What a defence is: a torch module from images to images, with ways to differentiate it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeAlias

import torch
from torch import nn

from splic_ext.autograd.guards import refuse_tracing, without_autocast
from splic_ext.autograd.operators import in_graph
from splic_ext.defenses import lookup, operators
from splic_ext.defenses.images import RANGE_TOLERANCE, check_form, check_images, values_checked

__all__ = [
    "RANGE_TOLERANCE",
    "Defense",
    "Index",
    "check_images",
    "gradient_mode",
    "values_checked",
]

#: Which images a batch holds: the index of the first, an index for each, or None (from 0 on).
Index: TypeAlias = int | torch.Tensor | None


class Defense(nn.Module):
    """Base class of the defences: float images (N, C, H, W) in [0, 1] to the same.

    A subclass implements :meth:`defend`; this class checks what comes in, and takes care of
    the gradient, the range, the dtype and empty batches. Half-precision images are computed in
    float32, and autocast changes nothing.

    Parameters
    ----------
    gradient : {"exact", "identity"}
        ``"exact"``: the derivative of the defence, by autograd. ``"identity"``: backward passes
        the gradient through unchanged, as BPDA [1]_ does for a defence that is close to the
        identity; forward is the same. A defence accepts those listed in `gradients`.

    Attributes
    ----------
    gradient : str
        May be changed at any time to another value of `gradients`.
    gradients : tuple of str
        What the class accepts as `gradient`.
    leaves_torch : bool
        Whether the class computes with other libraries, which a trace does not see: then tracing
        is refused, and torch.compile and vmap take it as one operator. A subclass that does so
        sets it; random defences always have it, since a seed is an integer of Python.
    falls_back : bool
        Whether a result without a derivative gets the identity in its place, with a warning, as
        for random defences. Otherwise it stays detached, which attacks refuse.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.

    References
    ----------
    .. [1] A. Athalye, N. Carlini, D. Wagner, "Obfuscated gradients give a false sense of
       security", ICML 2018.

    Examples
    --------
    >>> class Invert(Defense):
    ...     def defend(self, images, index):
    ...         return 1 - images
    >>> images = torch.full((1, 1, 2, 2), 0.25, requires_grad=True)
    >>> Invert("identity")(images).sum().backward()
    >>> images.grad.unique()
    tensor([1.])
    """

    #: Accepted values of `gradient`.
    gradients: ClassVar[tuple[str, ...]] = ("exact", "identity")
    #: Why other values are not accepted.
    gradients_reason: ClassVar[str] = "choose one of these"
    #: Whether something is computed outside of torch, so that no trace is right.
    leaves_torch: ClassVar[bool] = False
    #: Whether the identity takes the place of a derivative that is not there.
    falls_back: ClassVar[bool] = False
    #: Whether it has done so, in an instance.
    underived = False
    #: Names of the attributes that the repr shows.
    shown: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        lookup.known_kind(cls)

    def __init__(self, gradient: str = "exact") -> None:
        super().__init__()
        self._token = lookup.register(self)
        self.gradient = gradient

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._token = lookup.register(self)
        self._text = lookup.describe(self, self._token)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "gradient" and not (isinstance(value, str) and value in self.gradients):
            expected = " or ".join(map(repr, self.gradients))
            raise ValueError(
                f"`gradient` must be {expected} for {type(self).__name__}, got {value!r}; "
                f"{self.gradients_reason}"
            )
        super().__setattr__(name, value)
        described = name == "gradient" or name in self.shown
        if self.leaves_torch and described and "_token" in self.__dict__:
            self._text = lookup.describe(self, self._token)

    def __prepare_scriptable__(self) -> Any:
        """Refuse: torch calls this before it compiles a module."""
        raise RuntimeError(
            f"`{type(self).__name__}` cannot be scripted by TorchScript; script the network alone, "
            "or trace it with a filter"
        )

    def extra_repr(self) -> str:
        """Return the parameters, as the constructor takes them."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in (*self.shown, "gradient"))

    def forward(self, images: torch.Tensor, index: Index = None) -> torch.Tensor:
        """Defend a batch of images.

        Parameters
        ----------
        images : tensor of shape (N, C, H, W), float16, bfloat16, float32 or float64
            In [0, 1], on any device; an excess of at most 1e-4 is clipped.
        index : int or integer tensor of shape (N,), optional
            Index of the first image, or of each: selects the masks of a random defence, and
            means nothing to others. Default: image i of the batch has index i.

        Returns
        -------
        tensor
            Shape, dtype and device of `images`, in [0, 1].

        Raises
        ------
        TypeError
            No tensor, or of another dtype; `index` of the wrong kind.
        ValueError
            NaN, infinity or values out of range; `index` out of range.
        ShapeError
            A `ValueError`: wrong number of axes, or no channel or pixel.
        RuntimeError
            While torch traces a defence that leaves torch.

        Warns
        -----
        UserWarning
            Images of shape (N, H, W, C), as far as one can tell: more channels than 4, and 3 or 4
            columns. Once for each defence: it has no derivative, and `falls_back`.
        """
        if self.leaves_torch:
            refuse_tracing(type(self).__name__)
        graph = in_graph()
        if graph:
            check_form(images)
            if self.leaves_torch:
                return operators.defended(
                    images, index, self._token if self._draws() else None, self._text
                )
            images = operators.check(images)
        else:
            check_images(images)
        with without_autocast(images.device):
            if self.gradient == "identity":
                with torch.no_grad():
                    result = self._run(images, index)
                return operators.pass_back(images, result) if graph else _straight(images, result)
            return self._run(images, index) if graph else self._differentiated(images, index)

    def defend(self, images: torch.Tensor, index: Index) -> torch.Tensor:
        """Return the defended images; to be implemented by a subclass.

        Parameters
        ----------
        images : tensor of shape (N, C, H, W), float32 or float64
            In [0, 1], N at least 1. Not to be changed in place.
        index : int, tensor or None
            As in :meth:`forward`.

        Returns
        -------
        tensor
            Of the same shape and device; it is clipped to [0, 1] and converted afterwards.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement the method `defend`")

    def _compute(self, images: torch.Tensor, index: Index, seed: int | None) -> torch.Tensor:
        """Return the defended images, detached, with masks of that seed where they are random.

        For the kernels of :mod:`splic_ext.defenses.operators`.
        """
        check_images(images)
        with torch.no_grad(), without_autocast(images.device):
            return self._run(images, index)

    def _pull_back(
        self, cotangent: torch.Tensor, images: torch.Tensor, index: Index, seed: int | None
    ) -> torch.Tensor:
        """Return the product of `cotangent` and the derivative; see :meth:`_compute`."""
        images = images.detach().requires_grad_()
        with torch.enable_grad(), without_autocast(images.device):
            result = self._differentiated(images, index)
        (found,) = torch.autograd.grad(result, images, cotangent)
        return found

    def _draws(self) -> bool:
        """Say whether each forward draws masks; refuse parts that do: no graph repeats them."""
        for part in self.modules():
            if isinstance(part, Defense) and part is not self and part._draws():
                raise RuntimeError(
                    f"`{type(self).__name__}` leaves torch and holds the random defence "
                    f"`{type(part).__name__}`, whose masks a graph cannot repeat; derive it from "
                    "RandomDefense, or give the part a `seed`"
                )
        return False

    def _differentiated(self, images: torch.Tensor, index: Index) -> torch.Tensor:
        """Return the result, with the identity for a derivative that is not there if need be."""
        wanted = torch.is_grad_enabled() and images.requires_grad
        try:
            result = self._run(images, index)
        except (RuntimeError, TypeError, BufferError) as error:
            if not wanted or not re.search("requires? grad", str(error)):
                raise
            with torch.no_grad():  # it leaves torch, as only tensors without a gradient can
                result = self._run(images, index)
        if not wanted or result.requires_grad or not self.falls_back:
            return result
        if not self.underived:
            self.underived = True
            warnings.warn(
                f"{type(self).__name__} has no derivative, though its `gradient` is "
                f"{self.gradient!r}: its result is detached from the images. The identity (BPDA) "
                "takes its place, so that attacks by gradients are weak, and accuracies under them "
                "are upper bounds; compute in torch, or set `gradient='identity'` if that is meant",
                stacklevel=3,
            )
        return _straight(images, result)

    def _run(self, images: torch.Tensor, index: Index) -> torch.Tensor:
        if images.shape[0] == 0:  # len() would make the size a constant of an exported graph
            return images.clone()
        work = images if images.dtype == torch.float64 else images.float()
        result = self.defend(work.clamp(0.0, 1.0), index)
        return result.clamp(0.0, 1.0).to(images.dtype)


@contextmanager
def gradient_mode(module: nn.Module, mode: str) -> Iterator[None]:
    """Differentiate all defences in a module in one way, for a while.

    Parameters
    ----------
    module : nn.Module
        A defence, a :class:`Defended` network, or any module that holds some.
    mode : str
        A value of :class:`Defense`'s `gradient`; :class:`Compose` passes it on to its parts.
        ``"surrogate"`` is ``"exact"`` for a defence that has no need of one.

    Raises
    ------
    ValueError
        A defence does not accept the mode.

    Notes
    -----
    *Thread safety*: the modes are those of the defences, for all threads. Use a module in one
    thread at a time meanwhile.

    Examples
    --------
    >>> from splic_ext.defenses import GaussianBlur
    >>> blur = GaussianBlur()
    >>> with gradient_mode(blur, "identity"):
    ...     print(blur.gradient)
    identity
    >>> blur.gradient
    'exact'
    """
    defenses = [part for part in module.modules() if isinstance(part, Defense)]
    before = [part.gradient for part in defenses]
    try:
        for part in defenses:
            known = part.gradients
            if "parts" in known:
                part.gradient = "parts"
            else:
                part.gradient = "exact" if mode == "surrogate" and mode not in known else mode
        yield
    finally:
        for part, gradient in zip(defenses, before, strict=True):
            part.gradient = gradient


class _StraightThrough(torch.autograd.Function):
    """Return the second argument, with the derivative of the first: a quick `pass_back`."""

    @staticmethod
    def forward(images: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
        return result.view_as(result)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: the derivative is the identity."""

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None


def _straight(images: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
    apply: Any = _StraightThrough.apply
    passed: torch.Tensor = apply(images, result)
    return passed
