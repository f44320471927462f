"""Auto-PGD: projected gradient ascent that chooses its step sizes by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from splic_ext.attacks.adaptive import check_gradient, gradients_as
from splic_ext.attacks.base import Attack
from splic_ext.attacks.losses import (
    LOSSES,
    Best,
    Loss,
    check_loss,
    measure,
    measure_gradient,
)
from splic_ext.attacks.streams import Streams
from splic_ext.attacks.target import Target
from splic_ext.attacks.threat import ThreatModel
from splic_ext.checks import check_integer

__all__ = ["APGD", "checkpoints"]

#: Weight of the new step beside that of the last one (alpha of the paper).
MOMENTUM = 0.75
#: Share of the steps since the last checkpoint that must have raised the loss (rho).
RAISED = 0.75

_MOST = 2**31 - 1


@dataclass(frozen=True, repr=False)
class APGD(Attack):
    """Auto-PGD of Croce and Hein [1]_, with the loss averaged over draws.

    Steps begin with 2 epsilon. At checkpoints, which follow each other ever faster, an image
    halves its step and goes back to its best point if too few steps have raised its loss, or if
    neither step nor best loss have changed since the last checkpoint. Of all points of all runs
    the one with the largest mean loss over its draws is returned; one that was misclassified in
    all of them comes first. All images are attacked to the end.

    Parameters
    ----------
    threat : ThreatModel
        By default 100 steps in the L-inf ball of 8/255. Its step size is not used.
    eot : int, default 10
        Draws for each loss and gradient, at least 1; a network without randomness is asked once.
    gradient : str or None, default "identity"
        As in :class:`EOTPGD`.
    loss : {"ce", "dlr"}, default "ce"
        As in :class:`EOTPGD`.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range; in `run`: a defence that does not
        accept `gradient`.

    References
    ----------
    .. [1] F. Croce, M. Hein, "Reliable evaluation of adversarial robustness with an ensemble of
       diverse parameter-free attacks", ICML 2020, Algorithm 1.

    Examples
    --------
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    >>> images, labels = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
    >>> APGD(ThreatModel(steps=20), loss="dlr")(network, images, labels).shape
    torch.Size([4, 3, 2, 2])
    """

    threat: ThreatModel = ThreatModel(steps=100)
    eot: int = 10
    gradient: str | None = "identity"
    loss: str = "ce"

    name: ClassVar[str] = "apgd"
    uses: ClassVar[tuple[str, ...]] = (
        "norm",
        "epsilon",
        "steps",
        "restarts",
        "random_start",
        "seed",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("eot", check_integer("eot", self.eot, 1, _MOST))
        check_gradient(self.gradient)
        check_loss(self.loss)

    def perturb(self, target: Target, images: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Climb once for each restart, and remember the best point."""
        best, loss = Best(images), LOSSES[self.loss]
        draws = target.draws(self.eot, images)
        with gradients_as(target, self.gradient):
            for restart in range(self.threat.restarts):
                start = self.threat.start(images, streams, restart)
                self._climb(target, images, start, loss, draws, best)
        return best.images

    def _climb(
        self,
        target: Target,
        images: torch.Tensor,
        start: torch.Tensor,
        loss: Loss,
        draws: int,
        best: Best,
    ) -> None:
        threat = self.threat
        value, wrong, gradient = measure_gradient(target, start, loss, draws)
        best.offer(start, value, wrong == draws)

        previous = point = top = start
        top_value, top_gradient = value, gradient
        step = images.new_full((len(images), 1, 1, 1), 2 * threat.epsilon)
        raised = torch.zeros_like(value)
        checked_value, was_halved = top_value, torch.zeros_like(value, dtype=torch.bool)
        checked_at, marks = 0, checkpoints(threat.steps)

        for k in range(1, threat.steps + 1):
            ahead = threat.project(point + step * threat.direction(gradient), images)
            if k > 1:
                ahead = point + MOMENTUM * (ahead - point) + (1 - MOMENTUM) * (point - previous)
                ahead = threat.project(ahead, images)
            previous, point, last = point, ahead, value
            if k < threat.steps:
                value, wrong, gradient = measure_gradient(target, point, loss, draws)
            else:
                value, wrong = measure(target, point, loss, draws)
            best.offer(point, value, wrong == draws)

            raised = raised + (value > last)
            higher = value > top_value
            top = _where(higher, point, top)
            top_gradient = _where(higher, gradient, top_gradient)
            top_value = torch.where(higher, value, top_value)

            if k in marks:
                halve = (raised < RAISED * (k - checked_at)) | (
                    ~was_halved & (top_value == checked_value)
                )
                step = _where(halve, step / 2, step)
                point = _where(halve, top, point)
                gradient = _where(halve, top_gradient, gradient)
                value = torch.where(halve, top_value, value)
                checked_at, checked_value, was_halved = k, top_value, halve
                raised = torch.zeros_like(raised)


def checkpoints(steps: int) -> list[int]:
    """Return the steps after which step sizes are looked at.

    They are at 22 % of all, then at distances of 19, 16, ... %, at least 6 %, rounded up.

    Parameters
    ----------
    steps : int
        Number of steps, at least 1.

    Returns
    -------
    list of int
        Rising, each in [1, steps].

    Examples
    --------
    >>> checkpoints(100)
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    percent, distance, marks = 22, 22, []
    while percent <= 100:
        marks.append(-(-percent * steps // 100))
        distance = max(distance - 3, 6)
        percent += distance
    return sorted(set(marks))


def _where(condition: torch.Tensor, images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    return torch.where(condition[:, None, None, None], images, others)
