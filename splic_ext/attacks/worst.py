"""Several attacks, of which each image keeps the worst."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from splic_ext.attacks.base import Attack
from splic_ext.attacks.losses import Best, cross_entropy, measure
from splic_ext.attacks.streams import Streams
from splic_ext.attacks.target import Target
from splic_ext.common.checks import check_integer
from splic_ext.defenses import seeded_masks

__all__ = ["WorstCase"]


@dataclass(frozen=True, repr=False)
class WorstCase(Attack):
    """Runs several attacks and keeps for each image the result that the network is worst on.

    That is the one that is misclassified in most of `draws` fresh draws, the same for all
    results; of equal ones that with the largest mean cross-entropy.

    Parameters
    ----------
    threat : ThreatModel
        Its seed alone: each attack runs with one derived from it. Norm and epsilon become those
        of the attacks.
    attacks : list or tuple of Attack
        At least one; all of them bounded, with one norm and one epsilon.
    draws : int, default 20
        At least 1; a network without randomness is asked once.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range; attacks that cannot be compared.

    Examples
    --------
    >>> from torch import nn
    >>> from splic_ext.attacks import EOTPGD, ThreatModel
    >>> from splic_ext.defenses import USVT, Defended
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    >>> images, labels = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
    >>> threat = ThreatModel(steps=3)
    >>> both = [EOTPGD(threat, eot=2, gradient=gradient) for gradient in ("identity", "exact")]
    >>> WorstCase(attacks=both)(Defended(network, USVT()), images, labels).shape
    torch.Size([4, 3, 2, 2])
    """

    attacks: tuple[Attack, ...] = ()
    draws: int = 20

    name: ClassVar[str] = "worst-case"
    uses: ClassVar[tuple[str, ...]] = ("seed",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("draws", check_integer("draws", self.draws, 1))
        self._set("attacks", _attacks(self.attacks))
        first = self.attacks[0].threat
        for attack in self.attacks:
            threat = attack.threat
            if not attack.bounded or (threat.norm, threat.epsilon) != (first.norm, first.epsilon):
                raise ValueError(
                    "`attacks` must all be bounded by one norm and one epsilon, got "
                    f"{self.attacks[0]} and {attack}; the larger change would always be the worst"
                )
        self._set("threat", replace(self.threat, norm=first.norm, epsilon=first.epsilon))

    def perturb(self, target: Target, images: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Run all of them, and compare on the same masks."""
        best = Best(images)
        draws = target.draws(self.draws, images)
        for number, attack in enumerate(self.attacks):
            own = Streams(streams.derive("part", number), streams.indices)
            part = target.fresh()
            with seeded_masks(own.derive("masks")):
                result = attack.perturb(part, images, own)
            part.check()
            with seeded_masks(streams.derive("judge")):
                best.offer(result, *measure(target, result, cross_entropy, draws))
        return best.images

    def to_dict(self) -> dict[str, Any]:
        """Return the name and the parameters; the attacks as dicts."""
        return super().to_dict() | {"attacks": [attack.to_dict() for attack in self.attacks]}


def _attacks(given: Any) -> tuple[Attack, ...]:
    if not isinstance(given, (list, tuple)):
        raise TypeError(
            f"`attacks` must be a list or tuple of attacks, got {type(given).__name__}; "
            "put it in a list"
        )
    for attack in given:
        if not isinstance(attack, Attack):
            raise TypeError(
                f"`attacks` must hold attacks, got {type(attack).__name__}; "
                "make one with create_attack()"
            )
    if not given:
        raise ValueError("`attacks` must hold at least one attack, got none")
    return tuple(given)
