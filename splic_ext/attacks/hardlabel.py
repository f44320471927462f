"""An attack that asks for the predicted class alone: HopSkipJump, by foolbox."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn import functional

from splic_ext.attacks.base import Attack
from splic_ext.attacks.bridge import load_foolbox, run_foolbox, seeded_torch
from splic_ext.attacks.streams import Streams
from splic_ext.attacks.target import Target
from splic_ext.attacks.threat import ThreatModel
from splic_ext.common.checks import check_integer
from splic_ext.defenses import seeded_masks
from splic_ext.errors import AttackError

__all__ = ["HopSkipJump"]


@dataclass(frozen=True, repr=False)
class HopSkipJump(Attack):
    """HopSkipJump [1]_: asks for the predicted class alone, and makes the change small.

    It walks along the border of the class, and needs answers that do not change: of a random
    defence it sees the majority of `eot` draws, whose masks are held still. Images that are
    misclassified already, or for which no start is found, are returned as they were.

    Parameters
    ----------
    threat : ThreatModel
        The norm that is made small, by default ``"l2"``, and the seed. It needs no epsilon.
    iterations : int, default 64
        At least 1. Iteration t asks about ``initial_queries * sqrt(t)`` times: 64 of them are
        some 35,000 queries for each image, and 16 some 5,000.
    initial_queries : int, default 100
        Queries for the direction in the first iteration, at least 1.
    max_queries : int, default 10000
        Most queries for a direction, at least `initial_queries`. As many times the batch must fit
        into memory.
    start_draws : int, default 100
        Random images tried as a start, at least 1.
    eot : int, default 10
        Draws of which the majority is seen, at least 1; a network without randomness is asked
        once.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.
    MissingExtraError
        In `run`: foolbox is not installed.
    AttackError
        In `run`: the answers change from call to call.

    References
    ----------
    .. [1] J. Chen, M. Jordan, M. Wainwright, "HopSkipJumpAttack: a query-efficient decision-based
       attack", IEEE S&P 2020.

    Examples
    --------
    >>> from torch import nn
    >>> _ = torch.manual_seed(0)  # a network that can be fooled
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    >>> images = torch.rand(4, 3, 2, 2)
    >>> labels = network(images).argmax(1)
    >>> found = HopSkipJump(iterations=4)(network, images, labels)
    >>> bool((network(found).argmax(1) != labels).any())
    True
    """

    threat: ThreatModel = ThreatModel(norm="l2", epsilon=8 / 255, step_size=2 / 255)
    iterations: int = 64
    initial_queries: int = 100
    max_queries: int = 10000
    start_draws: int = 100
    eot: int = 10

    name: ClassVar[str] = "hopskipjump"
    uses: ClassVar[tuple[str, ...]] = ("norm", "seed")
    bounded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("iterations", "initial_queries", "start_draws", "eot"):
            self._set(name, check_integer(name, getattr(self, name), 1))
        queries = check_integer("max_queries", self.max_queries, self.initial_queries)
        self._set("max_queries", queries)

    def perturb(self, target: Target, images: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Find a start, then walk; leave out the images that need no attack or have no start."""
        attacks = load_foolbox(type(self).__name__).attacks
        starter = attacks.LinearSearchBlendedUniformNoiseAttack(
            directions=self.start_draws, steps=50
        )
        walker = attacks.HopSkipJumpAttack(
            steps=self.iterations,
            initial_gradient_eval_steps=self.initial_queries,
            max_gradient_eval_steps=self.max_queries,
            constraint=self.threat.norm,
        )
        _scale_each_image(walker)
        draws = target.draws(self.eot, images)
        seeds = [streams.derive("vote", draw) for draw in range(draws)]
        result = images.clone()
        with torch.no_grad(), seeded_torch(streams.derive("torch"), images.device):
            voters = _Voters(target, seeds)
            voters.check(images)
            rows = voters.right(images).nonzero()[:, 0]
            if len(rows) > 0:
                voters = voters.select(rows)
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message=r".*failed to draw sufficient random")
                    start = run_foolbox(starter, voters, images[rows], voters.labels)
                fooled = (~voters.right(start)).nonzero()[:, 0]
                rows, start, voters = rows[fooled], start[fooled], voters.select(fooled)
            if len(rows) > 0:
                try:
                    found = run_foolbox(
                        walker, voters, images[rows], voters.labels, starting_points=start
                    )
                except AssertionError:  # foolbox asserts that what was fooled still is
                    raise voters.unsteady() from None
                result[rows] = found.clamp(0.0, 1.0)
        return result


class _Voters:
    """How many draws, of masks that are held still, vote for each class."""

    def __init__(self, target: Target, seeds: list[int]) -> None:
        self.labels = target.labels
        self._target = target
        self._seeds = seeds

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        votes: Any = 0
        for seed in self._seeds:
            logits = self._logits(images, seed)
            votes = votes + functional.one_hot(logits.argmax(dim=1), logits.shape[1])
        counted: torch.Tensor = votes.to(images.dtype)
        return counted

    def right(self, images: torch.Tensor) -> torch.Tensor:
        """Return which images the majority classifies correctly."""
        return self(images).argmax(dim=1) == self.labels

    def select(self, rows: torch.Tensor) -> _Voters:
        """Return the voters on some of the images."""
        return _Voters(self._target.select(rows), self._seeds)

    def check(self, images: torch.Tensor) -> None:
        """Raise if there is randomness that holding masks still does not hold still."""
        first, second = (self._logits(images, self._seeds[0]) for _ in range(2))
        if not torch.allclose(first, second, rtol=1e-3, atol=1e-3, equal_nan=True):
            raise self.unsteady()

    def unsteady(self) -> AttackError:
        """Return the error that tells of answers that change."""
        return AttackError(
            "the answers of the network changed between two calls with equal images and masks, "
            "which 'hopskipjump' cannot do with; derive random defences from RandomDefense, or "
            "use 'square'",
            *self._target.defense,
        )

    def _logits(self, images: torch.Tensor, seed: int) -> torch.Tensor:
        with seeded_masks(seed):
            return self._target(images)


def _scale_each_image(attack: Any) -> None:
    """Make foolbox's HopSkipJump normalise the direction of each image, not of the batch."""
    estimate = attack.approximate_gradients

    def scaled(*arguments: Any) -> Any:
        directions = estimate(*arguments)
        raw = directions.raw
        length = torch.linalg.vector_norm(raw, dim=(1, 2, 3), keepdim=True)
        return type(directions)(raw / torch.where(length > 0, length, 1.0))

    attack.approximate_gradients = scaled
