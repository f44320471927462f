"""Checks of what a certificate rests on: a network and a fill that are functions, no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from splic_ext.certify.masks import MaskSet
from splic_ext.common.checks import check_labels, reason_of
from splic_ext.defenses import Defense
from splic_ext.defenses.images import check_images
from splic_ext.evaluation.inputs import check_network
from splic_ext.fills import Fill

__all__ = [
    "TRIED",
    "as_tensor",
    "check_classes",
    "check_classifier",
    "check_fill",
    "images_and_labels",
    "tried_masks",
]

#: Rows that a fill is tried on.
TRIED = 6


def check_classifier(
    model: Any,
    fill: Fill,
    images: torch.Tensor,
    labels: npt.NDArray[np.int64],
    parameter: str = "fill",
) -> None:
    """Raise unless the network classifies filled images, the same in each call.

    `parameter` is what messages call the fill, here and in :func:`check_fill`.
    """
    if isinstance(model, nn.Module) and any(isinstance(m, Defense) for m in model.modules()):
        raise ValueError(
            "`model` must be the network alone, got one that holds a defence, which may look "
            f"beyond the mask; give what completes as `{parameter}`"
        )
    whole = torch.ones(images.shape[2:], dtype=torch.bool, device=images.device)
    with torch.no_grad():
        shown = fill(images, whole)
    try:
        check_network("model", model, shown, labels)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:
        if not isinstance(model, nn.Module) or not _cannot_take(model, shown):
            raise
        raise ValueError(
            f"`model` must take images of {shown.shape[1]} channels, as the {parameter} {fill!r} "
            f"makes them, got the error: {reason_of(error)}; give a network that was made for it, "
            f"or another `{parameter}`"
        ) from error


def _cannot_take(model: nn.Module, images: torch.Tensor) -> bool:
    """Say whether the network itself refuses the images."""
    try:
        with torch.no_grad():
            model(images)
    except (RuntimeError, ValueError):
        return True
    return False


def check_fill(
    fill: Fill,
    images: torch.Tensor,
    mask: torch.Tensor,
    hiding: Sequence[str],
    parameter: str = "fill",
) -> None:
    """Raise unless what a fill returns is decided by the visible pixels of each image alone.

    The first image is tried with masks (M, 1, H, W), which `hiding` names: twice; with other hidden
    pixels, in its own row and in those around it. Not only the whole :class:`Fill` is: it erases
    hidden pixels before it calls :meth:`Fill.fill`, and here they are left, so that a fill which
    looks at them is found.
    """
    one = images[:1] if images.dtype == torch.float64 else images[:1].float()
    one = one.clamp(0.0, 1.0)
    rows = torch.where(mask, one, one.new_zeros(()))
    flipped = torch.where(mask, one, 1.0 - one.roll(1, 2))
    noise = torch.rand(rows.shape, generator=torch.Generator().manual_seed(0)).to(rows)
    noisy = torch.where(mask, one, noise)
    with torch.no_grad():
        for call in (fill, fill._finish):
            first = call(rows, mask)
            if not torch.equal(first, call(rows, mask)):
                raise ValueError(
                    f"`{parameter}` must return the same in each call, got other values from "
                    f"{fill!r}: a certificate holds for a function of the visible pixels alone; "
                    "take the randomness out"
                )
            for row in (0, len(mask) - 1):
                others = torch.where(mask, 1.0 - one, one.new_zeros(()))
                others[row] = rows[row]
                if not torch.equal(first[row], call(others, mask)[row]):
                    raise ValueError(
                        f"`{parameter}` must fill each image by itself, got other values from "
                        f"{fill!r} after the other images of the batch were changed: their masks "
                        "show what is hidden here; share nothing between rows"
                    )
            for changed in (flipped, noisy):
                other = call(changed, mask)
                if not torch.equal(first, other):
                    row = int((first != other).flatten(1).any(dim=1).nonzero()[0])
                    raise ValueError(
                        f"`{parameter}` must not look at hidden pixels, got other values from "
                        f"{fill!r} after the pixels that {hiding[row]} hides were changed: then "
                        "an attacker who writes there decides the answer; use the visible pixels "
                        "alone"
                    )


def tried_masks(masks: MaskSet, device: torch.device) -> tuple[torch.Tensor, list[str]]:
    """Return some pairs of masks as (M, 1, H, W) for :func:`check_fill`, and their names."""
    count = min(TRIED, max(2, len(masks.pairs)))
    chosen = masks.pairs[np.linspace(0, len(masks.pairs) - 1, count).astype(np.int64)]
    visible = masks.visible[chosen[:, 0]] & masks.visible[chosen[:, 1]]
    names = [f"mask {i}" if i == j else f"the pair of masks {i} and {j}" for i, j in chosen]
    return torch.from_numpy(visible)[:, None].to(device), names


def as_tensor(images: Any) -> torch.Tensor:
    """Return images of NumPy or torch as a tensor, or raise unless they are in [0, 1]."""
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.ascontiguousarray(images))
    check_images(images)
    tensor: torch.Tensor = images.detach()
    return tensor


def check_classes(labels: Any, count: int) -> npt.NDArray[np.int64]:
    """Return the labels of so many images, or raise unless each is a class."""
    known = check_labels(labels, count)
    if len(known) and known.min() < 0:
        raise ValueError(
            f"`labels` must not be negative, got {int(known.min())}; give each image a class"
        )
    return known


def images_and_labels(
    images: Any, labels: Any, device: torch.device
) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
    """Return images in [0, 1] on the device and their labels, or raise."""
    checked = as_tensor(images)
    return checked.to(device), check_classes(labels, len(checked))
