"""A greedy search for the few pixels that change the vote over ablated images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from splic_ext.certify.ablation_draws import (
    Draws,
    as_encoding,
    as_images,
    check_draws,
    check_index,
    check_trial,
)
from splic_ext.certify.ablation_masks import SEEDS, Kept
from splic_ext.common.checks import check_integer
from splic_ext.errors import ShapeError
from splic_ext.fills import Fill

__all__ = ["PixelAttack", "greedy_pixel_search"]

#: With so many channels at most, all corners of the colour cube are tried.
MOST_CHANNELS = 4


@dataclass(frozen=True)
class PixelAttack:
    """What a search found.

    Attributes
    ----------
    image : tensor of shape (C, H, W)
        With the changed pixels.
    changed : tuple of (int, int)
        Row and column of each, in the order of the search.
    margins : tuple of int
        Votes for the class less those for the strongest other one: at first, and after each
        change. Below 0 the vote has changed.
    """

    image: torch.Tensor
    changed: tuple[tuple[int, int], ...]
    margins: tuple[int, ...]

    @property
    def success(self) -> bool:
        """Whether another class has more votes in the draws of the search."""
        return self.margins[-1] < 0


def greedy_pixel_search(
    model: nn.Module,
    image: Any,
    label: int,
    *,
    pixels: int,
    kept: int | float = 0.1,
    encoding: Fill | str = "splic",
    draws: int = 100,
    lead: int = 0,
    seed: int = 0,
    first_index: int = 0,
    batch_size: int = 256,
) -> PixelAttack:
    """Change pixels one by one, each time the one that hurts a class most in the vote.

    All pixels that are not changed yet are tried with each corner of the colour cube, and scored
    by the draws in which they are visible, the only ones that can change. So a step costs about
    ``H * W * 2**C * draws * share kept`` classifications.

    The search knows the masks by which it scores. An answer of other draws may stay where it
    succeeds; it tests certificates from the other side, since it never beats a true one.

    Parameters
    ----------
    model, kept, encoding, seed, first_index, batch_size
        As for :func:`certify_pixels`.
    image : ndarray or tensor of shape (C, H, W), floating point
        In [0, 1], with 4 channels at most; on the device of the network.
    label : int
        The class to attack, at least 0.
    pixels : int
        Most pixels to change, in [1, H * W].
    draws : int, default 100
        Draws that score a change; more -> slower, and closer to the vote over all masks.
    lead : int, default 0
        Votes, in [0, draws), by which another class must be ahead before the search ends; more ->
        changes that hold for other draws as well.

    Returns
    -------
    PixelAttack
        Of as many changes as it took, `pixels` at most.

    Raises
    ------
    TypeError, ValueError
        As :func:`certify_pixels`; an image of more channels.

    Examples
    --------
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()
    >>> weight = torch.tensor([[1.0], [-1.0]]).expand(2, 16)
    >>> _ = network.load_state_dict({"1.weight": weight, "1.bias": torch.tensor([-8.0, 8.0])})
    >>> image = torch.full((1, 4, 4), 0.6)
    >>> attack = greedy_pixel_search(network, image, 0, pixels=9, kept=6, encoding="mean")
    >>> attack.success, len(attack.changed) > 1
    (True, True)
    """
    batch = as_images(image[None] if getattr(image, "ndim", 0) == 3 else image)
    if len(batch) != 1 or batch.shape[1] > MOST_CHANNELS:
        raise ShapeError(
            f"`image` must be one of shape (C, H, W) with C at most {MOST_CHANNELS}, got "
            f"{tuple(batch.shape)}; attack images one by one",
            tuple(batch.shape),
            "(C, H, W)",
        )
    channels, height, width = batch.shape[1:]
    label = check_integer("label", label, 0)
    pixels = check_integer("pixels", pixels, 1, height * width)
    plan = Kept.of(kept, height, width)
    work = Draws(
        model,
        as_encoding(encoding),
        plan,
        check_integer("seed", seed, 0, SEEDS - 1),
        check_integer("batch_size", batch_size, 1),
    )
    check_trial(work, batch, np.array([label]))
    index = check_index(first_index, 1)
    count = check_draws("draws", draws)
    search = _Search(work, batch[0].clone(), index, count, label)
    lead = check_integer("lead", lead, 0, count - 1)
    corners = torch.tensor(list(product((0.0, 1.0), repeat=channels))).to(batch)
    changed: list[tuple[int, int]] = []
    margins = [search.margin]
    while margins[-1] >= -lead and len(changed) < pixels:
        place = search.step(corners, changed)
        changed.append(place)
        margins.append(search.margin)
    return PixelAttack(search.image, tuple(changed), tuple(margins))


class _Search:
    """An image under attack, the masks that score it, and the votes so far."""

    def __init__(
        self,
        work: Draws,
        image: torch.Tensor,
        index: npt.NDArray[np.uint64],
        draws: int,
        label: int,
    ) -> None:
        self.work, self.image, self.label = work, image, label
        self._index, self._draws = index, np.arange(draws, dtype=np.uint64)
        masks = work.kept.masks(work.seed, index.repeat(draws), self._draws)
        self._visible = masks[:, 0]  # (draws, H, W)
        self._votes = work.predict(image[None], index, 0, draws)[0]

    @property
    def margin(self) -> int:
        """Votes for the class less those for the strongest other."""
        return _margin(self._votes, self.label)

    def step(self, corners: torch.Tensor, taken: list[tuple[int, int]]) -> tuple[int, int]:
        """Make the change that hurts most, and return where."""
        best: tuple[int, int, int, int, npt.NDArray[np.int64]] | None = None
        height, width = self._visible.shape[1:]
        free = [(y, x) for y in range(height) for x in range(width) if (y, x) not in taken]
        tries = [(y, x, corner) for y, x in free for corner in range(len(corners))]
        for (y, x, corner), votes in zip(tries, self._tried(tries, corners), strict=True):
            margin = _margin(votes, self.label)
            if best is None or margin < best[0]:
                best = margin, y, x, corner, votes
        assert best is not None  # there are fewer changes than pixels
        _, y, x, corner, self._votes = best
        self.image[:, y, x] = corners[corner]
        return y, x

    def _tried(
        self, tries: list[tuple[int, int, int]], corners: torch.Tensor
    ) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the votes after each change, of which batches of draws are classified together."""
        seen = [np.flatnonzero(self._visible[:, y, x]) for y, x, _ in tries]
        pairs = [(number, draw) for number, draws in enumerate(seen) for draw in draws]
        classes = np.empty(len(pairs), dtype=np.int64)
        for start in range(0, len(pairs), self.work.batch_size):
            part = pairs[start : start + self.work.batch_size]
            images = self.image.expand(len(part), *self.image.shape).clone()
            for image, (number, _) in zip(images, part, strict=True):
                y, x, corner = tries[number]
                image[:, y, x] = corners[corner]
            draws = np.array([draw for _, draw in part], dtype=np.uint64)
            with torch.no_grad():
                encoded = self.work.encoded(images, self._index.repeat(len(part)), draws)
                classes[start : start + len(part)] = self.work.classify(encoded)
        ends = np.cumsum([len(draws) for draws in seen])
        for seeing, found in zip(seen, np.split(classes, ends[:-1]), strict=True):
            votes = self._votes.copy()
            votes[seeing] = found
            yield votes


def _margin(votes: npt.NDArray[np.int64], label: int) -> int:
    counts = np.bincount(votes, minlength=label + 2)
    own = int(counts[label])
    counts[label] = 0
    return own - int(counts.max())
