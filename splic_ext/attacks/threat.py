"""What an attacker may do: how far, in which norm, in how many steps, from where."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from splic_ext.attacks.streams import Streams
from splic_ext.common.checks import check_bool, check_fields, check_integer, check_number

__all__ = ["NORMS", "ThreatModel"]

#: Norms of a perturbation.
NORMS = ("linf", "l2")


class _Unset:
    """Stands for a size that was not given."""

    def __repr__(self) -> str:
        return "that of the norm"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unset)

    def __hash__(self) -> int:
        return 0


_UNSET: Any = _Unset()


@dataclass(frozen=True)
class ThreatModel:
    """The ball that a perturbation stays in, and how an iterative attack moves in it.

    Parameters
    ----------
    norm : {"linf", "l2"}, default "linf"
        Largest change of a pixel value, or Euclidean length of the change of an image.
    epsilon : float, default 8/255
        Radius of the ball (>= 0), in units of [0, 1]; at most 1 for ``"linf"``. For ``"l2"`` there
        is no default: attacks that use a radius refuse a threat model without.
    steps : int, default 7
        Steps of an iterative attack, at least 1.
    step_size : float, default 2/255
        Length of a step (>= 0) in `norm`. For ``"l2"`` the default is ``2.5 * epsilon / steps``.
    restarts : int, default 1
        Runs, at least 1, of which the best is kept for each image.
    random_start : bool, default True
        Start anywhere in the ball; otherwise at the image.
    seed : int, default 0
        In [0, 2**64): decides the random starts and the masks that an attack sees.

    Raises
    ------
    TypeError, ValueError
        A value of the wrong kind, or out of its range; several restarts without a random start.

    Examples
    --------
    >>> ThreatModel(steps=40, step_size=1 / 255)
    ThreatModel(norm='linf', epsilon=8/255, steps=40, step_size=1/255, restarts=1, random_start=True, seed=0)
    >>> threat = ThreatModel("l2", epsilon=0.5, steps=10)
    >>> threat.step_size
    0.125
    >>> ThreatModel.from_dict(threat.to_dict()) == threat
    True
    """  # noqa: E501

    norm: str = "linf"
    epsilon: float = _UNSET
    steps: int = 7
    step_size: float = _UNSET
    restarts: int = 1
    random_start: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.norm, str) or self.norm not in NORMS:
            expected = ", ".join(map(repr, NORMS))
            raise ValueError(f"`norm` must be one of {expected}, got {self.norm!r}")
        linf = self.norm == "linf"
        if isinstance(self.epsilon, _Unset) and linf:
            _set(self, "epsilon", 8 / 255)
        if not isinstance(self.epsilon, _Unset):
            most = 1.0 if linf else math.inf
            _set(self, "epsilon", check_number("epsilon", self.epsilon, 0.0, most))
        for name in ("steps", "restarts"):
            _set(self, name, check_integer(name, getattr(self, name), 1))
        if isinstance(self.step_size, _Unset) and not isinstance(self.epsilon, _Unset):
            _set(self, "step_size", 2 / 255 if linf else 2.5 * self.epsilon / self.steps)
        if not isinstance(self.step_size, _Unset):
            _set(self, "step_size", check_number("step_size", self.step_size, 0.0))
        check_bool("random_start", self.random_start)
        _set(self, "seed", check_integer("seed", self.seed, 0, 2**64 - 1))
        if self.restarts > 1 and not self.random_start:
            raise ValueError(
                f"`restarts` must be 1 without a random start, got {self.restarts}: all runs would "
                "begin at the same point; set `random_start=True`"
            )

    def __repr__(self) -> str:
        shown = (f"{name}={readable(value)}" for name, value in self.to_dict().items())
        return f"{type(self).__name__}({', '.join(shown)})"

    def to_dict(self) -> dict[str, Any]:
        """Return all fields that have a value, of types that JSON knows."""
        return {k: v for k, v in asdict(self).items() if not isinstance(v, _Unset)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ThreatModel:
        """Return the threat model of these fields; the others have their defaults.

        Parameters
        ----------
        values : mapping of str to value
            As :meth:`to_dict` returns it.

        Raises
        ------
        TypeError, ValueError
            No mapping, an unknown field, or a value that the constructor refuses.
        """
        check_fields("a threat model", values, [field.name for field in fields(cls)])
        return cls(**values)

    def project(self, adversarial: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Return the nearest point of the ball around `images`, clipped to [0, 1].

        Parameters
        ----------
        adversarial, images : tensor of shape (N, C, H, W)
            `images` in [0, 1].

        Returns
        -------
        tensor
            Of the same shape.
        """
        require_radius(self)
        change = adversarial - images
        if self.norm == "linf":
            change = change.clamp(-self.epsilon, self.epsilon)
        else:
            change = change * (self.epsilon / lengths(change).clamp(min=1e-30)).clamp(max=1.0)
        return (images + change).clamp(0.0, 1.0)

    def direction(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the steepest direction of ascent, of length 1 in `norm` or 0.

        Parameters
        ----------
        gradient : tensor of shape (N, C, H, W)
            Any scale; an image without a gradient has the direction 0.

        Returns
        -------
        tensor
            Of the same shape: the sign, or the gradient divided by its length.
        """
        if self.norm == "linf":
            return gradient.sign()
        # By the largest entry first, whose square may be too small a number.
        largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
        scaled = gradient / torch.where(largest > 0, largest, 1.0)
        return scaled / lengths(scaled).clamp(min=1.0)

    def start(self, images: torch.Tensor, streams: Streams, restart: int = 0) -> torch.Tensor:
        """Return where a run begins: a point drawn evenly from the ball, or the images.

        Parameters
        ----------
        images : tensor of shape (N, C, H, W)
            In [0, 1].
        streams : Streams
            Random numbers of each image.
        restart : int, default 0
            Number of the run.

        Returns
        -------
        tensor
            Of the same shape, in the ball and in [0, 1].
        """
        if not self.random_start:
            return images
        require_radius(self)
        if self.norm == "linf":
            noise = 2 * streams.uniform(images, "start", restart) - 1
        else:
            normal = streams.normal(images, "start", restart)
            radius = streams.uniform(images[:, :1, :1, :1], "radius", restart)
            noise = normal / lengths(normal) * radius ** (1 / images[0].numel())
        return self.project(images + self.epsilon * noise, images)


def _set(instance: object, name: str, value: Any) -> None:
    object.__setattr__(instance, name, value)


def require_radius(threat: ThreatModel) -> None:
    """Refuse a threat model without a radius."""
    if isinstance(threat.epsilon, _Unset):
        raise ValueError(
            "`epsilon` must be given for the norm 'l2', got none; give the radius, such as "
            "epsilon=0.5"
        )


def lengths(images: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean length of each image, of shape (N, 1, 1, 1)."""
    norms: torch.Tensor = torch.linalg.vector_norm(images, dim=(1, 2, 3), keepdim=True)
    return norms


def readable(value: Any) -> str:
    """Return the repr of a parameter; fractions of 255 as such.

    >>> readable(8 / 255), readable(0.5), readable("l2")
    ('8/255', '0.5', "'l2'")
    """
    if isinstance(value, float) and 0 < value < 1 and len(repr(value)) > 6:
        numerator = round(value * 255)
        if numerator / 255 == value:
            return f"{numerator}/255"
    return repr(value)
