"""The classes that a network gives to randomly ablated images, draw by draw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from splic_ext.certify.ablation_masks import MOST_DRAWS, SEEDS, Kept
from splic_ext.certify.guards import TRIED, as_tensor, check_classifier, check_fill
from splic_ext.common.checks import check_integer
from splic_ext.fills import Fill, as_fill, create_fill
from splic_ext.masks import count_up
from splic_ext.runs.clock import Clock
from splic_ext.runs.inputs import check_logits
from splic_ext.specs import parse_spec

__all__ = ["Draws", "as_encoding", "as_images", "check_draws", "check_index", "check_trial"]


def as_encoding(encoding: Any) -> Fill:
    """Return the fill of an encoding; SPLIC has the preset "ablation" unless it names another.

    >>> as_encoding("splic").options.tv_weight
    0.5
    """
    if not isinstance(encoding, str):
        return as_fill(encoding)
    name, parameters = parse_spec(encoding)
    return create_fill(name, **({"preset": "ablation"} if name == "splic" else {}) | parameters)


def as_images(images: Any) -> torch.Tensor:
    """Return images of NumPy or torch as a tensor, or raise unless they can be certified."""
    tensor = as_tensor(images)
    if len(tensor) == 0:
        raise ValueError("`images` must hold an image at least, got none; check what selects them")
    return tensor


class Draws:
    """Classifies ablated images, in batches of pairs of an image and a draw.

    Which pairs share a batch does not matter, up to rounding in the network.
    """

    def __init__(
        self,
        model: nn.Module,
        encoding: Fill,
        kept: Kept,
        seed: int,
        batch_size: int,
        clock: Clock | None = None,
    ) -> None:
        self.model, self.encoding, self.kept = model, encoding, kept
        self.seed = seed
        self.batch_size = batch_size
        self._clock = clock

    def encoded(
        self, images: torch.Tensor, index: npt.NDArray[np.uint64], draw: npt.NDArray[np.uint64]
    ) -> torch.Tensor:
        """Return each of the images as one draw shows it."""
        with self._phase("masks"):
            masks = torch.from_numpy(self.kept.masks(self.seed, index, draw)).to(images.device)
        with self._phase("encoding"):
            result: torch.Tensor = self.encoding(images, masks)
        return result

    def classify(self, encoded: torch.Tensor) -> npt.NDArray[np.int64]:
        """Return the most likely class of each."""
        with self._phase("network"):
            logits = self.model(encoded)
            check_logits("model", logits, len(encoded), 0)
            if not bool(logits.isfinite().all()):
                raise ValueError(
                    "`model` returned NaN or infinity for an ablated image; check its weights"
                )
            classes: npt.NDArray[np.int64] = logits.argmax(dim=1).cpu().numpy()
        return classes

    def predict(
        self, images: torch.Tensor, index: npt.NDArray[np.uint64], first: int, count: int
    ) -> npt.NDArray[np.int64]:
        """Return the classes in draws `first` to `first + count`, of shape (N, count)."""
        found = np.empty(len(images) * count, dtype=np.int64)
        with torch.no_grad():
            for pairs in self._batches(len(found)):
                image, draw = np.divmod(np.arange(pairs.start, pairs.stop), count)
                chosen = images[torch.from_numpy(image).to(images.device)]
                draws = (first + draw).astype(np.uint64)
                found[pairs] = self.classify(self.encoded(chosen, index[image], draws))
        return found.reshape(len(images), count)

    def _batches(self, pairs: int) -> Iterator[slice]:
        for start in range(0, pairs, self.batch_size):
            yield slice(start, min(start + self.batch_size, pairs))

    def _phase(self, name: str) -> Any:
        return nullcontext() if self._clock is None else self._clock.phase(name)


def check_trial(draws: Draws, images: torch.Tensor, labels: npt.NDArray[np.int64]) -> None:
    """Raise unless encoding and network can be certified, after a trial on the first image."""
    check_classifier(draws.model, draws.encoding, images[:1], labels, "encoding")
    draw = count_up(0, TRIED)
    masks = torch.from_numpy(draws.kept.masks(draws.seed, draw * np.uint64(0), draw))
    names = [f"the mask of draw {i}" for i in range(TRIED)]
    check_fill(draws.encoding, images, masks.to(images.device), names, "encoding")


def check_draws(name: str, value: Any) -> int:
    """Return a number of draws."""
    return check_integer(name, value, 1, MOST_DRAWS)


def check_index(first_index: Any, count: int) -> npt.NDArray[np.uint64]:
    """Return the indices of images from the first on."""
    return count_up(check_integer("first_index", first_index, 0, SEEDS - count), count)
