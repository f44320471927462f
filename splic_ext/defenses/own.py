"""A plain module of torch as a defence."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from splic_ext.autograd.masks import image_indices
from splic_ext.common.checks import reason_of
from splic_ext.defenses.base import Defense, Index
from splic_ext.defenses.randomness import RandomDefense
from splic_ext.errors import ShapeError

__all__ = ["ModuleDefense", "check_result", "failed", "kept_generators", "seed_generators"]


class ModuleDefense(RandomDefense):
    """A plain ``torch.nn.Module``, from images to images, as a defence.

    Whether it is random is found in the first forward: one image is given to it again and again,
    and it is random if it draws from the generators of torch, NumPy or Python. A random one is
    called image by image, with all three seeded by the seed of the forward and the index of the
    image: so its draws can be repeated, held still and averaged over as those of
    :class:`RandomDefense`, from which a class should be derived if that is too slow.

    Parameters
    ----------
    module : nn.Module
        Images (N, C, H, W) in [0, 1], float32 or float64, to images of the same shape, dtype and
        device; an excess over [0, 1] is clipped. Each image by itself.
    seed : int, optional
        See :class:`RandomDefense`; without meaning where the module draws nothing.
    gradient : {"exact", "identity"}
        Autograd's derivative of the module, or BPDA. A module that has no derivative gets the
        identity, with a warning.

    Attributes
    ----------
    random : bool or None
        Whether it draws random numbers; None before the first forward.

    Raises
    ------
    TypeError, ValueError
        `module` is no module, or a :class:`Defense` already; in forward, a result of another kind,
        dtype, shape or device than the images, or draws that no seed repeats.

    Notes
    -----
    *Thread safety*: while a random module runs, the generators of the process are those of its
    image; they are put back afterwards. Use it in one thread at a time.

    Examples
    --------
    >>> defense = ModuleDefense(nn.AvgPool2d(3, stride=1, padding=1))
    >>> defense
    ModuleDefense(AvgPool2d(kernel_size=3, stride=1, padding=1), seed=None, gradient='exact')
    >>> images = torch.rand(2, 3, 8, 8)
    >>> defense(images).shape, defense.random
    (torch.Size([2, 3, 8, 8]), False)
    >>> dropped = ModuleDefense(nn.Dropout(0.1), seed=1)
    >>> torch.equal(dropped(images)[1:], dropped(images[1:], index=1)), dropped.random
    (True, True)
    """

    shown: ClassVar[tuple[str, ...]] = ("seed",)

    def __init__(self, module: nn.Module, seed: int | None = None, gradient: str = "exact") -> None:
        super().__init__(seed, gradient)
        if not isinstance(module, nn.Module) or isinstance(module, Defense):
            raise TypeError(
                f"`module` must be a plain torch.nn.Module, got {type(module).__name__}; pass a "
                "Defense as it is, and wrap a function in a module"
            )
        self.module = module
        self.random: bool | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({' '.join(repr(self.module).split())}, {self.extra_repr()})"

    @property
    def title(self) -> str:
        """Name of the class that does the work."""
        return type(self.module).__name__

    def draw(self) -> int:
        """Return the seed of one forward; always 0 where the module draws nothing."""
        return 0 if self.random is False else super().draw()

    def defend(self, images: torch.Tensor, index: Index) -> torch.Tensor:
        """Call the module, a random one for each image by itself."""
        if self.random is None:
            self.random = self._is_random(images[:1])
        if not self.random:
            return self._ask(images)
        seed, indices = self.draw(), image_indices(index, len(images))
        rows = []
        with kept_generators(images.device):
            for row, place in enumerate(indices):
                seed_generators(images.device, seed, int(place))
                rows.append(self._ask(images[row : row + 1]))
        return torch.cat(rows)

    @property
    def fresh(self) -> bool:
        """Whether each forward draws anew, as far as is known."""
        return self.random is not False and self.seed is None

    def _ask(self, images: torch.Tensor) -> torch.Tensor:
        result = self.module(images)
        check_result(self.title, result, images)
        checked: torch.Tensor = result
        return checked

    def _is_random(self, images: torch.Tensor) -> bool:
        """Say whether the module draws; refuse it if the same seeds give other results."""
        with torch.no_grad(), kept_generators(images.device):
            answers = []
            for _ in range(3):  # the first call may set something up
                seed_generators(images.device, 0, 0)
                before = _states(images.device)
                answers.append(self._ask(images))
                drawn = before != _states(images.device)
        slack = 0.0 if images.device.type == "cpu" else 1e-5
        if not torch.allclose(answers[1], answers[2], rtol=0.0, atol=slack, equal_nan=True):
            raise ValueError(
                f"the defence `{self.title}` must draw from the generators of torch, NumPy or "
                "Python, got other images after the same seeds: its results cannot be repeated; "
                "use torch.rand and the like without a generator of its own, or derive it from "
                "RandomDefense"
            )
        return drawn


def check_result(title: str, result: Any, images: torch.Tensor) -> None:
    """Raise unless a defence of one's own returned images of the kind that it got."""
    if not isinstance(result, torch.Tensor):
        raise TypeError(
            f"the defence `{title}` must return a tensor, got {type(result).__name__}; return the "
            "images alone"
        )
    shape, expected = tuple(result.shape), tuple(images.shape)
    if shape != expected:
        raise ShapeError(
            f"the defence `{title}` must return images of the shape that it got, {expected}, got "
            f"{shape}; resize or crop them back",
            shape,
            str(expected),
        )
    if result.dtype != images.dtype:
        raise TypeError(
            f"the defence `{title}` must return images of the dtype that it got, {images.dtype} in "
            f"[0, 1], got {result.dtype}; convert them back, bytes with `.to(images.dtype) / 255`"
        )
    if result.device != images.device:
        raise ValueError(
            f"the defence `{title}` must return images on the device that they came from, "
            f"{images.device}, got {result.device}; end with `.to(images.device)`"
        )


def failed(title: str, images: torch.Tensor, error: Exception) -> ValueError:
    """Return the error for a defence of one's own that raises one."""
    return ValueError(
        f"the defence `{title}` fails on images of shape {tuple(images.shape)}, {images.dtype}, on "
        f"{images.device}: {type(error).__name__}: {reason_of(error)}; mend it, and keep its "
        "tensors as parameters or buffers, which `.to(device)` moves"
    )


@contextmanager
def kept_generators(device: torch.device) -> Iterator[None]:
    """Put the generators of torch, NumPy and Python back afterwards."""
    ours, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002 - what modules use
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)  # noqa: NPY002


def seed_generators(device: torch.device, seed: int, index: int) -> None:
    """Seed all three generators for one image."""
    words = np.random.SeedSequence([seed, index]).generate_state(4)
    whole = int(words[0]) << 32 | int(words[1])
    torch.default_generator.manual_seed(whole)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(whole)
    np.random.seed(int(words[2]))  # noqa: NPY002
    random.seed(int(words[3]))


def _states(device: torch.device) -> tuple[Any, ...]:
    """Return the states of the generators, comparable by ``==``."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    numpys = (str(name), np.asarray(keys).tobytes(), *rest)
    return random.getstate(), numpys, *(bytes(state.tolist()) for state in states)
