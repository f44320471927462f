"""What an evaluation found of one defence under one attack, as typed records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from splic_ext.evaluation.statistics import (
    Accuracy,
    all_draws_accuracy,
    majority_accuracy,
    mean_accuracy,
)
from splic_ext.runs.clock import Spent
from splic_ext.runs.plain import Counted
from splic_ext.runs.records import DatasetInfo, NetworkInfo, Provenance

__all__ = [
    "Perturbation",
    "Record",
    "Seconds",
    "worst_case",
]

#: The accuracies of a record.
ACCURACIES = ("mean", "all_draws", "majority")


@dataclass(frozen=True)
class Perturbation:
    """Sizes of adversarial perturbations, in units of [0, 1], over the images.

    Attributes
    ----------
    linf_max, linf_mean : float
        Largest and mean of the largest change of a pixel.
    l2_mean, l2_median : float
        Mean and median of the Euclidean norm.
    unchanged : int
        Images that came back as they were: attacks without a bound return those for which they
        found nothing.
    """

    linf_max: float
    linf_mean: float
    l2_mean: float
    l2_median: float
    unchanged: int


@dataclass(frozen=True)
class Seconds(Spent):
    """Where the time went.

    Attributes
    ----------
    attack : float
        Making adversarial images, with all that the attack computes.
    defense, network : float
        Defending and classifying finished images, all draws.
    rest : float
        The evaluation's own overhead.
    """

    attack: float = 0.0
    defense: float = 0.0
    network: float = 0.0
    rest: float = 0.0


@dataclass(frozen=True)
class Record(Counted):
    """One defence under one attack, or on clean images.

    Attributes
    ----------
    scenario : str
        "gray", "black" or "white"; "mixed" for the worst case over several.
    dataset : DatasetInfo
    model : NetworkInfo
        The network that is defended.
    surrogate : NetworkInfo or None
        The network that was attacked instead, in the black box.
    defense, defense_repr : str
        Its name in this evaluation, and all of its parameters.
    attack : str or None
        Its name in this evaluation; None on clean images.
    parameters : dict or None
        The attack with all of its parameters, as its ``to_dict`` gives them.
    threat : dict or None
        The threat model among them; None for an attack without bound.
    seed : int
        Of the evaluation.
    draws : int
        K, how often each image was defended and classified; 1 for a defence without randomness.
    mask_seeds : tuple of int
        The masks of draw k are those of ``seeded_masks(mask_seeds[k])`` with the position of an
        image in the data set as its index.
    right : tuple of int
        In how many draws each image is right.
    voted : tuple of bool
        Whether the vote of all draws is right for each image; a tie is wrong.
    perturbation : Perturbation or None
    seconds : Seconds
        Where records share adversarial images, each has the time of making them.
    provenance : Provenance

    Raises
    ------
    ValueError
        Counts or seeds that do not fit the number of images or draws.
    """

    scenario: str
    dataset: DatasetInfo
    model: NetworkInfo
    surrogate: NetworkInfo | None
    defense: str
    defense_repr: str
    attack: str | None
    parameters: dict[str, Any] | None
    threat: dict[str, Any] | None
    seed: int
    draws: int
    mask_seeds: tuple[int, ...]
    right: tuple[int, ...]
    voted: tuple[bool, ...]
    perturbation: Perturbation | None
    seconds: Seconds
    provenance: Provenance

    accuracies: ClassVar[dict[str, str]] = {name: name for name in ACCURACIES}

    def __post_init__(self) -> None:
        if not 1 <= self.draws == len(self.mask_seeds):
            raise ValueError(
                f"a record must have a draw at least and a mask seed for each, got {self.draws} "
                f"and {len(self.mask_seeds)}; take a record as it was made"
            )
        counts = (len(self.right), len(self.voted))
        if counts != (self.dataset.images,) * 2 or not all(
            0 <= count <= self.draws for count in self.right
        ):
            raise ValueError(
                f"a record must have a count in [0, {self.draws}] and a vote for each of its "
                f"{self.dataset.images} images, got {counts[0]} and {counts[1]}, the counts in "
                f"[{min(self.right, default=0)}, {max(self.right, default=0)}]; take a record as "
                "it was made"
            )
        sizes = () if self.perturbation is None else astuple(self.perturbation)
        if min(*sizes, self.seconds.total, 0) < 0:
            raise ValueError(
                f"a record must have no negative perturbation or seconds, got {sizes} and "
                f"{self.seconds.total!r}; take a record as it was made"
            )

    @property
    def mean(self) -> Accuracy:
        """Accuracy of a single draw; see :func:`~splic_ext.evaluation.mean_accuracy`."""
        return mean_accuracy(self.right, self.draws)

    @property
    def all_draws(self) -> Accuracy:
        """Share of images right in every draw."""
        return all_draws_accuracy(self.right, self.draws)

    @property
    def majority(self) -> Accuracy:
        """Accuracy of the vote of all draws."""
        return majority_accuracy(self.voted)


def worst_case(records: Sequence[Record], name: str = "worst case") -> Record:
    """Return what is left when an attacker takes the best of several attacks for each image.

    An image counts as right in as many draws as under the attack that leaves it the fewest. The
    attacker chooses by the very draws that are counted, so that with few draws the mean is an
    underestimate; it is never too high.

    Parameters
    ----------
    records : sequence of Record
        Of one defence of one network on the same images, with the same draws.
    name : str, default "worst case"
        What stands in `attack` of the result.

    Returns
    -------
    Record
        Its `parameters` list those of all attacks; it has no perturbation of its own.

    Raises
    ------
    ValueError
        No record, or records of different things.
    """
    if not records:
        raise ValueError("`records` must not be empty; give those of the attacks")
    first = records[0]
    for other in records[1:]:
        for part in ("dataset", "model", "defense_repr", "seed", "draws"):
            if getattr(other, part) != getattr(first, part):
                raise ValueError(
                    f"`records` must be of the same {part}, got {getattr(first, part)!r} and "
                    f"{getattr(other, part)!r}; select those that belong together"
                )
    same = all(other.scenario == first.scenario for other in records)
    return replace(
        first,
        scenario=first.scenario if same else "mixed",
        surrogate=first.surrogate if same else None,
        attack=name,
        parameters={"name": name, "attacks": [record.parameters for record in records]},
        threat=None,
        right=tuple(int(count) for count in np.min([record.right for record in records], axis=0)),
        voted=tuple(bool(vote) for vote in np.all([record.voted for record in records], axis=0)),
        perturbation=None,
        seconds=sum((record.seconds for record in records), Seconds()),
    )
