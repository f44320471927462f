"""Samples of a reader, put into the arrays of a data set."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from splic_ext.common.checks import printable, shortened
from splic_ext.data.dataset import Dataset
from splic_ext.data.fitting import Fitting
from splic_ext.data.pictures import UnreadableError, decode_image
from splic_ext.data.sources.base import Source
from splic_ext.errors import ShapeError

__all__ = ["Block", "collect"]

#: So many files that cannot be read are named in a warning.
NAMED = 3


def collect(source: Source, *, limit: int | None, fitting: Fitting, max_bytes: int) -> Dataset:
    """Read the first samples of a source into memory, and warn of what is left out."""
    expected = None if source.count is None else min(source.count, limit or source.count)
    block = Block(str(source.place), expected, max_bytes)
    for sample in source:
        image, notes = sample.image, list[str]()
        try:
            if isinstance(image, bytes):
                image, notes = decode_image(image)
            image = fitting(image, sample.key)
        except UnreadableError as error:
            source.leave_out(sample.key, str(error))
            continue
        for note in notes:
            source.note(note, sample.key)
        block.add(image, sample.label, sample.key)
        if len(block.labels) == limit:
            break
    if not block.labels:
        why = "; ".join(found.told(source.unit) for found in source.unread[:NAMED])
        why = f": {why}" if why else ""
        raise ValueError(f"no image of '{source.place}' can be read{why}; check what it holds")
    _warn(source)
    classes = source.classes
    if classes is None:
        classes = tuple(map(str, range(max(block.labels) + 1)))
    labels = np.array(block.labels, np.int64)
    return Dataset(source.name, block.images(), labels, classes, tuple(source.unread))


def _warn(source: Source) -> None:
    """Warn of what is left out, and of what else is to be told."""
    count = len(source.unread)
    if count:
        more = f", and {count - NAMED} more" if count > NAMED else ""
        told = ", ".join(found.told(source.unit) for found in source.unread[:NAMED])
        warnings.warn(
            f"{count} of the images in '{source.place}' cannot be read and are left out: "
            f"{told}{more}",
            stacklevel=5,
        )
    for note in source.notes:
        warnings.warn(note, stacklevel=5)


class Block:
    """Images of one size in one array, which grows; gray ones among colours get three channels."""

    def __init__(self, place: str, expected: int | None, max_bytes: int) -> None:
        self.labels: list[int] = []
        self._place, self._expected, self._max_bytes = place, expected, max_bytes
        self._images: npt.NDArray[np.uint8] | None = None
        self._first = ""

    def add(self, image: npt.NDArray[np.uint8], label: int, key: str) -> None:
        """Put an image (C, H, W) behind the others."""
        count = len(self.labels)
        if self._images is None:
            self._first = key
            self._images = self._room(self._expected or 64, image.shape, self._expected is not None)
        kept = self._images
        if image.shape[1:] != kept.shape[2:]:
            sizes = [" x ".join(map(str, shape)) for shape in (kept.shape[2:], image.shape[1:])]
            raise ShapeError(
                f"the images of '{self._place}' must be of one size, got {sizes[0]} in "
                f"'{_shown(self._first)}' and {sizes[1]} in '{_shown(key)}'; give `resize` as "
                "HEIGHTxWIDTH, or `center_crop`",
                tuple(image.shape[1:]),
                sizes[0],
            )
        if image.shape[0] != kept.shape[1] and {image.shape[0], kept.shape[1]} != {1, 3}:
            raise ShapeError(
                f"the images of '{self._place}' must have the same channels, got {kept.shape[1]} "
                f"in '{_shown(self._first)}' and {image.shape[0]} in '{_shown(key)}'; convert them",
                tuple(image.shape),
                f"({kept.shape[1]}, H, W)",
            )
        more_channels, full = image.shape[0] > kept.shape[1], count == len(kept)
        if more_channels or full:
            wanted = 2 * count if full else len(kept)
            shape = (max(image.shape[0], kept.shape[1]), *kept.shape[2:])
            self._images = self._room(wanted, shape, more_channels and not full)
            self._images[:count] = kept[:count]
        self._images[count] = image
        self.labels.append(label)

    def images(self) -> npt.NDArray[np.uint8]:
        """Return all, of shape (N, C, H, W)."""
        assert self._images is not None
        kept, count = self._images, len(self.labels)
        return kept if count == len(kept) else np.array(kept[:count])

    def _room(self, count: int, shape: Sequence[int], known: bool) -> npt.NDArray[np.uint8]:
        """Return an array for images, as many as the limit allows."""
        size = max(1, int(np.prod(shape)))
        have = len(self.labels)
        most = self._max_bytes // size
        if (count if known else have + 1) > most:
            raise ValueError(
                f"the images of '{self._place}' take {(count if known else have + 1) * size:,} "
                f"bytes, more than the limit of {self._max_bytes:,}; raise it with `max_bytes`, or "
                "take fewer with `limit`, or smaller ones with `resize`"
            )
        return np.empty((min(count, most), *shape), np.uint8)


def _shown(key: str) -> str:
    return shortened(printable(key), 120)
