"""An attack without a bound, whose result is moved back into the ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from splic_ext.attacks.base import Attack
from splic_ext.attacks.streams import Streams
from splic_ext.attacks.target import Target

__all__ = ["Within"]


@dataclass(frozen=True, repr=False)
class Within(Attack):
    """Runs an attack without a bound, and moves its result back into the ball.

    So an attack that makes its change small can be held against those that stay within epsilon.
    An image whose smallest change is larger comes out at the border, most often unfooled.

    Parameters
    ----------
    threat : ThreatModel
        Norm and epsilon of the ball, and the seed, which is that of the attack too.
    attack : Attack
        Without a bound, such as :class:`HopSkipJump`; its own norm says what it makes small.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind; an attack that is bounded.

    Examples
    --------
    >>> from torch import nn
    >>> from splic_ext.attacks import HopSkipJump, ThreatModel
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    >>> images, labels = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
    >>> walk = HopSkipJump(ThreatModel(norm="linf"), iterations=1)
    >>> changed = Within(attack=walk)(network, images, labels)
    >>> bool((changed - images).abs().max() <= 8 / 255 + 1e-6)
    True
    """

    attack: Attack | None = None

    name: ClassVar[str] = "within"
    uses: ClassVar[tuple[str, ...]] = ("norm", "epsilon", "seed")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._inner()

    def perturb(self, target: Target, images: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Run the attack, and project."""
        return self.threat.project(self._inner().perturb(target, images, streams), images)

    def to_dict(self) -> dict[str, Any]:
        """Return the name and the parameters; the attack as a dict."""
        return super().to_dict() | {"attack": self._inner().to_dict()}

    def _inner(self) -> Attack:
        given: Any = self.attack
        if not isinstance(given, Attack):
            raise TypeError(
                f"`attack` must be an attack, got {type(given).__name__}; "
                "make one with create_attack()"
            )
        if given.bounded:
            raise ValueError(
                f"`attack` must have no bound of its own, got {given}; it stays within its own "
                "ball: use it as it is"
            )
        return given
