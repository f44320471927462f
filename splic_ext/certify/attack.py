"""A patch attack through masks and fill, to try what certificates promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from splic_ext.certify.answers import Asker
from splic_ext.certify.guards import images_and_labels
from splic_ext.certify.masks import Box
from splic_ext.certify.vote import MaskedVote
from splic_ext.common.checks import check_integer, check_number
from splic_ext.defenses.images import values_checked
from splic_ext.runs.fingerprints import derive_seed
from splic_ext.runs.inputs import network_device

__all__ = ["PatchAttackResult", "attack_patches"]


@dataclass(frozen=True, eq=False)
class PatchAttackResult:
    """What an attack on one image found.

    Attributes
    ----------
    turned : bool
        Whether a patch turned the answer of the vote away from the label.
    tried : int
        Patches that were optimised: places times restarts.
    answers : tuple of int
        The answer of the vote to each.
    image : tensor of shape (C, H, W)
        The first image that turned the vote, else the last one tried.
    """

    turned: bool
    tried: int
    answers: tuple[int, ...]
    image: torch.Tensor


def attack_patches(
    vote: MaskedVote,
    images: Any,
    labels: Any,
    *,
    places: int | Sequence[Box] = 4,
    restarts: int = 2,
    steps: int = 40,
    step_size: float = 0.1,
    samples: int = 8,
    seed: int = 0,
) -> tuple[PatchAttackResult, ...]:
    """Attack a vote by gradients of the network through fill and masks.

    The attacker knows everything. In each step they ask the network under some of the masks that
    do not hide the whole patch, and follow the sign of the gradient of the loss within the patch,
    through the fill where that has a derivative. Half of the restarts push away from the label,
    the other half towards the class that is next to it; then the vote is asked. This is projected
    gradient descent on what the vote sees (Madry et al., ICLR 2018), as adaptive as it can be.

    Parameters
    ----------
    vote : MaskedVote
        In eval mode; its patch must be one rectangle, and a single one.
    images, labels
        As for :func:`splic_ext.certify.certify_patches`.
    places : int or sequence of boxes, default 4
        Where patches are put: (top, left, height, width), the same for all images; or how many
        random places to try for each image.
    restarts : int, default 2
        Random first patches at each place.
    steps : int, default 40
        Steps of each patch.
    step_size : float, default 0.1
        Of a step, in (0, 1]; it falls linearly to a tenth.
    samples : int, default 8
        Masks that are asked in each step, drawn anew.
    seed : int, default 0
        Of places, first patches and masks.

    Returns
    -------
    tuple of PatchAttackResult
        One for each image.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range; a vote against several patches or
        shapes.

    Examples
    --------
    >>> from splic_ext.models import build_model
    >>> vote = MaskedVote(build_model("digits_cnn").eval(), patch=2, masks=3, fill="mean")
    >>> result = attack_patches(vote, torch.rand(1, 1, 8, 8), [3], places=1, restarts=1, steps=2)
    >>> result[0].tried
    1
    """
    device = network_device(vote)
    checked, known = images_and_labels(images, labels, device)
    restarts, steps, samples = (
        check_integer(name, value, 1)
        for name, value in (("restarts", restarts), ("steps", steps), ("samples", samples))
    )
    step_size = check_number("step_size", step_size, 0.0, 1.0, above=True)
    seed = check_integer("seed", seed, 0, 2**64 - 1)
    if len(checked) == 0:
        return ()
    asker = vote.asker(checked)
    if asker.masks.patches > 1 or len(asker.masks.shapes) > 1:
        raise ValueError(
            "`vote` must be one against a single patch of one shape, got several; attack one of "
            "each shape"
        )
    results = []
    for i, (image, label) in enumerate(zip(checked, known.tolist(), strict=True)):
        generator = torch.Generator().manual_seed(derive_seed(seed, "patch", i))
        boxes = _boxes(places, asker, generator)
        attacker = _Attacker(asker, image, label, generator, samples)
        batch = attacker.run([box for box in boxes for _ in range(restarts)], steps, step_size)
        answers = vote(batch).tolist()
        turned = [answer != label for answer in answers]
        shown = turned.index(True) if any(turned) else len(turned) - 1
        results.append(PatchAttackResult(any(turned), len(batch), tuple(answers), batch[shown]))
    return tuple(results)


def _boxes(places: int | Sequence[Box], asker: Asker, generator: torch.Generator) -> list[Box]:
    """Return where patches are put on an image."""
    masks = asker.masks
    ((high, wide),) = masks.shapes
    if not isinstance(places, int):
        given: list[Box] = [tuple(int(v) for v in box) for box in places]  # type: ignore[misc]
        for top, left, h, w in given:
            if (h, w) != (high, wide) or not (
                0 <= top <= masks.height - h and 0 <= left <= masks.width - w
            ):
                raise ValueError(
                    f"`places` must be boxes of {high} x {wide} pixels inside the image, got "
                    f"{(top, left, h, w)}; give (top, left, height, width)"
                )
        return given
    count = check_integer("places", places, 1)
    spans = (masks.height - high + 1, masks.width - wide + 1)
    drawn = [torch.randint(span, (count,), generator=generator).tolist() for span in spans]
    return [(top, left, high, wide) for top, left in zip(*drawn, strict=True)]


@dataclass(frozen=True, eq=False)
class _Attacker:
    """One image under attack."""

    asker: Asker
    image: torch.Tensor
    label: int
    generator: torch.Generator
    samples: int

    def run(self, boxes: list[Box], steps: int, step_size: float) -> torch.Tensor:
        """Return the image with a patch in each box, optimised."""
        count = len(boxes)
        inside = torch.zeros(count, 1, *self.image.shape[1:], dtype=torch.bool)
        for i, (top, left, high, wide) in enumerate(boxes):
            inside[i, 0, top : top + high, left : left + wide] = True
        open_masks = [self._open(mask[0].numpy()) for mask in inside]
        inside = inside.to(self.image.device)
        first = torch.rand(count, *self.image.shape, generator=self.generator)
        batch = torch.where(inside, first.to(self.image), self.image)
        targets = self._targets(count)
        for step in range(steps):
            batch.requires_grad_(True)
            loss = self._loss(batch, open_masks, targets)
            (gradient,) = torch.autograd.grad(loss, batch)
            size = step_size * (1.0 - 0.9 * step / steps)
            moved = (batch.detach() - size * gradient.sign()).clamp(0.0, 1.0)
            batch = torch.where(inside, moved, self.image)
        return batch.detach()

    def _open(self, inside: np.ndarray[Any, Any]) -> list[int]:
        """Return the masks that leave some of the patch visible."""
        seen = (self.asker.masks.visible & inside).any(axis=(1, 2))
        return [int(i) for i in np.flatnonzero(seen)]

    def _targets(self, count: int) -> list[int | None]:
        """Return None for patches that push away from the label, else the class to push to."""
        with torch.no_grad(), values_checked():
            shown = torch.ones(self.image.shape[1:], dtype=torch.bool, device=self.image.device)
            logits = self.asker.model(self.asker.fill(self.image[None], shown))[0].clone()
        logits[self.label] = -torch.inf
        order = logits.argsort(descending=True).tolist()
        return [
            None if i % 2 == 0 else order[(i // 2) % max(1, len(order) - 1)] for i in range(count)
        ]

    def _loss(
        self, batch: torch.Tensor, open_masks: list[list[int]], targets: list[int | None]
    ) -> torch.Tensor:
        """Return what is made small: the cross entropy to the target, or less that of the label."""
        rows, masks, signs, classes = [], [], [], []
        for i, (known, target) in enumerate(zip(open_masks, targets, strict=True)):
            order = torch.randperm(len(known), generator=self.generator)[: self.samples].tolist()
            rows += [i] * len(order)
            masks += [known[k] for k in order]
            signs += [-1.0 if target is None else 1.0] * len(order)
            classes += [self.label if target is None else target] * len(order)
        if not rows:  # each mask hides the patch: nothing can be done
            return 0.0 * batch.sum()
        device = self.image.device
        visible = torch.from_numpy(self.asker.masks.visible[masks])[:, None].to(device)
        total = batch.new_zeros(())
        for start in range(0, len(rows), self.asker.batch_size):
            part = slice(start, start + self.asker.batch_size)
            with values_checked():
                filled = self.asker.fill(
                    batch[torch.tensor(rows[part], device=device)], visible[part]
                )
            logits = self.asker.model(filled)
            wanted = torch.tensor(classes[part], device=device)
            losses = functional.cross_entropy(logits, wanted, reduction="none")
            total = total + (losses * torch.tensor(signs[part], device=device)).sum()
        return total
