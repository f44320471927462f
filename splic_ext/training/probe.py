"""Before a training: whether the defence leaves in the images what tells their classes apart."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import adaptive_avg_pool2d

from splic_ext.defenses import Identity, seeded_masks
from splic_ext.runs.fingerprints import derive_seed
from splic_ext.training.batches import batch_bounds
from splic_ext.training.plan import Plan

__all__ = ["kernel_accuracy", "loss_note"]

#: Images that are looked at: of fewer nothing is said, of more some.
FEWEST, MOST = 200, 1000

#: Share of the accuracy above chance that the classifier must reach without the defence; below it,
#: as on colour photographs, it says nothing of what a network would reach.
ABLE = 0.5

#: Share of that accuracy above chance which a defence must leave.
LEFT = 0.6

#: The classifier sees images of at most so many pixels a side.
SIDE = 32


def loss_note(plan: Plan) -> str | None:
    """Return what there is to warn of, if the defence leaves little of what tells classes apart.

    A classifier of a second learns half of some training images, as they are and as the defence
    makes them, and is scored on the other half. That depends on the data, the defence and the seed
    of the training, and changes no state of torch.
    """
    data, count = plan.data, min(MOST, len(plan.data))
    if isinstance(plan.defense, Identity) or count < FEWEST:
        return None
    rows = np.random.default_rng(0).permutation(len(data))[:count]
    labels = data.labels[rows]
    chance = np.bincount(labels).max() / count
    plain = kernel_accuracy(_seen(plan, rows, defended=False), labels)
    if plain - chance < ABLE * (1 - chance):
        return None
    defended = kernel_accuracy(_seen(plan, rows, defended=True), labels)
    if defended - chance >= LEFT * (plain - chance):
        return None
    name = plan.options.defense
    if name == "identity":  # it was given as an object
        name = " ".join(repr(plan.defense).split())
    return (
        f"the defence {name!r} leaves little to learn of '{data.name}': on {count:,} of its images "
        f"a simple classifier is right on {100 * defended:.0f} % behind it, {100 * plain:.0f} % "
        f"without it and {100 * chance:.0f} % by guessing; use a milder one (of SPLIC the preset "
        "'recommended', or alternate=false), larger images, or the data set 'shapes'"
    )


def _seen(plan: Plan, rows: npt.NDArray[Any], *, defended: bool) -> npt.NDArray[np.float64]:
    """Return images as the classifier sees them, behind the defence or without it."""
    parts = []
    seed = derive_seed(plan.options.seed, "probe")
    devices = [plan.device] if plan.device.type == "cuda" else []
    with torch.no_grad(), seeded_masks(seed), torch.random.fork_rng(devices):
        for start, stop in pairwise(batch_bounds(len(rows), plan.options.batch_size)):
            images = torch.from_numpy(plan.data.images[rows[start:stop]]).to(plan.device)
            images = images.float() / 255
            if defended:
                images = plan.defense(images, index=start)
            sides = min(SIDE, images.shape[2]), min(SIDE, images.shape[3])
            parts.append(adaptive_avg_pool2d(images, sides).flatten(1).cpu().double().numpy())
    return np.concatenate(parts)


def kernel_accuracy(images: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> float:
    """Return the accuracy of kernel ridge regression that learns one half, on the other half.

    Each half in turn is learnt. `images` are rows of numbers; the kernel is Gaussian, as wide as
    the median distance of two images.

    >>> rng = np.random.default_rng(0)
    >>> labels = rng.integers(0, 2, 200)
    >>> images = rng.normal(0, 1, (200, 5)) + 5 * labels[:, None]
    >>> kernel_accuracy(images, labels), kernel_accuracy(0 * images, labels) < 0.6
    (1.0, True)
    """
    right = 0
    targets = np.eye(int(labels.max()) + 1)[labels]
    for learnt in (0, 1):
        own, other = images[learnt::2], images[1 - learnt :: 2]
        mean, centre = targets[learnt::2].mean(axis=0), images.mean(axis=0)
        own, other = own - centre, other - centre
        inner = _distances(own, own)
        width = max(float(np.median(inner)), np.finfo(float).tiny)
        kernel = np.exp(-inner / width)
        kernel[np.diag_indices_from(kernel)] += 0.01
        weights = np.linalg.solve(kernel, targets[learnt::2] - mean)
        scores = np.exp(-_distances(other, own) / width) @ weights + mean
        right += int((scores.argmax(axis=1) == labels[1 - learnt :: 2]).sum())
    return right / len(labels)


def _distances(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the squared distance of each row to each other one."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)
    found: npt.NDArray[np.float64] = np.maximum(squares - 2 * first @ second.T, 0.0)
    return found
