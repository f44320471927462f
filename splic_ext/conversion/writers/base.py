"""What every writer of a shard is, and what the destination looks like."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from splic_ext.common.checks import printable, shortened
from splic_ext.conversion.items import Item, Shard
from splic_ext.conversion.places import Place
from splic_ext.conversion.readers.base import sha256_of

__all__ = ["MANIFEST", "REJECTS", "WORK", "Layout", "Made", "RejectedError", "Writer"]

#: Names in a destination that no image may have.
MANIFEST, REJECTS = "manifest.json", "rejects.jsonl"


#: The folder of what is not finished: the plan, a record of each finished shard, and the names of
#: the files of those that were begun.
WORK = ".splic-convert"


class RejectedError(ValueError):
    """An image that does not fit the destination; the message says why."""


@dataclass(frozen=True)
class Layout:
    """What the destination looks like, as all shards need to know.

    Attributes
    ----------
    kind : str
        "folder", "tar", "parquet", "npy" or "cifar10".
    source : str
        Kind of the source.
    encode : str
        "keep", or "png": the format of image files.
    shape, dtype : tuple of int, str
        Of an image (C, H, W), for arrays.
    label : str or None
        "integer", "text", or None where the first image has no label.
    classes : tuple of str or None
        Names of the classes.
    units, groups : int
        How many units the source has, and how many groups of them.
    """

    kind: str
    source: str
    encode: str
    shape: tuple[int, ...]
    dtype: str
    label: str | None
    classes: tuple[str, ...] | None
    units: int
    groups: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Layout:
        """Return the layout of plain values."""
        made = dict(values)
        made["shape"] = tuple(made["shape"])
        made["classes"] = None if made["classes"] is None else tuple(made["classes"])
        return cls(**made)

    def number(self, label: int | str | None) -> int | str | None:
        """Return the index of a class that has a name, else the label itself."""
        if isinstance(label, str) and self.classes is not None and label in self.classes:
            return self.classes.index(label)
        return label

    def integer(self, label: int | str | None) -> int | None:
        """Return a label as an integer; None if there is none."""
        number = self.number(label)
        if isinstance(number, str):
            raise RejectedError(f"its label {number[:80]!r} is no integer, as that of the first is")
        return number


@dataclass(frozen=True, slots=True)
class Made:
    """A file of a shard: its name in the destination, its bytes, its SHA-256."""

    name: str
    size: int
    sha256: str

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Made:
        """Return the file of plain values, which must lie in the destination."""
        return cls(**values).checked()

    def checked(self) -> Made:
        """Return itself; raise a ValueError if it does not lie in the destination."""
        if self.name.startswith("/") or {"", ".."} & set(self.name.split("/")):
            raise ValueError(f"it names a file elsewhere, {shortened(printable(self.name))!r}")
        return self


class Writer(ABC):
    """A shard that is being written: its files appear at the end, if nothing fails."""

    #: Whether images are written as files; else as arrays (C, H, W).
    encoded: ClassVar[bool] = True

    def __init__(self, place: Place, shard: Shard, layout: Layout, schema: Any = None) -> None:
        self.place, self.shard, self.layout, self.schema = place, shard, layout, schema
        self.made: list[Made] = []
        self._stack = ExitStack()

    def __enter__(self) -> Writer:
        self.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.finish()
        except BaseException as failed:
            if not self._stack.__exit__(type(failed), failed, failed.__traceback__):
                raise
        else:
            self._stack.__exit__(kind, error, trace)

    def begun(self, name: str) -> None:
        """Note a file that is about to be made, for who may have to remove it after a kill."""
        if self.place.local:
            self.place.append(begun_of(self.shard.number), f"{json.dumps(name)}\n".encode())

    def path_of(self, name: str) -> Any:
        """Return a path to write, which becomes a file of the destination at the end."""
        self.begun(name)
        return self._stack.enter_context(self.place.writing(name, durable=True))

    def note(self, name: str, path: Any) -> None:
        """Take up a file that is finished."""
        with path.open("rb") as file:
            sha256 = sha256_of(file)
        self.made.append(Made(name, path.stat().st_size, sha256))

    @abstractmethod
    def begin(self) -> None:
        """Open the files."""

    @abstractmethod
    def add(self, index: int, item: Item, image: bytes | npt.NDArray[Any], suffix: str) -> None:
        """Write an image: a file with its suffix, or an array (C, H, W)."""

    @abstractmethod
    def finish(self) -> None:
        """Close the files and note their hashes."""


def begun_of(number: int) -> str:
    """Return the file that names the files of a shard that was begun."""
    return f"{WORK}/{number:07}.begun"


def digest_of(image: bytes | npt.NDArray[Any]) -> bytes:
    """Return the SHA-256 of an image."""
    if isinstance(image, bytes):
        return hashlib.sha256(image).digest()
    return hashlib.sha256(np.ascontiguousarray(image).data).digest()
