"""A tree of image files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from splic_ext.common.checks import reason_of
from splic_ext.conversion.items import Item, Unit
from splic_ext.conversion.places import Entry, Place
from splic_ext.conversion.readers.base import Reader
from splic_ext.data.sources.folders import SPLITS
from splic_ext.files.images import IMAGE_SUFFIXES

__all__ = ["FolderReader"]


class FolderReader(Reader):
    """All images below a folder, sorted by their path.

    The folder of an image, or the one below that of its split, is its class. A unit stands for a
    split, or for all.
    """

    kind: ClassVar[str] = "folder"
    sharded: ClassVar[bool] = False

    def __init__(self, place: Place, max_bytes: int) -> None:
        super().__init__(place, max_bytes)
        self._found: list[Entry] | None = None
        self._splits: list[str] = []
        self._by_split: dict[str, list[Entry]] = {}
        self._as_png: dict[str, dict[str, str]] = {}

    def _files(self) -> list[Entry]:
        if self._found is None:
            self._found = [e for e in self.place.files() if _suffix(e.name) in IMAGE_SUFFIXES]
            tops = {entry.name.partition("/")[0] for entry in self._found}
            if tops and all(top.lower() in SPLITS for top in tops):
                self._splits = sorted(tops)
            names = {label for entry in self._found if (label := self._label(entry.name))}
            self.classes = tuple(sorted(names)) or None
        return self._found

    def _label(self, name: str) -> str | None:
        """Return the class of a file: the first folder that is not a split."""
        folders = name.split("/")[:-1]
        if self._splits:
            folders = folders[1:]
        return folders[0] if folders else None

    def entries(self) -> list[Entry]:
        """Return what stands for each split."""
        files = self._files()
        if not files:
            raise ValueError(
                f"the source '{self.place.text}' holds no image file, archive, Parquet or .npy "
                "file; check its path"
            )
        return [_whole(split, self._of(split)) for split in self._splits or [""]]

    def _of(self, split: str) -> list[Entry]:
        if split not in self._by_split:
            files = self._files()
            if split:
                files = [entry for entry in files if entry.name.startswith(f"{split}/")]
            self._by_split[split] = files
        return self._by_split[split]

    def scan(self, entry: Entry) -> Unit:
        """Count the images; the hash is that of their names, sizes and times."""
        count = len(self._of(entry.name))
        name = entry.name or "images"
        return Unit(entry.name, name, entry.size, entry.stamp, count, entry.stamp)

    def check(self, unit: Unit) -> None:
        """Do nothing: each image is checked when it is read."""

    def state(self) -> dict[str, Any]:
        """Return classes and splits."""
        return {**super().state(), "splits": self._splits}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take both up."""
        super().restore(state)
        self._splits = list(state["splits"])

    def names(self, unit: Unit, start: int, stop: int, png: bool = False) -> list[list[Any]]:
        """Return images of a unit as plain values, for a process that does not list them.

        The last is the key, which no other has where all become files of `png`.
        """
        files = self._of(unit.name)
        if png and unit.name not in self._as_png:
            self._as_png[unit.name] = _apart([entry.name for entry in files])
        others = self._as_png[unit.name] if png else {}
        return [
            [e.name, e.size, e.stamp, others.get(e.name, e.name.rpartition(".")[0])]
            for e in files[start:stop]
        ]

    def read(self, unit: Unit, start: int, stop: int) -> Iterator[Item]:
        """Yield images."""
        for values in self.names(unit, start, stop):
            yield self.one(*values)

    def one(self, name: str, size: int, stamp: str, key: str) -> Item:
        """Return an image file; with a problem if it cannot be read."""
        suffix = name.rpartition(".")[2]
        label = self._label(name)
        problem, content = None, None
        if size > self.max_bytes:
            problem = f"its {size:,} bytes are more than {self.max_bytes:,}"
        else:
            try:
                content = self.place.read(name)
            except OSError as error:
                if not isinstance(error, PermissionError):  # others may pass
                    self.failing(error)
                problem = f"it cannot be read: {error.strerror or reason_of(error)}"
            else:
                now = self.place.entry(name)
                if (now.size, now.stamp) != (size, stamp):
                    raise ValueError(
                        f"'{name}' of the source has changed under the run; put it back, or begin "
                        "anew with `overwrite=True`"
                    )
        return Item(key, content, suffix, label, problem=problem)


def _suffix(name: str) -> str:
    return f".{name.rpartition('.')[2].lower()}" if "." in name.rpartition("/")[2] else ""


def _apart(names: list[str]) -> dict[str, str]:
    """Return other keys for files that would have the same name as another if all were PNG.

    >>> _apart(["a.jpg", "a.png", "b.jpg"])
    {'a.jpg': 'a.jpg'}
    """
    taken = {name for name in names if _suffix(name) == ".png"}
    others = {}
    for name in names:
        if _suffix(name) == ".png":
            continue
        key = stem = name.rpartition(".")[0]
        while f"{key}.png" in taken:
            key = name if key == stem else f"{key}~"
        taken.add(f"{key}.png")
        if key != stem:
            others[name] = key
    return others


def _whole(name: str, files: list[Entry]) -> Entry:
    """Return what stands for files: their bytes, and a hash of their names, sizes and times."""
    digest = hashlib.sha256()
    for entry in files:
        digest.update(f"{entry.name}\0{entry.size}\0{entry.stamp}\n".encode("utf-8", "replace"))
    return Entry(name, sum(entry.size for entry in files), digest.hexdigest())
