"""Checks of what a certificate rests on: a network and a fill that are functions, no more."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from splic_ext.certify.masks import MaskSet
from splic_ext.checks import check_labels
from splic_ext.defenses import Defense
from splic_ext.defenses.images import check_images
from splic_ext.evaluation.inputs import check_network
from splic_ext.fills import Fill

__all__ = ["check_classifier", "check_fill", "images_and_labels"]

#: Rows that a fill is tried on.
TRIED = 6


def check_classifier(model: Any, fill: Fill, images: torch.Tensor, largest: int) -> None:
    """Raise unless the network classifies filled images, the same in each call."""
    if isinstance(model, nn.Module) and any(isinstance(m, Defense) for m in model.modules()):
        raise ValueError(
            "`model` must be the network alone, got one that holds a defence, which may look "
            "beyond the mask; give what completes as `fill`"
        )
    whole = torch.ones(images.shape[2:], dtype=torch.bool, device=images.device)
    with torch.no_grad():
        shown = fill(images, whole)
    check_network("model", model, shown, np.array([largest]))


def check_fill(fill: Fill, images: torch.Tensor, masks: MaskSet) -> None:
    """Raise unless what a fill returns is decided by the visible pixels of each image alone.

    It is tried on a few images and pairs of masks: called twice; with other hidden pixels, in its
    own row and in those around it. :class:`Fill` erases hidden pixels before it calls
    :meth:`Fill.fill`; here they are left, so that a fill which looks at them is found.
    """
    count = min(TRIED, max(2, len(masks.pairs)))
    chosen = masks.pairs[np.linspace(0, len(masks.pairs) - 1, count).astype(np.int64)]
    visible = masks.visible[chosen[:, 0]] & masks.visible[chosen[:, 1]]
    mask = torch.from_numpy(visible)[:, None].to(images.device)
    one = images[:1].float() if images.dtype != torch.float64 else images[:1]
    rows = torch.where(mask, one, one.new_zeros(()))
    flipped = torch.where(mask, one, 1.0 - one.roll(1, 2))
    noise = torch.rand(rows.shape, generator=torch.Generator().manual_seed(0)).to(rows)
    noisy = torch.where(mask, one, noise)
    with torch.no_grad():
        first = _tried(fill, rows, mask)
        if not torch.equal(first, _tried(fill, rows, mask)):
            raise ValueError(
                f"`fill` must return the same in each call, got other values from {fill!r}: a "
                "certificate holds for a function of the visible pixels alone; take the "
                "randomness out"
            )
        for row in (0, count - 1):
            others = torch.where(mask, 1.0 - one, one.new_zeros(()))
            others[row] = rows[row]
            if not torch.equal(first[row], _tried(fill, others, mask)[row]):
                raise ValueError(
                    f"`fill` must fill each image by itself, got other values from {fill!r} after "
                    "the other images of the batch were changed: their masks show what is hidden "
                    "here; share nothing between rows"
                )
        for changed in (flipped, noisy):
            other = _tried(fill, changed, mask)
            if not torch.equal(first, other):
                row = int((first != other).flatten(1).any(dim=1).nonzero()[0])
                raise ValueError(
                    f"`fill` must not look at hidden pixels, got other values from {fill!r} after "
                    f"the pixels that {_named(masks, chosen[row])} hides were changed: then an "
                    "attacker who writes there decides the answer; use the visible pixels alone"
                )


def _tried(fill: Fill, rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return what a fill gives to hidden pixels, without the care that Fill takes of them."""
    return torch.where(mask, rows.new_zeros(()), fill._finish(rows, mask))


def _named(masks: MaskSet, pair: npt.NDArray[np.int64]) -> str:
    first, second = (int(i) for i in pair)
    return f"mask {first}" if first == second else f"masks {first} and {second}"


def images_and_labels(
    images: Any, labels: Any, device: torch.device
) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
    """Return images in [0, 1] on the device and their labels, or raise."""
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.ascontiguousarray(images))
    check_images(images)
    known = check_labels(labels, len(images))
    if len(known) and known.min() < 0:
        raise ValueError(
            f"`labels` must be at least 0, got {int(known.min())}; count the classes from 0"
        )
    return images.to(device), known
