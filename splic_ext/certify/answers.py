"""What a network answers where a mask hides a part of the image and a fill closes the hole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from splic_ext.certify.masks import MaskSet
from splic_ext.defenses.images import values_checked
from splic_ext.fills import Fill
from splic_ext.runs.clock import Clock

__all__ = ["SURE", "Answers", "Asker", "LayoutProbe"]

#: An answer is sure if the largest logit leads by more than this share of the largest magnitude:
#: twice the share by which the same image in another batch may change a logit.
SURE = 2e-4

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Answers:
    """What was answered: classes, and by how much each leads, as a share of the largest logit."""

    classes: Indices
    leads: npt.NDArray[np.float32]

    def sure(self, label: int | Indices) -> npt.NDArray[np.bool_]:
        """Say where the answer is `label`, whatever the batch around an image does to rounding."""
        found: npt.NDArray[np.bool_] = (self.classes == label) & (self.leads > SURE)
        return found


class LayoutProbe:
    """Whether a network takes images channel last, which convolutions on a CPU like best."""

    def __init__(self, model: nn.Module, images: torch.Tensor) -> None:
        self.format = torch.contiguous_format
        if images.device.type != "cpu" or images.shape[1] == 1:
            return
        try:
            with torch.no_grad():
                model(images.contiguous(memory_format=torch.channels_last))
        except RuntimeError:  # a `view` that wants another layout
            return
        self.format = torch.channels_last


@dataclass(frozen=True, eq=False)
class Asker:
    """A network behind a fill, asked for many masks of many images, a batch at a time."""

    model: nn.Module
    fill: Fill
    masks: MaskSet
    batch_size: int
    layout: torch.memory_format
    clock: Clock | None = None

    def ask(self, images: torch.Tensor, which: Indices, first: Indices, second: Indices) -> Answers:
        """Return the answers to rows: image `which` with masks `first` and `second` hidden.

        `images` are checked, of shape (N, C, H, W) on the device of the network.
        """
        found = list(self._answers(images, which, first, second))
        if not found:
            return Answers(np.empty(0, np.int64), np.empty(0, np.float32))
        classes, leads = zip(*found, strict=True)
        return Answers(np.concatenate(classes), np.concatenate(leads))

    def whole(self, images: torch.Tensor) -> Answers:
        """Return the answers to images of which nothing is hidden."""
        shown = torch.ones(images.shape[2:], dtype=torch.bool, device=images.device)
        with torch.no_grad(), values_checked(), self._phase("network"):
            return Answers(*_read(self.model(self.fill(images, shown))))

    def _answers(
        self, images: torch.Tensor, which: Indices, first: Indices, second: Indices
    ) -> Iterator[tuple[Indices, npt.NDArray[np.float32]]]:
        visible = self.masks.visible
        for start in range(0, len(which), self.batch_size):
            part = slice(start, start + self.batch_size)
            shown = torch.from_numpy(visible[first[part]] & visible[second[part]])[:, None]
            with torch.no_grad(), values_checked():
                with self._phase("fill"):
                    rows = images[torch.from_numpy(which[part]).to(images.device)]
                    filled = self.fill(rows, shown.to(images.device))
                    filled = filled.contiguous(memory_format=self.layout)
                with self._phase("network"):
                    logits = self.model(filled)
                    yield _read(logits)

    def _phase(self, name: str) -> Any:
        return nullcontext() if self.clock is None else self.clock.phase(name)


def _read(logits: torch.Tensor) -> tuple[Indices, npt.NDArray[np.float32]]:
    """Return the classes and their leads, or raise where a logit is no number."""
    if not bool(logits.isfinite().all()):
        raise ValueError(
            "`model` returned NaN or infinity for an image with hidden pixels; check its weights"
        )
    values, classes = logits.float().topk(min(2, logits.shape[1]), dim=1)
    scale = logits.float().abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
    lead = (values[:, 0] - values[:, -1]) / scale if values.shape[1] > 1 else torch.ones_like(scale)
    return classes[:, 0].cpu().numpy(), lead.cpu().numpy()
