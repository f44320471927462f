"""What an attack is: frozen parameters, and a way from images to adversarial ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from splic_ext.attacks.streams import Streams
from splic_ext.attacks.target import Target, checked
from splic_ext.attacks.threat import NORMS, ThreatModel, readable, require_radius
from splic_ext.autograd.masks import image_indices
from splic_ext.common.checks import check_integer
from splic_ext.defenses import Index, seeded_masks
from splic_ext.defenses.base import values_checked

__all__ = ["Attack"]

_INDICES = 2**63  # the integers of torch end there

_ALL = tuple(field.name for field in fields(ThreatModel))


@dataclass(frozen=True, repr=False)
class Attack:
    """Base class of the attacks: images to adversarial images, untargeted.

    A subclass is a frozen dataclass with a `name` and a method :meth:`perturb`. This class checks
    what comes in, prepares the random numbers, and raises an error where there was no gradient
    to follow.

    Parameters
    ----------
    threat : ThreatModel
        Fields that are not in `uses` are put back to their defaults.

    Attributes
    ----------
    name : str
        Of the class: what :func:`splic_ext.attacks.create_attack` calls it.
    uses : tuple of str
        Of the class: fields of `threat` that it uses.
    norms : tuple of str
        Of the class: norms that it knows.
    bounded : bool
        Of the class: the result stays within `epsilon`. Otherwise its change is made small.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.

    Notes
    -----
    *Thread safety*: immutable, hence safe to share. A network is attacked by one thread at a time.

    Examples
    --------
    >>> @dataclass(frozen=True, repr=False)
    ... class Noise(Attack):
    ...     name = "noise"
    ...     uses = ("norm", "epsilon", "seed")
    ...     def perturb(self, target, images, streams):
    ...         return self.threat.start(images, streams)
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    >>> images, labels = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 2])
    >>> changed = Noise()(network, images, labels)
    >>> bool((changed - images).abs().max() <= 8 / 255)
    True
    >>> Noise()
    Noise(norm='linf', epsilon=8/255, seed=0)
    """

    threat: ThreatModel = ThreatModel()

    name: ClassVar[str] = ""
    uses: ClassVar[tuple[str, ...]] = _ALL
    norms: ClassVar[tuple[str, ...]] = NORMS
    bounded: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.threat, ThreatModel):
            raise TypeError(
                f"`threat` must be a ThreatModel, got {type(self.threat).__name__}; "
                "use ThreatModel.from_dict for a dict"
            )
        if "epsilon" in self.uses:
            require_radius(self.threat)
        defaults = {name: getattr(ThreatModel(), name) for name in _ALL if name not in self.uses}
        self._set("threat", replace(self.threat, **defaults))

    def __repr__(self) -> str:
        shown = (f"{name}={readable(value)}" for name, value in self._parameters().items())
        return f"{type(self).__name__}({', '.join(shown)})"

    def __call__(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: Any,
        *,
        index: Index = None,
        seed: int | None = None,
    ) -> torch.Tensor:
        """Return adversarial images: :meth:`run`."""
        return self.run(model, images, labels, index=index, seed=seed)

    def run(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: Any,
        *,
        index: Index = None,
        seed: int | None = None,
    ) -> torch.Tensor:
        """Return adversarial images.

        They depend on the parameters of the attack and on the arguments alone: not on the state
        of any random generator, none of which is changed either.

        Parameters
        ----------
        model : nn.Module
            A network from images in [0, 1] to logits, or a
            :class:`~splic_ext.defenses.Defended` one; in eval mode.
        images : tensor of shape (N, C, H, W), float32 or float64
            In [0, 1], on the device of the network.
        labels : tensor of shape (N,), int64
            True classes, from 0 on. Integers of other sizes, devices and containers are converted.
        index : int or integer tensor of shape (N,), optional
            Index of the first image, or of each: decides their masks and random starts. Default:
            image i of the batch has index i. All below 2**63.
        seed : int, optional
            Instead of that of the threat model. In [0, 2**64).

        Returns
        -------
        tensor
            Shape, dtype and device of `images`; in [0, 1], and, of a `bounded` attack, in the
            ball, up to rounding.

        Raises
        ------
        TypeError, ValueError
            An argument of the wrong kind or shape, or out of its range; a network in train mode,
            or with a random defence that is not that of an outermost
            :class:`~splic_ext.defenses.Defended`.
        AttackError
            Gradients that are 0 for all images, or NaN.
        """
        classes = checked(model, images, labels)
        indices = image_indices(index, len(images))
        if (indices >= np.uint64(_INDICES)).any():
            raise ValueError(
                f"`index` of an attack must be below 2**63, got {indices.max()}; "
                "count images from 0"
            )
        seed = self.threat.seed if seed is None else check_integer("seed", seed, 0, 2**64 - 1)
        if len(images) == 0:
            return images.clone()
        streams = Streams(seed, indices)
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            _constant_weights(model),
            seeded_masks(streams.derive("masks")),
            values_checked(),
        ):
            target = Target(model, classes.clone(), indices)
            adversarial = self.perturb(target, images.detach().clamp(0.0, 1.0), streams)
            target.check()
        return adversarial.detach()

    def perturb(self, target: Target, images: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Return the adversarial images; to be implemented by a subclass.

        Parameters
        ----------
        target : Target
            Returns logits when it is called with images, and has their `labels`.
        images : tensor of shape (N, C, H, W)
            In [0, 1], N at least 1. Not to be changed in place.
        streams : Streams
            Random numbers.

        Returns
        -------
        tensor
            Of the same shape, dtype and device.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement the method `perturb`")

    def to_dict(self) -> dict[str, Any]:
        """Return the name and the parameters, of types that JSON knows.

        Returns
        -------
        dict
            What :func:`splic_ext.attacks.attack_from_dict` makes the attack of again.
        """
        return {"name": self.name, **self._parameters()}

    def _parameters(self) -> dict[str, Any]:
        own = (field.name for field in fields(self) if field.name != "threat")
        values = {name: getattr(self.threat, name) for name in self.uses}
        return values | {name: getattr(self, name) for name in own}

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


@contextmanager
def _constant_weights(model: nn.Module) -> Iterator[None]:
    """Ask for no gradients by the weights, of which foolbox would leave some behind.

    Copies stand in for those that were made in inference mode, which no derivative takes.
    """
    places: list[dict[str, Any]] = [
        place for m in model.modules() for place in (m._parameters, m._buffers)
    ]
    made = [
        (place, name, part)
        for place in places
        for name, part in place.items()
        if part is not None and part.is_inference()
    ]
    learned: list[torch.Tensor] = []
    try:
        for place, name, part in made:
            copied = part.detach().clone()
            place[name] = nn.Parameter(copied, False) if isinstance(part, nn.Parameter) else copied
        learned = [part for part in model.parameters() if part.requires_grad]
        for part in learned:
            part.requires_grad_(False)
        yield
    finally:
        for place, name, part in made:
            place[name] = part
        for part in learned:
            part.requires_grad_(True)
