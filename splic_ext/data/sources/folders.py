"""A folder for each class, as torchvision's ImageFolder reads it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from splic_ext.common.checks import printable, reason_of, shortened
from splic_ext.data.pictures import SUFFIXES
from splic_ext.data.sources.base import Sample, Source

__all__ = ["SPLITS", "FolderSource", "split_folders", "subfolders"]

#: Folders of these names hold a split each, if there are no others beside them.
SPLITS = ("train", "training", "test", "testing", "val", "valid", "validation", "extra")

#: Folders in folders in that of a class.
MOST_DEEP = 16

_OTHERS = "files of other kinds are passed over"
_HIDDEN = "hidden files are passed over"
_OUTSIDE = "files are in no folder of a class and are passed over"


def subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; not those that are hidden."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not _is_hidden(e.name))


def split_folders(folder: Path) -> dict[str, Path]:
    """Return the folders of splits, by their names in small letters; none if there are others."""
    names = subfolders(folder)
    if not names or not all(name.lower() in SPLITS for name in names):
        return {}
    return {name.lower(): folder / name for name in names}


class FolderSource(Source):
    """Images in folders that are named after their classes, in turn one of each class.

    So the first images are of all classes. Classes are numbered in the order of their names as
    texts, as ImageFolder does; where there are several splits, those of all of them count.
    """

    def __init__(
        self, place: Path, name: str, others: tuple[Path, ...] = (), max_bytes: int = 2**31
    ) -> None:
        own = subfolders(place)
        classes = sorted({*own, *(name for other in others for name in subfolders(other))})
        if not own:
            raise ValueError(
                f"the folder '{place}' holds no images in folders of their classes; expected "
                f"'{place / 'CLASS' / 'IMAGE.png'}' for at least two classes, or files of "
                "CIFAR-10, .npy, IDX, Parquet or WebDataset"
            )
        if len(classes) < 2:
            raise ValueError(
                f"the folder '{place}' holds the one class '{_shown(classes[0])}', expected a "
                "folder for each of at least two classes; give the folder above it, or put the "
                "images of the other classes beside it"
            )
        self._max_bytes = max_bytes
        self._files: list[tuple[str, int, list[str]]] = []
        self._met: list[tuple[str, str]] = []
        for label, kind in enumerate(classes):
            files = []
            if kind in own:
                files = sorted(self._walk(place, kind, frozenset()))
                if not files:
                    self._met.append(("folders of classes hold no image", kind))
            self._files.append((kind, label, files))
        with os.scandir(place) as entries:
            outside = sorted(e.name for e in entries if not e.is_dir() and not _is_hidden(e.name))
        self._met += [(_OUTSIDE, name) for name in outside]
        super().__init__(place, name, tuple(classes), sum(len(f) for *_, f in self._files))
        if self.count == 0:
            raise ValueError(
                f"the folder '{place}' holds no image in the folders of its {len(classes)} "
                f"classes; expected files such as '{place / _shown(classes[0]) / 'IMAGE.png'}'"
            )

    def _walk(self, place: Path, folder: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
        """Yield the images below a folder, as paths below the place."""
        status = (place / folder).stat()
        here = status.st_dev, status.st_ino
        if here in above or len(above) > MOST_DEEP:
            self._met.append(("folders lead back to those above or are too deep", folder))
            return
        with os.scandir(place / folder) as entries:
            found = [(entry.name, entry.is_dir()) for entry in entries]
        for name, is_folder in found:
            path = f"{folder}/{name}"
            if _is_hidden(name):
                self._met.append((_HIDDEN, path))
            elif is_folder:
                yield from self._walk(place, path, above | {here})
            elif os.path.splitext(name)[1].lower() in SUFFIXES:  # noqa: PTH122 - of many files
                yield path
            else:
                self._met.append((_OTHERS, path))

    def _samples(self) -> Iterator[Sample]:
        for what, key in self._met:
            self.note(what, key)
        for row in zip_longest(*(files for *_, files in self._files)):
            for label, key in enumerate(row):
                if key is not None:
                    content = self._content(key)
                    if content is not None:
                        yield Sample(key, content, label)

    def _content(self, key: str) -> bytes | None:
        """Return what a file holds; of one that cannot be read, put it on the list."""
        path = self.place / key
        try:
            if not path.is_file():  # a pipe would be waited for
                raise ValueError("it is no file, or a link to none")
            size = path.stat().st_size
            if size > self._max_bytes:
                raise ValueError(f"its {size:,} bytes are more than {self._max_bytes:,}")
            return path.read_bytes()
        except (OSError, ValueError) as error:
            self.leave_out(key, getattr(error, "strerror", None) or reason_of(error, 120))
            return None


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _shown(name: str) -> str:
    return shortened(printable(name))
