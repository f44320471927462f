"""Square: a random search that asks for logits alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from splic_ext.attacks.base import Attack
from splic_ext.attacks.losses import margin, measure
from splic_ext.attacks.streams import Streams
from splic_ext.attacks.target import Target
from splic_ext.common.checks import check_integer, check_number
from splic_ext.defenses import seeded_masks

__all__ = ["Square"]

#: Queries, of 10,000, after which the area of the squares is halved.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
#: Squares drawn at a time.
CHUNK = 64


@dataclass(frozen=True, repr=False)
class Square(Attack):
    """Square attack [1]_ in the L-inf ball, with the loss averaged over draws.

    It begins with vertical stripes. Then it tries squares of ever smaller area at random places,
    whose pixels go to a face of the ball. A square that raises the margin of another class over
    the true one is kept. Each image has squares of its own, and all are attacked to the end. With
    several draws the margin of a square that is kept is measured anew: otherwise a lucky draw
    would stay the mark to beat.

    Parameters
    ----------
    threat : ThreatModel
        Epsilon and seed; the norm must be ``"linf"``.
    queries : int, default 5000
        Stripes and squares tried, at least 1. Each takes a forward pass for each draw; with
        several draws those that are kept take as many again.
    eot : int, default 10
        Draws of which the margin is averaged, at least 1; a network without randomness is asked
        once.
    area : float, default 0.8
        Share of the image that the first squares cover, in (0, 1].

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.

    References
    ----------
    .. [1] M. Andriushchenko, F. Croce, N. Flammarion, M. Hein, "Square attack: a query-efficient
       black-box adversarial attack via random search", ECCV 2020.

    Examples
    --------
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(48, 5)).eval()
    >>> images, labels = torch.rand(4, 3, 4, 4), torch.tensor([0, 1, 2, 3])
    >>> changed = Square(queries=50)(network, images, labels)
    >>> bool((changed - images).abs().max() <= 8 / 255 + 1e-6)
    True
    """

    # ART has a SquareAttack. It puts one square of one sign at one place into all images of the
    # batch, takes each batch through NumPy, and asks three times where once is enough.

    queries: int = 5000
    eot: int = 10
    area: float = 0.8

    name: ClassVar[str] = "square"
    uses: ClassVar[tuple[str, ...]] = ("norm", "epsilon", "seed")
    norms: ClassVar[tuple[str, ...]] = ("linf",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threat.norm != "linf":
            raise ValueError(
                f"`norm` must be 'linf' for the attack 'square', got {self.threat.norm!r}; "
                "use 'hopskipjump' for a black box in 'l2'"
            )
        for name in ("queries", "eot"):
            self._set(name, check_integer(name, getattr(self, name), 1))
        self._set("area", check_number("area", self.area, 0.0, 1.0, above=True))

    def perturb(self, target: Target, images: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Search at random."""
        draws = target.draws(self.eot, images)

        def value(part: Target, candidates: torch.Tensor, *number: int) -> torch.Tensor:
            with seeded_masks(streams.derive("query", *number)):
                return measure(part, candidates, margin, draws)[0]

        best, highest = images, value(target, images, 0, 0)
        for number in range(1, self.queries + 1):
            if number == 1:
                signs = 2 * (streams.uniform(images[:, :, :1], "stripes") < 0.5) - 1
                tried = (images + self.threat.epsilon * signs).clamp(0.0, 1.0)
            else:
                place = (number - 2) % CHUNK
                if place == 0:
                    corners, signs = _squares(images, streams, (number - 2) // CHUNK)
                side = side_of_square(self.area, number / self.queries, images)
                tried = _paint(
                    images, best, side, corners[place], self.threat.epsilon * signs[place]
                )
            values = value(target, tried, number, 0)
            kept = values > highest
            if draws > 1 and bool(kept.any()):
                rows = kept.nonzero()[:, 0]
                values[rows] = value(target.select(rows), tried[rows], number, 1)
            best = torch.where(kept[:, None, None, None], tried, best)
            highest = torch.where(kept, values, highest)
        return best


def side_of_square(area: float, progress: float, images: torch.Tensor) -> int:
    """Return the side of the squares in pixels, when this share of the queries is over.

    >>> images = torch.zeros(1, 3, 32, 32)
    >>> [side_of_square(0.8, progress, images) for progress in (0, 0.01, 0.1, 1)]
    [29, 14, 7, 1]
    """
    halvings = sum(progress * 10_000 > bound for bound in HALVINGS)
    height, width = map(int, images.shape[2:])
    side = round(math.sqrt(area / 2**halvings * height * width))
    return min(max(side, 1), height, width)


def _squares(
    images: torch.Tensor, streams: Streams, chunk: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return corners in [0, 1), (CHUNK, N, 2), and signs, (CHUNK, N, C), of the next squares."""
    count, channels = images.shape[:2]
    corners = streams.uniform(images.new_empty(count, CHUNK, 2), "corners", chunk)
    signs = streams.uniform(images.new_empty(count, CHUNK, channels), "signs", chunk)
    return corners.transpose(0, 1), (2 * (signs < 0.5) - 1).transpose(0, 1)


def _paint(
    images: torch.Tensor,
    best: torch.Tensor,
    side: int,
    corners: torch.Tensor,
    changes: torch.Tensor,
) -> torch.Tensor:
    """Return `best` with a square of `images` plus `changes`; minus, where that is no change."""
    inside = []
    for axis, length in enumerate(images.shape[2:]):
        first = (corners[:, axis, None] * (length - side + 1)).floor().clamp(max=length - side)
        pixels = torch.arange(length, device=images.device)
        inside.append((pixels >= first) & (pixels < first + side))
    window = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    changes = changes[:, :, None, None]
    painted = torch.where(window, (images + changes).clamp(0.0, 1.0), best)
    same = (painted == best).flatten(1).all(dim=1)[:, None, None, None]
    other = torch.where(window, (images - changes).clamp(0.0, 1.0), best)
    return torch.where(same, other, painted)
