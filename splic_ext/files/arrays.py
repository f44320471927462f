"""Array files (``.npy``, ``.npz``) and large images, completed piece by piece."""

from __future__ import annotations

import errno
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.arrays.dtypes import DTYPES
from splic_ext.arrays.memory import Memory
from splic_ext.arrays.views import channel_first, looks_channel_last
from splic_ext.common.checks import reason_of
from splic_ext.data.npz import MAX_BYTES, check_npy, check_unpacked, read_member
from splic_ext.options import MAX_SIDE

__all__ = [
    "ARRAY_SUFFIXES",
    "Calls",
    "Progress",
    "complete_images",
    "complete_npy",
    "complete_npz",
    "images_per_call",
    "tile_spans",
]

ARRAY_SUFFIXES = (".npy", ".npz")

#: Most images that go into one call of the solver, and about the most work.
CALL_IMAGES = 256
CALL_WORK = 1 << 25

#: Said of an array that is probably read in another way than it was meant.
LAST = "looks channel last; if so, give `channel_axis=-1`"

#: Completes a batch of shape (N, C, H, W) whose first image draws the mask of that index.
Solve = Callable[[npt.NDArray[Any], int], npt.NDArray[Any]]

#: Hears how many images were found, then how many are done; tiles count as parts of an image.
Progress = Callable[[int, float], None]


@dataclass(frozen=True)
class Calls:
    """How the pieces of a file are completed."""

    solve: Solve
    first_index: int  # of the first image, or tile, of each array
    progress: Progress
    threads: int  # of the solver; they decide on the size of the pieces, not on the result


@dataclass(frozen=True)
class _Piece:
    """Tiles of one shape from a run of images; more than one tile only of a single image."""

    offset: int
    images: slice
    tiles: list[tuple[slice, slice]]
    share: float


def tile_spans(length: int, limit: int = MAX_SIDE) -> list[slice]:
    """Cut a side into the fewest spans of at most `limit`, equal but for one pixel."""
    count = max(1, -(-length // limit))
    size, longer = divmod(length, count)
    edges = [i * size + min(i, longer) for i in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def images_per_call(channels: int, height: int, width: int, threads: int) -> int:
    """Return how many images keep the threads busy, and are so few that progress shows."""
    work = max(1, channels * height * width * min(height, width))  # of one step on one image
    return max(2 * threads, min(CALL_IMAGES, CALL_WORK // work))


def _pieces(shape: tuple[int, int, int, int], threads: int) -> Iterator[_Piece]:
    """Cut a batch into what one call of the solver takes.

    The offset of a tile is its number times `count`, plus the number of its image; tiles are
    numbered shape by shape, and row by row within a shape.
    """
    count, channels, height, width = shape
    by_shape: dict[tuple[int, int], list[tuple[slice, slice]]] = {}
    for rows in tile_spans(height):
        for columns in tile_spans(width):
            tile = (rows.stop - rows.start, columns.stop - columns.start)
            by_shape.setdefault(tile, []).append((rows, columns))
    n_tiles = sum(map(len, by_shape.values()))
    after = 0
    for tile, group in by_shape.items():
        step = images_per_call(channels, *tile, threads)
        first, after = after, after + len(group) * count
        if count == 1:
            for start in range(0, len(group), step):
                tiles = group[start : start + step]
                yield _Piece(first + start, slice(0, 1), tiles, len(tiles) / n_tiles)
            continue
        for number, tile_at in enumerate(group):
            for start in range(0, count, step):
                run = slice(start, min(start + step, count))
                offset = first + number * count + start
                yield _Piece(offset, run, [tile_at], (run.stop - start) / n_tiles)


def complete_images(images: npt.NDArray[Any], target: npt.NDArray[Any], calls: Calls) -> None:
    """Complete a batch of any length and size, strides and byte order, in memory or in a file.

    Images of a side above 512 pixels are cut into near-equal tiles of at most 512, which do not
    overlap. Image i of an untiled batch draws the mask of index ``first_index + i``; the tiles
    of a large image count on from `first_index`.
    """
    calls.progress(len(images), 0.0)
    for piece in _pieces(images.shape, calls.threads):
        parts = [images[piece.images, :, rows, columns] for rows, columns in piece.tiles]
        batch = np.concatenate(parts, dtype=images.dtype.newbyteorder("="))
        try:
            completed = calls.solve(batch, calls.first_index + piece.offset)
        except (ValueError, ArithmeticError) as error:  # they count images, or tiles, from 0
            text = ""
            if len(piece.tiles) > 1:
                text = f"{error} (tiles of one image, counted from tile {piece.offset})"
            elif piece.images.start > 0:
                text = f"{error} (counted from image {piece.images.start})"
            if text:
                raise _retold(error, text) from error
            raise
        size = len(parts[0])
        for i, (rows, columns) in enumerate(piece.tiles):
            target[piece.images, :, rows, columns] = completed[i * size : (i + 1) * size]
        calls.progress(0, piece.share)


def _retold(error: Exception, text: str) -> Exception:
    return ArithmeticError(text) if isinstance(error, ArithmeticError) else ValueError(text)


def complete_npy(source: Path, target: Path, calls: Calls, channel_axis: int = -3) -> list[str]:
    """Complete a ``.npy`` file into another of its shape, dtype and memory order; return notes.

    Both files are mapped, so that the array may be larger than the memory.
    """
    with _reading("a .npy file", "numpy.save"):
        check_npy(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it was saved by Python 2
            array = np.lib.format.open_memmap(source, mode="r")
    images = _images(array, channel_axis)
    _check_dtype(array)
    completed = np.lib.format.open_memmap(
        target,
        mode="w+",
        dtype=array.dtype,
        shape=array.shape,
        fortran_order=array.flags.fnc,
    )
    _allocate(target)
    complete_images(images, _images(completed, channel_axis), calls)
    completed.flush()
    return [LAST] if looks_channel_last(array.shape, channel_axis) else []


def complete_npz(
    source: Path,
    target: Path,
    calls: Calls,
    channel_axis: int = -3,
    max_bytes: int = MAX_BYTES,
) -> list[str]:
    """Complete the images of a ``.npz`` file; its other members stay as they are. Return notes.

    An archive that unpacks to more than `max_bytes` is refused before any of it is read.

    Images are the arrays of 3 or 4 axes of uint8, float16, float32 or float64: those of 2 axes
    are more often labels or tables.
    """
    found = []
    doubtful = False
    with _reading("a .npz archive", "numpy.savez"):
        archive = zipfile.ZipFile(source)
    with archive, zipfile.ZipFile(target, "w") as result:
        members = archive.infolist()
        names = [member.filename for member in members]
        problem = check_unpacked(members, max_bytes)
        if problem is None and len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            problem = f"holds {twice!r} twice; save it again with `numpy.savez`"
        if problem is not None:
            raise ValueError(problem)
        for member in members:
            name = member.filename.removesuffix(".npy")
            with _reading("a .npz archive", "numpy.savez"):
                entry = zipfile.ZipInfo(member.filename, member.date_time)
                entry.compress_type = member.compress_type
                content = None if name != member.filename else archive.read(member)
                array = read_member(archive, member) if content is None else np.empty(0)
            if content is not None:
                result.writestr(entry, content)
                continue
            if array.ndim in (3, 4) and array.dtype.name in DTYPES:
                completed = np.empty_like(array)
                images = _images(array, channel_axis)
                try:
                    complete_images(images, _images(completed, channel_axis), calls)
                except (ValueError, ArithmeticError) as error:
                    text = f"array {name!r} of the archive: {error}"
                    raise _retold(error, text) from error
                array = completed
                doubtful |= looks_channel_last(array.shape, channel_axis)
                count, channels, height, width = images.shape
                found.append(f"{name!r} ({count} x {channels} channels of {height} x {width})")
            with result.open(entry, "w", force_zip64=True) as out:
                np.lib.format.write_array(out, array, allow_pickle=False)
    notes = [f"completed {', '.join(found) or 'no array'}; the rest is copied"]
    return [*notes, LAST] if doubtful else notes


@contextmanager
def _reading(kind: str, saved: str) -> Iterator[None]:
    """Say of a damaged file what it should be; zipfile and NumPy raise nearly every type."""
    try:
        yield
    except MemoryError:
        raise
    except OSError as error:  # of the source, not of the output
        raise ValueError(f"cannot be read: {error.strerror or error}") from error
    except Exception as error:
        reason = reason_of(error)
        fix = "" if "; " in reason else f"; save it again with `{saved}`"
        error_type = zipfile.BadZipFile if isinstance(error, zipfile.BadZipFile) else ValueError
        raise error_type(f"cannot be read as {kind}: {reason}{fix}") from error


def _allocate(path: Path) -> None:
    """Claim the disk space of a sparse file: where it is mapped, a full disk ends the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise  # else a file system that cannot do it


def _images(array: npt.NDArray[Any], channel_axis: int) -> npt.NDArray[Any]:
    """Return a view of shape (N, C, H, W)."""
    return channel_first("array", Memory.of(array), channel_axis).numpy()


def _check_dtype(array: npt.NDArray[Any]) -> None:
    if array.dtype.name not in DTYPES:
        expected = "uint8, float16, float32 or float64"
        raise TypeError(f"array must be of {expected}, got {array.dtype}; convert it")
