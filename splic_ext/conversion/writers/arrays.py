"""Shards of arrays: ``.npy`` files, and batches as CIFAR-10 has them."""

from __future__ import annotations

import io
import math
import pickle
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from splic_ext.conversion.items import Item
from splic_ext.conversion.writers.base import RejectedError, Writer

__all__ = ["Cifar10Writer", "NpyWriter"]


def fitting(image: npt.NDArray[Any], shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """Return an image as one of an array; gray ones among colours get three channels."""
    if image.shape[0] == 1 and shape[0] == 3:
        image = np.repeat(image, 3, axis=0)
    if image.shape != shape or image.dtype.name != dtype:
        got, want = (" x ".join(map(str, size)) for size in (image.shape, shape))
        raise RejectedError(f"it is {got} of {image.dtype}, the first image {want} of {dtype}")
    return image


class NpyWriter(Writer):
    """``images-00000.npy`` (N, C, H, W), and ``labels-00000.npy`` if images have labels."""

    kind: ClassVar[str] = "npy"
    encoded: ClassVar[bool] = False

    def begin(self) -> None:
        """Open the file of images, with a header for as many as there may be."""
        folder, slash, base = self.shard.name.rpartition("/")
        rest = base.removeprefix("images")
        self._names = [f"{folder}{slash}{kind}{rest}.npy" for kind in ("images", "labels")]
        self._path = self.path_of(self._names[0])
        self._file = self._stack.enter_context(self._path.open("wb"))
        self._labels: list[int] = []
        self._header(self.shard.count)

    def _header(self, count: int) -> None:
        """Write a header, whose length does not depend on the number of images."""
        values = {
            "shape": (count, *self.layout.shape),
            "fortran_order": False,
            "descr": np.lib.format.dtype_to_descr(np.dtype(self.layout.dtype)),
        }
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, values)
        self._file.seek(0)
        self._file.write(header.getvalue())

    def add(self, index: int, item: Item, image: Any, suffix: str) -> None:
        """Write an image."""
        image = fitting(image, self.layout.shape, self.layout.dtype)
        label = -1
        if self.layout.label is not None:
            found = self.layout.integer(item.label)
            label = -1 if found is None else found
        self._file.write(np.ascontiguousarray(image).data)
        self._labels.append(label)

    def finish(self) -> None:
        """Write the header anew, with the number of images, and the labels."""
        self._header(len(self._labels))
        self._file.flush()
        self.note(self._names[0], self._path)
        if self.layout.label is not None:
            path = self.path_of(self._names[1])
            with path.open("wb") as file:
                np.save(file, np.array(self._labels, np.int64))
            self.note(self._names[1], path)


class Cifar10Writer(Writer):
    """A pickled batch as the official Python version of CIFAR-10 has them."""

    kind: ClassVar[str] = "cifar10"
    encoded: ClassVar[bool] = False

    def begin(self) -> None:
        """Begin with no image."""
        self._images: list[npt.NDArray[np.uint8]] = []
        self._labels: list[int] = []
        self._keys: list[bytes] = []

    def add(self, index: int, item: Item, image: Any, suffix: str) -> None:
        """Keep an image."""
        label = self.layout.integer(item.label)
        if label is None or not 0 <= label < 10:
            raise RejectedError(f"its label {label!r} is none of CIFAR-10, 0 to 9")
        self._images.append(fitting(image, (3, 32, 32), "uint8").reshape(-1))
        self._labels.append(label)
        self._keys.append(f"{item.key}.png".encode())

    def finish(self) -> None:
        """Write the batch."""
        name = self.shard.name
        size = math.prod((3, 32, 32))
        batch = {
            b"batch_label": name.encode(),
            b"labels": self._labels,
            b"data": np.array(self._images, np.uint8).reshape(-1, size),
            b"filenames": self._keys,
        }
        path = self.path_of(name)
        path.write_bytes(pickle.dumps(batch, protocol=2))
        self.note(name, path)
