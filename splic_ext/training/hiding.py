"""Pixels that a training hides: boxes or single ones, filled or encoded; each from the seed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from splic_ext.common.checks import check_integer, check_number, shortened
from splic_ext.fills import Fill
from splic_ext.runs.fingerprints import derive_seed

__all__ = ["Boxes", "Hiding", "check_kept", "kept_masks"]

#: Most boxes of an image, and their largest side.
MOST_BOXES, MOST_SIDE = 64, 2**15

_BOXES = re.compile(r"([0-9]{1,9})x([0-9]{1,9})(?:x([0-9]{1,9}))?")


@dataclass(frozen=True)
class Boxes:
    """Up to `count` boxes of `height` x `width` pixels, anywhere inside an image.

    >>> Boxes.parse("2x9"), str(Boxes.parse("1x5x8"))
    (Boxes(count=2, height=9, width=9), '1x5x8')
    """

    count: int
    height: int
    width: int

    @classmethod
    def parse(cls, text: str) -> Boxes:
        """Read COUNTxSIDE or COUNTxHEIGHTxWIDTH."""
        found = _BOXES.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            kind = TypeError if not isinstance(text, str) else ValueError
            raise kind(
                "`cutout` must be COUNTxSIDE or COUNTxHEIGHTxWIDTH, got "
                f"{shortened(repr(text))}; write it like '2x9' or '1x5x8'"
            )
        numbers = [int(part) for part in found.groups() if part is not None]
        if not 1 <= numbers[0] <= MOST_BOXES or not all(1 <= n <= MOST_SIDE for n in numbers):
            raise ValueError(
                f"`cutout` must have 1 to {MOST_BOXES} boxes with sides from 1 to {MOST_SIDE}, got "
                f"{text!r}; write it like '2x9', or leave it out"
            )
        return cls(numbers[0], numbers[1], numbers[-1])

    def __str__(self) -> str:
        sides = (self.height,) if self.height == self.width else (self.height, self.width)
        return "x".join(map(str, (self.count, *sides)))

    def masks(self, seed: int, part: slice, height: int, width: int) -> npt.NDArray[np.bool_]:
        """Return masks (N, 1, H, W) of the images at these positions; False is in a box.

        Of each image the number of boxes is uniform over 0, ..., `count`, and so are their places
        inside the image; boxes may overlap.
        """
        draws = _draws(seed, part, 1 + 2 * self.count)
        counts = (draws[:, :1] * (self.count + 1)).astype(int)
        places = (height - self.height + 1, width - self.width + 1)
        tops, lefts = ((draws[:, k + 1 :: 2] * places[k]).astype(int) for k in (0, 1))
        rows, columns = np.arange(height), np.arange(width)
        inside = (np.arange(self.count) < counts)[:, :, None, None]
        inside = inside & _between(tops, self.height, rows)[:, :, :, None]
        inside = inside & _between(lefts, self.width, columns)[:, :, None, :]
        return np.asarray(~inside.any(axis=1, keepdims=True))


def kept_masks(
    kept: float, seed: int, part: slice, height: int, width: int
) -> npt.NDArray[np.bool_]:
    """Return masks (N, 1, H, W) of the images at these positions.

    An integer keeps exactly so many pixels of each image, any set of them alike; a float keeps
    each pixel with this probability.

    >>> kept_masks(3, 0, slice(5, 9), 4, 4).sum(axis=(1, 2, 3))
    array([3, 3, 3, 3])
    """
    draws = _draws(seed, part, height * width)
    if isinstance(kept, int):
        visible = np.zeros(draws.shape, bool)
        np.put_along_axis(visible, np.argpartition(draws, kept - 1, axis=1)[:, :kept], True, axis=1)
    else:
        visible = draws < kept
    return visible.reshape(len(draws), 1, height, width)


def check_kept(kept: float) -> float:
    """Return `ablate` as an int from 1, or a float in (0, 1)."""
    if isinstance(kept, (int, np.integer)) and not isinstance(kept, bool):
        return check_integer("ablate", kept, 1)
    share = check_number("ablate", kept, 0.0, 1.0, above=True)
    if share == 1:
        raise ValueError(
            "`ablate` must be a share below 1, or an integer, the pixels that are kept, got 1.0; "
            "leave it out to keep all"
        )
    return share


@dataclass(frozen=True, eq=False)
class Hiding:
    """What is hidden of the images of a training, and what stands there instead.

    Boxes, with `fill`, or all but the `kept` pixels, with `fill` as encoding; or nothing. Masks are
    functions of the seed, the epoch and the position of the image in it: nothing has a state. Of
    `tries` draws of boxes the worst is learnt.
    """

    seed: int
    boxes: Boxes | None = None
    kept: float | None = None
    fill: Fill | None = None
    tries: int = 1

    @property
    def outputs(self) -> int:
        """Channels that the network gets for each channel of an image."""
        return 1 if self.fill is None else self.fill.outputs

    def check_size(self, height: int, width: int) -> None:
        """Raise unless boxes, or the number of kept pixels, go into images of this size."""
        boxes, kept = self.boxes, self.kept
        if boxes is not None and (boxes.height > height or boxes.width > width):
            raise ValueError(
                f"`cutout` must have boxes that fit into images of {height} x {width}, got "
                f"{boxes.height} x {boxes.width}; choose smaller ones"
            )
        if isinstance(kept, int) and kept >= height * width:
            raise ValueError(
                f"`ablate` must keep fewer than the {height * width} pixels of an image, got "
                f"{kept}; choose less"
            )

    def learnt(
        self,
        images: torch.Tensor,
        epoch: int,
        part: slice,
        losses: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return what is learnt of images (N, C, H, W) at these positions of an epoch.

        `losses` says how well each image is known already, if there are several tries.
        """
        if self.boxes is None:
            return self._ablated(images, derive_seed(self.seed, "ablated", epoch), part)
        worst = self._boxed(images, derive_seed(self.seed, "boxes", epoch), part)
        if self.tries > 1:
            assert losses is not None
            most = losses(worst)
            for number in range(1, self.tries):
                tried = self._boxed(images, derive_seed(self.seed, "boxes", epoch, number), part)
                found = losses(tried)
                worst = torch.where((found > most)[:, None, None, None], tried, worst)
                most = torch.maximum(found, most)
        return worst

    def _boxed(self, images: torch.Tensor, seed: int, part: slice) -> torch.Tensor:
        """Return images with boxes of their own, filled."""
        assert self.boxes is not None
        assert self.fill is not None
        masks = self.boxes.masks(seed, part, *images.shape[2:])
        touched = np.flatnonzero(~masks.all(axis=(1, 2, 3)))
        if not len(touched):
            return images
        rows = torch.from_numpy(touched).to(images.device)
        visible = torch.from_numpy(masks[touched]).to(images.device)
        return images.index_copy(0, rows, self.fill(images[rows], visible))

    def scored(self, images: torch.Tensor, part: slice) -> torch.Tensor:
        """Return what is scored of test images: ablated, the same in all epochs; else whole."""
        return self._ablated(images, derive_seed(self.seed, "ablated test"), part)

    def _ablated(self, images: torch.Tensor, seed: int, part: slice) -> torch.Tensor:
        if self.kept is None:
            return images
        assert self.fill is not None
        masks = kept_masks(self.kept, seed, part, *images.shape[2:])
        filled: torch.Tensor = self.fill(images, torch.from_numpy(masks).to(images.device))
        return filled


def _draws(seed: int, part: slice, size: int) -> npt.NDArray[np.float64]:
    """Return `size` numbers in [0, 1) for each position; those of a position depend on no other."""
    blocks = -(-size // 4)  # Philox makes four numbers at a time
    generator = np.random.Generator(np.random.Philox(key=seed, counter=part.start * blocks))
    return generator.random((part.stop - part.start, 4 * blocks))[:, :size]


def _between(
    start: npt.NDArray[np.int64], length: int, axis: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Return which places of an axis lie in intervals (N, K), as (N, K, places)."""
    found: npt.NDArray[np.bool_] = (axis >= start[:, :, None]) & (axis < start[:, :, None] + length)
    return found
