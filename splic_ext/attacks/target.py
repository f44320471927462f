"""The network under attack: checked once, asked many times, watched for dead gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from splic_ext.common.checks import check_labels
from splic_ext.defenses import Defended, Defense, RandomDefense
from splic_ext.defenses.base import check_images
from splic_ext.errors import AttackError
from splic_ext.runs.inputs import check_logits, unfit_weights

__all__ = ["Target", "Watch", "in_train_mode"]


class Watch:
    """Flags on the device of the images, so that an attack need not wait for them."""

    def __init__(self, device: torch.device) -> None:
        self.finite_logits, self.finite_gradient = torch.ones(2, dtype=torch.bool, device=device)
        self.nonzero, self.correct = torch.zeros(2, dtype=torch.bool, device=device)
        self.wanted = self.gradients = 0  # forward passes, and gradients that came back
        self.defense: tuple[str, str | None] | None = None

    def logits(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Note what the network said."""
        logits = logits.detach()
        self.finite_logits = self.finite_logits & logits.isfinite().all()
        self.correct = self.correct | (logits.argmax(dim=1) == labels).any()

    def gradient(self, gradient: torch.Tensor) -> torch.Tensor:
        """Note a gradient; return it with 0 for what is not finite."""
        self.gradients += 1
        self.finite_gradient = self.finite_gradient & gradient.isfinite().all()
        gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
        self.nonzero = self.nonzero | (gradient != 0).any()
        return gradient


class Target:
    """A network, the labels that it should give, and the masks that it draws.

    A :class:`Defended` network gets the indices of the images too.
    """

    def __init__(
        self, model: nn.Module, labels: torch.Tensor, indices: npt.NDArray[np.uint64]
    ) -> None:
        self.model = model
        self.labels = labels
        self._indices = indices
        self._largest = int(labels.max()) if len(labels) else 0
        self._watch = Watch(labels.device)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of versions of the images, in float32 or float64.

        Raises an AttackError where logits do not depend on images that want a gradient.
        """
        if self._watch.gradients == 1:  # once: each check waits for the device
            self._check_finite()
        wanted = images.requires_grad
        if wanted and self._watch.gradients == 0:
            self._watch.defense = self.defense  # in the mode of the attack, which ends before it
        self._watch.wanted += wanted
        if wanted:  # a tensor of its own: only what comes through the network passes it
            images = images.view_as(images)
            watch: Any = images.register_hook
            watch(self._watch.gradient)
        try:
            logits: torch.Tensor = self._ask(images)
        except RuntimeError as error:
            defended = _defended(self.model)
            network = self.model if defended is None else defended.model
            told = unfit_weights("model", network, images, error)
            if told is None:
                raise
            raise told from error
        self._check_logits(logits)
        if wanted and not logits.requires_grad:
            raise self.detached()
        self._watch.logits(logits, self.labels)
        return logits if logits.dtype == torch.float64 else logits.float()

    def select(self, rows: torch.Tensor) -> Target:
        """Return the target for the images at some positions, whose masks stay theirs."""
        part = Target(self.model, self.labels[rows], self._indices[rows.cpu().numpy()])
        part._watch = self._watch
        return part

    def fresh(self) -> Target:
        """Return the same target, with nothing noted of gradients yet."""
        return Target(self.model, self.labels, self._indices)

    def draws(self, eot: int, images: torch.Tensor) -> int:
        """Return how many forward passes to average: `eot`, or 1 if all would be the same."""
        return eot if eot > 1 and self.is_random(images) else 1

    def is_random(self, images: torch.Tensor | None) -> bool:
        """Say whether two forward passes differ; without images, by the library's defences."""
        for part in self.model.modules():
            if isinstance(part, RandomDefense) and part.draw() != part.draw():
                return True
        if images is None:
            return False
        with torch.no_grad():  # randomness that is not the library's shows up in the answers
            return not torch.equal(self(images), self(images))

    def check(self) -> None:
        """Raise an AttackError if an attack with these answers and gradients would be no attack.

        That is NaN or infinity; or gradients that never came back, or were all 0 although an image
        was classified correctly.
        """
        self._check_finite()
        watch = self._watch
        defense = watch.defense or self.defense
        if self.unreached:
            raise self.detached()
        if watch.gradients > 0 and bool(watch.correct & ~watch.nonzero):
            raise AttackError(
                f"the gradient through {defense[0]} was 0 for all images in all steps, so "
                "that nothing was attacked; use "
                f"{'another gradient mode, ' if defense[1] else ''}another loss, or an attack "
                "without gradients such as 'square'",
                *defense,
            )

    def _check_finite(self) -> None:
        defense = self._watch.defense or self.defense
        for what, finite in (
            ("logits", self._watch.finite_logits),
            ("gradient", self._watch.finite_gradient),
        ):
            if not finite:
                blame = ", and use another gradient mode if the defence is to blame"
                raise AttackError(
                    f"the {what} held NaN or infinity, through {defense[0]}; check the network"
                    f"{blame if defense[1] else ''}",
                    *defense,
                )

    @property
    def unreached(self) -> bool:
        """Whether gradients were wanted, and none came back to the images."""
        return self._watch.wanted > 0 and self._watch.gradients == 0

    def detached(self) -> AttackError:
        """Return the error that tells of logits that do not depend on the images."""
        defense = self._watch.defense or self.defense
        fix = "use a gradient mode that has a derivative" if defense[1] else "mend the network"
        return AttackError(
            f"no gradient reaches the images through {defense[0]}: the result is detached from "
            f"them; {fix}, or use an attack without gradients such as 'square'",
            *defense,
        )

    def _ask(self, images: torch.Tensor) -> Any:
        if _defended(self.model) is None:
            return self.model(images)
        first = int(self._indices[0])
        counted = np.arange(len(self._indices), dtype=np.uint64) + self._indices[0]
        if np.array_equal(self._indices, counted):  # saves a copy to the host in each forward
            return self.model(images, index=first)
        return self.model(images, index=torch.from_numpy(self._indices.astype(np.int64)))

    def _check_logits(self, logits: Any) -> None:
        if not isinstance(logits, torch.Tensor) or not logits.is_floating_point():
            kind = getattr(logits, "dtype", type(logits).__name__)
            raise TypeError(
                f"`model` must return logits as a floating-point tensor, got {kind}; wrap it in a "
                "module that does"
            )
        check_logits("model", logits, len(self.labels), self._largest, fewest=2)

    @property
    def defense(self) -> tuple[str, str | None]:
        """The defences in the network in words, and the gradient mode of the first."""
        parts = [part for part in self.model.modules() if isinstance(part, Defense)]
        words = [f"{type(part).__name__} with the gradient {part.gradient!r}" for part in parts]
        if not parts:
            return "the undefended network", None
        return ", ".join(words), parts[0].gradient


def _defended(model: nn.Module) -> Defended | None:
    """Return the outermost module if it is Defended, also where torch.compile wraps it."""
    model = getattr(model, "_orig_mod", model)
    return model if isinstance(model, Defended) else None


def in_train_mode(network: nn.Module) -> bool:
    """Say whether any part of a network is in train mode; defences may be in either.

    >>> network = nn.Sequential(nn.Flatten(), nn.Dropout()).eval()
    >>> in_train_mode(Defended(network, Defense())), in_train_mode(network.train())
    (False, True)
    """
    spared = {
        id(inner)
        for part in network.modules()
        if isinstance(part, Defense)
        for inner in part.modules()
    }
    return any(
        part.training and _defended(part) is None and id(part) not in spared
        for part in network.modules()
    )


def checked(model: Any, images: Any, labels: Any) -> torch.Tensor:
    """Return the labels, if the arguments of :meth:`splic_ext.attacks.Attack.run` can be used."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"`model` must be a torch.nn.Module, got {type(model).__name__}; wrap it in one"
        )
    if in_train_mode(model):
        raise ValueError(
            "`model` must be in eval mode: dropout and batch statistics would be at work; "
            "call `.eval()` first"
        )
    _check_random_defenses(model)
    check_images(images)
    if images.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"`images` of an attack must be of float32 or float64, got {images.dtype}; "
            "convert them with `images.float()`"
        )
    _check_dtype(model, images)
    place = next((part.device for part in model.parameters()), images.device)
    if place != images.device:
        raise ValueError(
            f"`images` must be on the device of the network, {place}, got {images.device}; "
            "move one of them"
        )
    found = torch.from_numpy(check_labels(labels, len(images)).copy())
    if len(found) > 0 and found.min() < 0:
        raise ValueError(f"`labels` must not be negative, got {int(found.min())}; leave such out")
    return found.to(images.device)


def _check_random_defenses(model: nn.Module) -> None:
    """Raise if no index reaches a random defence: masks would change with the batch."""
    defended = _defended(model)
    reached = [] if defended is None else list(defended.defense.modules())
    for part in model.modules():
        if isinstance(part, RandomDefense) and not any(part is other for other in reached):
            raise ValueError(
                f"`model` holds the random defence {type(part).__name__} where the index of an "
                "image does not reach it; make Defended(network, defense) the outermost module, "
                "with Compose for several defences"
            )


def _check_dtype(model: nn.Module, images: torch.Tensor) -> None:
    """Raise if the weights are all of the other of the two dtypes of images."""
    defended = _defended(model)
    network = model if defended is None else defended.model
    dtypes = {part.dtype for part in network.parameters() if part.is_floating_point()}
    if len(dtypes) == 1 and dtypes < {torch.float32, torch.float64} and images.dtype not in dtypes:
        (dtype,) = dtypes
        raise TypeError(
            f"`images` must be of the dtype of the network, {dtype}, got {images.dtype}; convert "
            f"them with `images.to({dtype})`"
        )
