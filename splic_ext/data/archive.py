"""Data sets in ``.npz`` archives: arrays of pixels, or files in JPEG's format."""

from __future__ import annotations

import io
import lzma
import warnings
import zipfile
from importlib import import_module
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.common.checks import check_labels, reason_of, shortened
from splic_ext.common.optional import optional
from splic_ext.data.arrays import ROUNDED, bytes_of, channels_first, layout_of
from splic_ext.data.dataset import Dataset
from splic_ext.data.npz import MAX_BYTES, check_unpacked, read_member, too_large
from splic_ext.errors import MissingExtraError

__all__ = ["load_archive"]

#: Names of the arrays of images and of labels.
PLAIN = (("x", "y"), ("images", "labels"), ("data", "labels"))
PACKED = {"jpeg_xz", "offsets", "labels"}

_KNOWN = {*(name for pair in PLAIN for name in pair), *PACKED, "classes"}

#: Most memory that LZMA may take for its dictionary.
LZMA_BYTES = 2**28

Content = dict[str, npt.NDArray[Any]]


class _TooLargeError(ValueError):
    """An archive that unpacks to more than the limit."""


def load_archive(path: Path, *, limit: int | None = None, max_bytes: int = MAX_BYTES) -> Dataset:
    """Read the first images of a ``.npz`` archive, as a data set that is named after the file.

    It holds `x`, uint8 or floats in [0, 1], of shape (N, C, H, W), (N, H, W, C) or (N, H, W), and
    `y`, integers of shape (N,), or the same as `images` or `data` and `labels`; or colour images of
    one size as JPEG files: `jpeg_xz`, uint8, all files one after the other, compressed with LZMA;
    `offsets` of shape (N + 1,), where each begins, and the end; `labels` of shape (N,). `classes`,
    names of shape (K,), is optional; without it class names are numbers. Other arrays are not read.
    An archive that unpacks to more than `max_bytes` is refused before anything is read.
    """
    try:
        content, names = _read(path, max_bytes)
    except (MemoryError, _TooLargeError):
        raise
    except Exception as error:  # of any type: the content of a damaged file is anything
        raise ValueError(
            f"the file '{path}' is no .npz archive that can be read: {reason_of(error)}; "
            "make it anew with `numpy.savez(path, x=images, y=labels)`"
        ) from error
    pair = next((pair for pair in PLAIN if content.keys() >= set(pair)), None)
    if pair is None and not content.keys() >= PACKED:
        raise ValueError(
            f"the archive '{path}' must hold the arrays x and y, images and labels, or "
            f"jpeg_xz, offsets and labels, got {shortened(', '.join(names), 200) or 'none'}; "
            "save it with `numpy.savez(path, x=images, y=labels)`"
        )
    try:
        if pair is not None:
            layout_of(content[pair[0]].shape)
        labels = check_labels(content["labels" if pair is None else pair[1]])
        classes = _classes(content, labels)
        if pair is None:
            images = _decode(content, limit, path, max_bytes)
        else:
            images = _plain(content[pair[0]], limit, path)
        return Dataset(path.stem, images, labels[:limit], classes)
    except (MemoryError, MissingExtraError, _TooLargeError):
        raise
    except Exception as error:  # of any type, from LZMA and Pillow
        raise ValueError(
            f"the archive '{path}' holds no data set: {reason_of(error, 500)}"
        ) from error


def _read(path: Path, max_bytes: int) -> tuple[Content, list[str]]:
    """Return the arrays of a data set, and the names of all."""
    content: Content = {}
    with zipfile.ZipFile(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        wanted = {name: members[name] for name in members if name in _KNOWN}
        _refuse(path, check_unpacked(wanted.values(), max_bytes))
        for name, member in wanted.items():
            content[name] = read_member(archive, member)
    return content, list(members)


def _refuse(path: Path, problem: str | None) -> None:
    if problem is not None:
        message = f"the archive '{path}' {problem}"
        raise _TooLargeError(message)


def _plain(images: npt.NDArray[Any], limit: int | None, path: Path) -> npt.NDArray[np.uint8]:
    """Return images of an array, and warn if some are rounded."""
    made, rounded = bytes_of(channels_first(images[:limit], layout_of(images.shape)))
    if rounded:
        warnings.warn(f"{ROUNDED} in the file '{path}'", stacklevel=5)
    return made


def _classes(content: Content, labels: npt.NDArray[Any] | None) -> tuple[str, ...]:
    if "classes" in content:
        return tuple(map(str, np.atleast_1d(content["classes"]).tolist()))
    count = 0 if labels is None or labels.size == 0 else int(labels.max()) + 1
    return tuple(map(str, range(min(count, 2**20))))


def _decode(
    content: Content, limit: int | None, path: Path, max_bytes: int
) -> npt.NDArray[np.uint8]:
    with optional("`load_dataset`", "data", "PIL"):
        pillow: Any = import_module("PIL.Image")
    packed = lzma.LZMADecompressor(memlimit=LZMA_BYTES)
    files = packed.decompress(content["jpeg_xz"].tobytes(), max_bytes + 1)
    _refuse(path, too_large(len(files), max_bytes))
    if not packed.eof:
        raise ValueError("it ends within a stream of LZMA")
    size = 0
    offsets = [int(offset) for offset in content["offsets"]]
    images = []
    for begin, end in islice(pairwise(offsets), limit):
        with pillow.open(io.BytesIO(files[begin:end]), formats=["JPEG"]) as image:
            size += 3 * image.width * image.height
            _refuse(path, too_large(size, max_bytes))
            images.append(np.asarray(image.convert("RGB"), dtype=np.uint8).transpose(2, 0, 1))
    return np.stack(images)
