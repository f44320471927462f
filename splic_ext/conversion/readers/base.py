"""What every reader of a data set is: units that are counted, and read from any image on."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import IO, Any, ClassVar

from splic_ext.conversion.items import Item, Unit
from splic_ext.conversion.places import Entry, Place

__all__ = ["Hashed", "Reader", "group_of", "sha256_of"]

#: Bytes that are hashed at a time.
BLOCK = 2**20

#: How the number of a shard ends its name: ``train-00000-of-00002``, ``mine_07``.
_NUMBER = re.compile(r"(?P<group>.*?)[-_.]?\d+(-of-\d+)?")


class Reader(ABC):
    """A data set at a place.

    Attributes
    ----------
    kind : str
        "folder", "tar", "parquet", "npy" or "dataset".
    place : Place
    max_bytes : int
        Most bytes of a file in memory, of what a compressed archive unpacks to, and of a row group.
    classes : tuple of str or None
        Names of the classes, where the source has them.
    schema : object or None
        Columns of a table, by Arrow.
    sharded : bool
        Whether units are shards, which a conversion keeps unless told otherwise.
    skipping : bool
        Whether images on a disk that fails are listed, as damaged ones are; else they raise.
    """

    kind: ClassVar[str]
    sharded: ClassVar[bool] = True

    def __init__(self, place: Place, max_bytes: int) -> None:
        self.place, self.max_bytes = place, max_bytes
        self.classes: tuple[str, ...] | None = None
        self.schema: Any = None
        self.skipping = False

    def failing(self, error: BaseException | None) -> None:
        """Raise an error of a disk or a network, unless what it hides is listed.

        It may pass; errors of damaged files have no number.
        """
        if not self.skipping and isinstance(error, OSError) and error.errno is not None:
            raise error

    def hash_of(self, file: Hashed) -> str:
        """Return the hash of a file that is read; "" if it cannot be read to its end."""
        try:
            return file.finish()
        except OSError as error:
            self.failing(error)
            return ""

    @abstractmethod
    def entries(self) -> list[Entry]:
        """Return the files that are units, in their order."""

    @abstractmethod
    def scan(self, entry: Entry) -> Unit:
        """Look through a unit: count its images, and hash it."""

    @abstractmethod
    def read(self, unit: Unit, start: int, stop: int) -> Iterator[Item]:
        """Yield images of a unit, one for each index: with a problem where there is none."""

    def state(self) -> dict[str, Any]:
        """Return what another process needs to read the same, as plain values."""
        return {"classes": self.classes}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state` returned."""
        classes = state["classes"]
        self.classes = None if classes is None else tuple(classes)

    def check(self, unit: Unit) -> None:
        """Raise a ValueError if a unit is not what it was when it was looked through."""
        now = self.place.entry(unit.name)
        if (now.size, now.stamp) != (unit.size, unit.stamp):
            raise ValueError(
                f"'{unit.name or self.place.text}' of the source has changed under the run; put it "
                "back, or begin anew with `overwrite=True`"
            )


def group_of(name: str) -> str:
    """Return what a file shares with the other shards of its split.

    >>> group_of("data/train-00000-of-00002.parquet"), group_of("val/00017.tar.gz")
    ('data/train', 'val/shard')
    """
    folder, slash, base = name.rpartition("/")
    stem = base.partition(".")[0]
    found = _NUMBER.fullmatch(stem)
    return f"{folder}{slash}{(found['group'] if found else stem) or 'shard'}"


class Hashed:
    """A file that is read from the front to its end, and hashed on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest, self._read = file, hashlib.sha256(), 0
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        """Read, and hash what is read for the first time."""
        content = self._file.read(size)
        fresh = self._at + len(content) - self._read
        if fresh > 0:
            self._digest.update(content[len(content) - fresh :])
            self._read += fresh
        self._at += len(content)
        return content

    def seek(self, at: int, whence: int = 0) -> int:
        """Go back: what was read is not hashed again."""
        self._at = self._file.seek(at, whence)
        return self._at

    def tell(self) -> int:
        """Return where it is."""
        return self._at

    def readable(self) -> bool:
        """Say yes."""
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._file.closed

    def finish(self) -> str:
        """Read to the end, and return the hash of all."""
        self.seek(self._read)
        while self.read(BLOCK):
            pass
        return self._digest.hexdigest()


def sha256_of(file: IO[bytes]) -> str:
    """Return the hash of an open file."""
    return Hashed(file).finish()
