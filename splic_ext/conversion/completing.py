"""Images in, completed images out: by the solver, or by a defence."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.conversion.items import Item
from splic_ext.conversion.settings import Settings
from splic_ext.files.arrays import Calls, complete_images, images_per_call
from splic_ext.files.images import (
    ImageFileError,
    Picture,
    encode_picture,
    is_plain,
    read_picture,
)
from splic_ext.files.plan import Job
from splic_ext.files.png import encode_plain, read_plain
from splic_ext.files.reporting import reason_of
from splic_ext.files.work import Loaded, complete_batch, complete_group, groups_of

__all__ = ["Completer", "Defend", "Done", "decode", "encode"]

#: Most images that a defence gets at a time, whatever the machine: its bits may depend on it.
BATCH = 64

#: What files of images say of an image that does not fit the memory.
_MEMORY = "not enough memory"

#: The path of an image that is no file.
_NAMELESS = Path("image")

#: Format -> the suffix of its files; and other suffixes of theirs.
_SUFFIXES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif"}
_SAME = {"jpeg": "jpg", "tiff": "tif"}

Pixels = npt.NDArray[Any]

#: Takes (N, H, W, C), the indices of the images and their data range; returns the same.
Defend = Callable[[Pixels, Sequence[int], "float | None"], Pixels]


@dataclass(frozen=True)
class Done:
    """An image that went through: `pixels` (H, W, C), or the reason why there are none.

    `content` is its file, where that is made already.
    """

    index: int
    item: Item
    picture: Picture
    pixels: Pixels | str
    content: bytes | None = None


class Completer:
    """Collects images until there are enough for a call; they come out in their order.

    If `encoded`, with the files of those that are written as plain PNG.
    """

    def __init__(
        self, settings: Settings, defend: Defend | None = None, *, encoded: bool = False
    ) -> None:
        self._settings, self._job, self._defend = settings, settings.job, defend
        self._encoded = encoded
        self._window: list[tuple[Loaded, Item]] = []
        self._share = 0.0

    def put(self, index: int, item: Item, picture: Picture) -> Iterator[Done]:
        """Take an image, and yield those that are finished."""
        loaded = Loaded(Job(index, _NAMELESS, _NAMELESS), picture)
        if self._defend is None and loaded.is_large:
            yield from self.flush()
            yield Done(index, item, picture, self._large(loaded))
            return
        self._window.append((loaded, item))
        height, width, channels = picture.pixels.shape
        threads = self._settings.threads if self._defend is None else 1
        self._share += 1 / images_per_call(channels, height, width, threads)
        if self._share >= 1 or len(self._window) >= 4 * BATCH:
            yield from self.flush()

    def flush(self) -> Iterator[Done]:
        """Yield what is left."""
        window, self._window, self._share = self._window, [], 0.0
        items = {loaded.job.index: item for loaded, item in window}
        for group in groups_of([loaded for loaded, _ in window]):
            made = self._group(group)
            if any(isinstance(pixels, str) and pixels.startswith(_MEMORY) for pixels in made):
                raise MemoryError
            files = self._files(group, made) if self._encoded else {}
            for loaded, pixels in zip(group, made, strict=True):
                index = loaded.job.index
                yield Done(index, items[index], loaded.picture, pixels, files.get(index))

    def _files(self, group: list[Loaded], made: list[Pixels | str]) -> dict[int, bytes]:
        """Return files of images of one shape, by index."""
        plain = [
            (loaded.job.index, pixels)
            for loaded, pixels in zip(group, made, strict=True)
            if not isinstance(pixels, str) and is_plain(loaded.picture)
        ]
        contents = encode_plain([pixels for _, pixels in plain]) if plain else []
        return {index: content for (index, _), content in zip(plain, contents, strict=True)}

    def _group(self, group: list[Loaded]) -> list[Pixels | str]:
        """Complete images of one kind; if that fails one by one, so that only the culprits fail."""
        defend = self._defend
        if defend is None:
            return complete_group(group, self._settings.threads, self._job)
        done: list[Pixels | str] = []
        for start in range(0, len(group), BATCH):
            part = group[start : start + BATCH]
            try:
                batch = np.stack([loaded.picture.pixels for loaded in part])
                indices = [loaded.job.index for loaded in part]
                done += list(defend(batch, indices, part[0].picture.data_range))
            except MemoryError:
                raise
            except Exception as error:  # whatever it is, the other images go on
                if len(part) == 1:
                    done.append(reason_of(error))
                else:
                    done += [result for one in part for result in self._group([one])]
        return done

    def _large(self, loaded: Loaded) -> Pixels | str:
        """Complete an image tile by tile."""
        picture, job = loaded.picture, self._job
        target = np.empty_like(picture.pixels)
        planes, into = (np.moveaxis(p, -1, 0)[None] for p in (picture.pixels, target))

        def solve(batch: Pixels, first_index: int) -> Pixels:
            last = np.moveaxis(batch, 1, -1)
            threads, most = self._settings.threads, picture.data_range
            return np.moveaxis(complete_batch(last, first_index, threads, most, job), -1, 1)

        def progress(images: int, parts: float) -> None:
            """Tell nobody."""

        try:
            complete_images(
                planes, into, Calls(solve, loaded.job.index, progress, self._settings.threads)
            )
        except MemoryError:
            raise
        except Exception as error:  # whatever it is, the other images go on
            return reason_of(error)
        return target


def decode(item: Item, settings: Settings) -> Picture:
    """Return the pixels of an image.

    Raises
    ------
    ImageFileError
        It cannot be read; the message says why.
    MemoryError
        There is too little memory, which is not the fault of the image.
    """
    if item.problem is not None or item.image is None:
        raise ImageFileError(item.problem or "it has no image")
    if isinstance(item.image, bytes):
        plain = read_plain(item.image, settings.max_pixels)
        if plain is not None:
            return Picture(plain, None, "L" if plain.shape[-1] == 1 else "RGB", "PNG")
        try:
            picture = read_picture(
                io.BytesIO(item.image), max_pixels=settings.max_pixels, quality=settings.quality
            )
        except ImageFileError as error:
            if str(error).startswith(_MEMORY):
                raise MemoryError from None
            raise
        return picture if settings.encode == "keep" else as_png(picture)
    pixels = np.moveaxis(item.image, 0, -1)
    mode = {1: "L", 3: "RGB"}.get(pixels.shape[-1], "")
    if pixels.dtype != np.uint8:
        mode = ""
    return Picture(np.ascontiguousarray(pixels), None, mode, "PNG")


def as_png(picture: Picture) -> Picture:
    """Return a picture that is written as PNG, with its colour profile and resolution."""
    kept = {k: v for k, v in picture.save_options.items() if k in ("icc_profile", "exif", "dpi")}
    return replace(picture, format="PNG", save_options=kept)


def encode(done: Done) -> tuple[bytes, str]:
    """Return a completed image as a file, and its suffix.

    Raises
    ------
    ImageFileError
        It has no file format: it is an array of floats, or of other channels.
    """
    picture = done.picture
    if not picture.mode:
        raise ImageFileError(
            f"an array of {picture.pixels.dtype} with {picture.pixels.shape[-1]} channels has no "
            "image format; convert it to npy"
        )
    if picture.format == "PNG" and picture.mode in ("CMYK", "F"):
        raise ImageFileError(f"pixels of {picture.mode} cannot be written as PNG")
    assert not isinstance(done.pixels, str)
    content = done.content
    if content is None:
        stream = io.BytesIO()
        encode_picture(picture, done.pixels, stream)
        content = stream.getvalue()
    suffix = done.item.suffix
    if not suffix or not isinstance(done.item.image, bytes):
        return content, "png"
    own, last = _SUFFIXES[picture.format], suffix.rpartition(".")[2].lower()
    if _SAME.get(last, last) == own:
        return content, suffix
    return content, f"{suffix[: -len(last)]}{own}"
