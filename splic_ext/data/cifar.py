"""CIFAR-10 in its official Python version: pickled batches in a folder or a ``.tar.gz``."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import pickle
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from splic_ext.data.dataset import Dataset
from splic_ext.data.pickles import PickledArray, load_pickle

__all__ = ["BATCHES", "CIFAR10_CLASSES", "CIFAR10_SPLITS", "load_cifar10"]

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

#: Split -> files, in the official order.
CIFAR10_SPLITS = {
    "train": tuple(f"data_batch_{k}" for k in range(1, 6)),
    "test": ("test_batch",),
}

#: All of them, by which a folder or an archive is known.
BATCHES = tuple(name for names in CIFAR10_SPLITS.values() for name in names)

PIXELS = 3 * 32 * 32

#: The largest official batch has 31 MB; a guard against archives that unpack without end.
MAX_BYTES = 2**28

#: Likewise of all batches together: 186 MB.
ARCHIVE_BYTES = 2**29

#: So many files of an archive are looked at; the official one has eight.
MOST_MEMBERS = 10_000


class _NoBatchError(ValueError):
    """An archive that is whole, but without the batches that are looked for."""


def load_cifar10(path: Path, split: str = "test", *, limit: int | None = None) -> Dataset:
    """Read CIFAR-10 [1]_ from the files of its official Python version, in their order.

    `path` is the folder ``cifar-10-batches-py``, or the archive ``cifar-10-python.tar.gz``.

    .. [1] A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009;
       https://www.cs.toronto.edu/~kriz/cifar.html
    """
    images, labels, count = [], [], 0
    for place, content in _contents(path, CIFAR10_SPLITS[split]):
        batch = _batch(content, place)
        images.append(batch[0])
        labels.append(batch[1])
        count += len(batch[1])
        if limit is not None and count >= limit:
            break
    return Dataset(
        f"cifar10/{split}",
        np.concatenate(images)[:limit].reshape(-1, 3, 32, 32),
        np.concatenate(labels)[:limit],
        CIFAR10_CLASSES,
    )


def _contents(path: Path, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield for each batch where it is, for messages, and its content."""
    if path.is_dir():
        for name in names:
            if not (path / name).is_file():
                raise FileNotFoundError(
                    f"the file '{path / name}' of CIFAR-10 does not exist; "
                    "unpack all of cifar-10-python.tar.gz into one folder"
                )
            place = str(path / name)
            with (path / name).open("rb") as batch:
                yield str(path / name), _read(batch, os.fstat(batch.fileno()).st_size, place)
        return
    try:
        with _unpacked(path) as file:
            bounded: Any = _Bounded(file)
            archive = tarfile.TarFile(fileobj=bounded)
            members = {
                PurePosixPath(member.name).name: member
                for member in islice(archive, MOST_MEMBERS)
                if member.isfile()
            }
            for name in names:
                content = archive.extractfile(members[name]) if name in members else None
                if content is None:
                    raise _NoBatchError(
                        f"the archive '{path}' of CIFAR-10 holds no file {name}; "
                        "get cifar-10-python.tar.gz, or save your own images with "
                        "`numpy.savez(path, x=images, y=labels)`"
                    )
                with content:
                    yield f"{path}:{name}", _read(content, members[name].size, f"{path}:{name}")
    except (MemoryError, _NoBatchError):
        raise
    except Exception as error:  # of any type, from decoders and tarfile
        raise ValueError(
            f"the archive '{path}' is damaged: {str(error).partition(chr(10))[0]}; "
            "copy or download it again"
        ) from error


def _unpacked(path: Path) -> Any:
    """Open the archive, whatever it is compressed with."""
    with path.open("rb") as file:
        magic = file.read(6)
    kinds: dict[bytes, Any] = {b"\x1f\x8b": gzip, b"BZh": bz2, b"\xfd7zXZ\0": lzma}
    kind = next((kind for start, kind in kinds.items() if magic.startswith(start)), None)
    return path.open("rb") if kind is None else kind.open(path)


class _Bounded:
    """An unpacked archive of which no more is read than an official one could have."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.tell = file.tell

    def read(self, size: int) -> Any:
        """Read some bytes."""
        self._check(self.tell() + size)
        return self._file.read(size)

    def seek(self, place: int) -> Any:
        """Go to a place; in a compressed file, through all before it."""
        self._check(place)
        return self._file.seek(place)

    def _check(self, place: int) -> None:
        if place > ARCHIVE_BYTES:
            raise tarfile.ReadError(f"it unpacks to more than {ARCHIVE_BYTES:,} bytes")


def _read(file: IO[bytes], size: int, place: str) -> bytes:
    if size > MAX_BYTES:
        raise _NoBatchError(
            f"the file '{place}' is no batch of CIFAR-10: it has more than {MAX_BYTES:,} bytes; "
            "save other images with `numpy.savez(path, x=images, y=labels)`"
        )
    return file.read(size)


def _batch(content: bytes, place: str) -> tuple[Any, Any]:
    """Return the pixels (N, 3072) and the labels (N,) of a batch."""
    try:
        values = load_pickle(content)
    except pickle.UnpicklingError as error:
        raise ValueError(f"the file '{place}' is no batch of CIFAR-10: {error}") from error
    if isinstance(values, dict):
        values = {k.decode("latin-1") if isinstance(k, bytes) else k: v for k, v in values.items()}
        data, labels = values.get("data"), values.get("labels")
        pixels = data.array() if isinstance(data, PickledArray) else None
        if (
            pixels is not None
            and pixels.dtype == np.uint8
            and isinstance(labels, list)
            and pixels.shape == (len(labels), PIXELS)
            and all(type(label) is int and 0 <= label < 10 for label in labels)
        ):
            return pixels, np.array(labels, dtype=np.int64)
    raise ValueError(
        f"the file '{place}' is no batch of CIFAR-10: it must hold `data` of shape (N, {PIXELS}), "
        "uint8, and as many `labels` in [0, 9]; fetch or save it again"
    )
