"""Arrays in files: ``images.npy`` with ``labels.npy`` beside it, mapped into memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.common.checks import check_labels, reason_of
from splic_ext.data.arrays import ROUNDED, bytes_of, channels_first, layout_of
from splic_ext.data.dataset import Dataset
from splic_ext.data.npz import check_npy, strictly
from splic_ext.data.sources.base import Sample, Source, checked_label

__all__ = ["DatasetSource", "NpySource", "is_npy_folder"]

#: Values of images that are converted at a time; at least one image is.
SOME = 2**18


def is_npy_folder(folder: Path) -> bool:
    """Say whether a folder holds the pair of arrays."""
    return (folder / "images.npy").is_file()


class NpySource(Source):
    """Images of ``images.npy``, or another ``.npy``, and labels of ``labels.npy`` beside it."""

    def __init__(self, images: Path, name: str) -> None:
        labels = images.with_name("labels.npy")
        if not labels.is_file() or labels == images:
            raise FileNotFoundError(
                f"the labels of '{images}' do not exist; save them beside it, as "
                "`numpy.save('labels.npy', labels)`, and the images as images.npy"
            )
        self._images = _mapped(images)
        try:
            self._labels = check_labels(_mapped(labels), len(self._images))
            self._layout = layout_of(self._images.shape)
            if self._images.dtype != np.uint8 and self._images.dtype.kind != "f":
                bytes_of(self._images[:0])
            for label in (self._labels.min(initial=0), self._labels.max(initial=0)):
                checked_label(int(label), None)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the files '{images}' and '{labels.name}' hold no data set: "
                f"{reason_of(error, 500)}"
            ) from error
        classes = tuple(map(str, range(int(self._labels.max(initial=-1)) + 1)))
        super().__init__(images, name, classes, len(self._images))

    def _samples(self) -> Iterator[Sample]:
        some = max(1, SOME // max(1, math.prod(self._images.shape[1:])))
        for start in range(0, len(self), some):
            try:
                part = channels_first(np.asarray(self._images[start : start + some]), self._layout)
                images, rounded = bytes_of(part)
            except ValueError as error:
                raise ValueError(
                    f"the file '{self.place}' holds no images from {start} on: {reason_of(error)}"
                ) from error
            if rounded:
                self.note(ROUNDED, f"image {start}")
            for index, image in enumerate(images, start):
                yield Sample(f"image {index}", image, int(self._labels[index]))


def _mapped(path: Path) -> npt.NDArray[Any]:
    """Map an array of a file into memory."""
    try:
        check_npy(path)
        with strictly():
            array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.ndim == 0:
            raise ValueError("it holds a single value")
        return array
    except MemoryError:
        raise
    except Exception as error:  # of any type: the content of a damaged file is anything
        raise ValueError(
            f"the file '{path}' is no .npy file that can be read: {reason_of(error)}; "
            "make it anew with `numpy.save(path, array)`"
        ) from error


class DatasetSource(Source):
    """A data set that is in memory already."""

    unit = ""

    def __init__(self, place: Path, data: Dataset) -> None:
        super().__init__(place, data.name, data.classes, len(data))
        self._data = data

    def _samples(self) -> Iterator[Sample]:
        for index, image in enumerate(self._data.images):
            yield Sample(f"image {index}", image, int(self._data.labels[index]))
