"""CIFAR-10 in its official Python version: pickled batches in a folder or a ``.tar.gz``."""

from __future__ import annotations

import lzma
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from splic_ext.data.dataset import Dataset
from splic_ext.data.pickles import PickledArray, load_pickle

__all__ = ["CIFAR10_CLASSES", "CIFAR10_SPLITS", "load_cifar10"]

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

#: Split -> files, in the official order.
CIFAR10_SPLITS = {
    "train": tuple(f"data_batch_{k}" for k in range(1, 6)),
    "test": ("test_batch",),
}

PIXELS = 3 * 32 * 32

#: The largest official batch has 31 MB; a guard against archives that unpack without end.
MAX_BYTES = 2**28


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
            with (path / name).open("rb") as batch:
                yield str(path / name), _read(batch, str(path / name))
        return
    try:
        with tarfile.open(path, "r:*") as archive:
            members = {PurePosixPath(m.name).name: m for m in archive if m.isfile()}
            for name in names:
                file = archive.extractfile(members[name]) if name in members else None
                if file is None:
                    raise ValueError(
                        f"the archive '{path}' of CIFAR-10 holds no file {name}; "
                        "get cifar-10-python.tar.gz, or save your own images with "
                        "`numpy.savez(path, x=images, y=labels)`"
                    )
                with file:
                    yield f"{path}:{name}", _read(file, f"{path}:{name}")
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        raise ValueError(
            f"the archive '{path}' is damaged: {str(error).partition(chr(10))[0]}; "
            "copy or download it again"
        ) from error


def _read(file: IO[bytes], place: str) -> bytes:
    content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(
            f"the file '{place}' is no batch of CIFAR-10: it has more than {MAX_BYTES:,} bytes; "
            "save other images with `numpy.savez(path, x=images, y=labels)`"
        )
    return content


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
        "uint8, and as many `labels` in [0, 9]; download it again"
    )
