"""MNIST's files (IDX): the images and the labels of a split in two files, gzipped or not."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from splic_ext.common.checks import reason_of, shortened
from splic_ext.data.sources.base import Sample, Source

__all__ = ["IdxSource", "idx_files", "is_idx"]

#: ``train-images-idx3-ubyte.gz``, ``t10k-images.idx3-ubyte``, ``emnist-letters-test-images-...``
_NAME = re.compile(r"(?P<begin>.*?)-?images[-.]idx3-ubyte(?P<end>(\.gz)?)", re.IGNORECASE)

#: Most bytes of a row of an image, and of an image.
MOST_SIDE, MOST_PIXELS = 2**16, 64_000_000


def is_idx(path: Path) -> bool:
    """Say whether the name is one of a file of images."""
    return _NAME.fullmatch(path.name) is not None


def idx_files(folder: Path) -> dict[str, Path]:
    """Return the files of images in a folder, by their split."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = _NAME.fullmatch(path.name)
        if name is None or not path.is_file():
            continue
        split = "test" if name["begin"].lower() in ("t10k", "test") else name["begin"].lower()
        if split.rpartition("-")[2] in ("train", "test"):
            split = split.rpartition("-")[2]
        if split in found and found[split].name.removesuffix(".gz") != path.name.removesuffix(
            ".gz"
        ):
            raise ValueError(
                f"the folder '{folder}' holds several files of images for the split {split}, "
                f"'{found[split].name}' and '{path.name}'; give the path of one of them"
            )
        found.setdefault(split, path)
    return found


class IdxSource(Source):
    """The images of a file of MNIST's kind, with the labels of the file beside it."""

    def __init__(self, images: Path, name: str, max_bytes: int = 2**31) -> None:
        self._images, self._labels = images, _beside(images)
        self._max_bytes = max_bytes
        with _opened(images) as stream:
            count, height, width = _header(stream, images, 3)
        with _opened(self._labels) as stream:
            (labels,) = _header(stream, self._labels, 1)
        if count != labels:
            raise ValueError(
                f"the file '{images}' holds {count} images, but '{self._labels.name}' {labels} "
                "labels; they are of different data sets: fetch both again"
            )
        if not (0 < height <= MOST_SIDE and 0 < width <= MOST_SIDE and count > 0) or (
            height * width > MOST_PIXELS
        ):
            raise ValueError(
                f"the file '{images}' must hold images of at least a pixel, got {count} of "
                f"{height} x {width}; fetch or save it again"
            )
        self._shape = height, width
        super().__init__(images, name, None, count)

    def _samples(self) -> Iterator[Sample]:
        size, read = self._shape[0] * self._shape[1], 0
        with _opened(self._images) as images, _opened(self._labels) as labels:
            images.read(16), labels.read(8)
            for index in range(len(self)):
                read += size
                if read > self._max_bytes:
                    raise ValueError(
                        f"the file '{self.place}' unpacks to more than the limit of "
                        f"{self._max_bytes:,} bytes; raise it with `max_bytes`"
                    )
                try:
                    pixels, label = images.read(size), labels.read(1)
                except (OSError, EOFError, zlib.error) as error:
                    self._cut_short(index, reason_of(error, 120))
                    return
                if len(pixels) < size or not label:
                    self._cut_short(index, "the file ends")
                    return
                image = np.frombuffer(pixels, np.uint8).reshape(1, *self._shape)
                yield Sample(f"image {index}", image, label[0])

    def _cut_short(self, index: int, reason: str) -> None:
        self.leave_out(
            self.place.name, f"{len(self) - index} images from image {index} on: {reason}"
        )


def _beside(images: Path) -> Path:
    """Return the file of labels that belongs to one of images."""
    name = _NAME.fullmatch(images.name)
    if name is None:
        raise ValueError(
            f"the file '{images}' must be named as those of MNIST, such as "
            "train-images-idx3-ubyte.gz; rename it"
        )
    dash = "-" if name["begin"] else ""
    wanted = [
        f"{name['begin']}{dash}labels{dot}idx1-ubyte{end}" for dot in "-." for end in ("", ".gz")
    ]
    for other in wanted:
        if (images.parent / other).is_file():
            return images.parent / other
    raise FileNotFoundError(
        f"the labels of '{images}' do not exist; put '{wanted[0]}' or '{wanted[1]}' beside it"
    )


def _opened(path: Path) -> IO[bytes]:
    """Open a file, whatever its name, as its first bytes say."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    opened: IO[bytes] = gzip.open(path) if packed else path.open("rb")  # type: ignore[assignment]  # noqa: SIM115
    return opened


def _header(stream: IO[bytes], path: Path, axes: int) -> tuple[int, ...]:
    """Return the sizes of the array in a file of bytes."""
    try:
        head = stream.read(4 + 4 * axes)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"the file '{path}' cannot be unpacked: {reason_of(error)}; fetch it again"
        ) from error
    if len(head) < 4 + 4 * axes or head[:4] != bytes((0, 0, 8, axes)):
        raise ValueError(
            f"the file '{path}' is no IDX file of bytes with {axes} axes: it begins with "
            f"{shortened(head[:4].hex(' '), 40) or 'nothing'}; fetch or save it again"
        )
    return tuple(np.frombuffer(head, ">u4", axes, 4).tolist())
