"""Arrays in ``.npy`` files, mapped into memory, and the data sets that are read at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from splic_ext.arrays.dtypes import DTYPES
from splic_ext.common.checks import check_labels, reason_of
from splic_ext.conversion.items import Item, Unit
from splic_ext.conversion.places import Entry, Place
from splic_ext.conversion.readers.base import Hashed, Reader, group_of
from splic_ext.data.arrays import channels_first, layout_of
from splic_ext.data.loading import open_source
from splic_ext.data.npz import check_npy, strictly
from splic_ext.data.sources import Source

__all__ = ["DatasetReader", "NpyReader"]


class NpyReader(Reader):
    """``images.npy`` or ``images-00000.npy``, ..., or one other file; labels lie beside them.

    Those of ``images*.npy`` are in ``labels*.npy``, and may be absent.
    """

    kind: ClassVar[str] = "npy"
    sharded: ClassVar[bool] = False

    def __init__(self, place: Place, max_bytes: int) -> None:
        super().__init__(place, max_bytes)
        if not place.local:
            raise ValueError(
                f"the source '{place.text}' must be on this machine to be mapped into memory; copy "
                "it, or convert archives or Parquet files"
            )

    def entries(self) -> list[Entry]:
        """Return the files of images."""
        if self.place.kind() == "file":
            return [self.place.entry()]
        files = [e for e in self.place.files() if e.name.endswith(".npy")]
        found = [e for e in files if e.name.rpartition("/")[2].startswith("images")]
        if files and not found:
            raise ValueError(
                f"the source '{self.place.text}' must hold images.npy, or images-00000.npy and so "
                f"on, got '{files[0].name}'; rename the files, or give one of them"
            )
        return found

    def scan(self, entry: Entry) -> Unit:
        """Count the images."""
        images, _, labels = self._mapped(entry.name)
        if labels is not None:
            check_labels(labels, len(images))
        with self.place.open(entry.name) as file:
            sha256 = self.hash_of(Hashed(file))
        group = group_of(entry.name or self.place.text.rpartition("/")[2])
        return Unit(entry.name, group, entry.size, entry.stamp, len(images), sha256)

    def _mapped(self, name: str) -> tuple[npt.NDArray[Any], str, npt.NDArray[Any] | None]:
        """Return images, their layout, and labels or None."""
        path = self.place.path / name
        images = _map(path)
        try:
            layout = layout_of(images.shape)
            if images.dtype.name not in DTYPES:
                raise TypeError(f"its numbers are of {images.dtype}")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the file '{path}' must hold images (N, C, H, W), (N, H, W, C) or (N, H, W), of "
                f"uint8 or floats in [0, 1]: {reason_of(error)}; save it so"
            ) from error
        beside = path.with_name(path.name.replace("images", "labels", 1))
        labels = _map(beside) if beside != path and beside.is_file() else None
        return images, layout, labels

    def read(self, unit: Unit, start: int, stop: int) -> Iterator[Item]:
        """Yield images."""
        images, layout, labels = self._mapped(unit.name)
        for row in range(start, stop):
            image = channels_first(np.asarray(images[row : row + 1]), layout)[0]
            label = None if labels is None else int(labels[row])
            native = images.dtype.newbyteorder("=")
            yield Item(f"{row:08}", np.ascontiguousarray(image, native), "", label)


def _map(path: Any) -> npt.NDArray[Any]:
    try:
        check_npy(path)
        with strictly():
            array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except MemoryError:
        raise
    except Exception as error:  # of any type: the content of a damaged file is anything
        raise ValueError(
            f"the file '{path}' is no .npy file that can be read: {reason_of(error)}; "
            "make it anew with `numpy.save(path, array)`"
        ) from error
    return array


class DatasetReader(Reader):
    """CIFAR-10, SVHN, MNIST's files and ``.npz``: what :func:`splic_ext.data.open_source` reads.

    A unit is a split. All of it is read into memory, but for MNIST's files.
    """

    kind: ClassVar[str] = "dataset"
    sharded: ClassVar[bool] = False

    def __init__(self, place: Place, max_bytes: int, name: str | None = None) -> None:
        super().__init__(place, max_bytes)
        self._name = name
        if not place.local:
            raise ValueError(
                f"the source '{place.text}' must be on this machine, or be archives, Parquet or "
                "image files; copy it"
            )
        self._sources: dict[str, Source] = {}

    def _source(self, split: str) -> Source:
        if split not in self._sources:
            source = self._name or self.place.path
            self._sources[split] = open_source(source, split, max_bytes=self.max_bytes)
        return self._sources[split]

    def entries(self) -> list[Entry]:
        """Return the splits that are there."""
        found: list[str] = []
        for split in ("train", "test", "extra"):
            try:
                source = self._source(split)
            except (FileNotFoundError, ValueError) as error:
                problem = error
                continue
            if not found and "/" not in source.name:  # one split, whatever is asked for
                found = [split]
                break
            found.append(split)
        if not found:
            raise problem
        self.classes = self._source(found[0]).classes
        place = self.place.path
        files = [] if self._name is not None else [place]
        if place.is_dir():
            files = sorted(path for path in place.rglob("*") if path.is_file())
        stamp = " ".join(f"{p.stat().st_size}:{p.stat().st_mtime_ns}" for p in files[:100])
        stamp = hashlib.sha256(stamp.encode()).hexdigest()
        return [Entry(split, 0, stamp) for split in found]

    def state(self) -> dict[str, Any]:
        """Return classes and name."""
        return {**super().state(), "name": self._name}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take both up."""
        super().restore(state)
        self._name = state["name"]

    def check(self, unit: Unit) -> None:
        """Raise if a file has changed."""
        now = {entry.name: entry.stamp for entry in self.entries()}
        if now.get(unit.name) != unit.stamp:
            raise ValueError(
                f"'{self.place.text}' of the source has changed under the run; put it back, or "
                "begin anew with `overwrite=True`"
            )

    def scan(self, entry: Entry) -> Unit:
        """Count the images, and hash their pixels and labels."""
        digest, count = hashlib.sha256(), 0
        for sample in self._source(entry.name):
            image = sample.image
            digest.update(image if isinstance(image, bytes) else np.ascontiguousarray(image).data)
            digest.update(sample.label.to_bytes(8, "little"))
            count += 1
        return Unit(entry.name, entry.name, 0, entry.stamp, count, digest.hexdigest())

    def read(self, unit: Unit, start: int, stop: int) -> Iterator[Item]:
        """Yield images."""
        samples = islice(iter(self._source(unit.name)), start, stop)
        for number, sample in enumerate(samples, start):
            yield Item(f"{number:08}", sample.image, "", sample.label)
