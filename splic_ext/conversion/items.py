"""What goes through a conversion: images with what belongs to them, and shards to make of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy.typing as npt

__all__ = ["Item", "Piece", "Reject", "Shard", "Unit"]


@dataclass(frozen=True)
class Item:
    """An image of a source.

    Attributes
    ----------
    key : str
        Its name: the path below a folder without the suffix, the key in an archive, the row.
    image : bytes or ndarray of shape (C, H, W), or None
        An image file, or its pixels; None if there is a `problem`.
    suffix : str
        Of its file, such as "png", "" for pixels.
    label : int, str or None
        Its class, where the source says it.
    extra : mapping
        What else belongs to it: in an archive the other files, by suffix; of Parquet the batch and
        row that hold the other columns.
    problem : str or None
        Why it cannot be read.
    """

    key: str
    image: bytes | npt.NDArray[Any] | None
    suffix: str = ""
    label: int | str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class Unit:
    """A file of a source, or what stands for one, after it was looked through.

    `marks` are where each thousandth image of an archive begins, `twice` the images whose key
    comes again. The units of a `group` are cut together into shards, as those of a split are.
    """

    name: str
    group: str
    size: int
    stamp: str
    count: int
    sha256: str
    marks: tuple[int, ...] = ()
    twice: tuple[int, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Unit:
        """Return the unit of plain values."""
        return cls(**{**values, "marks": tuple(values["marks"]), "twice": tuple(values["twice"])})


@dataclass(frozen=True)
class Piece:
    """Images `start` to `stop` of a unit."""

    unit: str
    start: int
    stop: int


@dataclass(frozen=True)
class Shard:
    """A part of the destination: the images of the pieces, numbered from `first` on.

    `name` is of its file, without a suffix.
    """

    number: int
    name: str
    first: int
    pieces: tuple[Piece, ...]

    @property
    def count(self) -> int:
        """Number of images."""
        return sum(piece.stop - piece.start for piece in self.pieces)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Shard:
        """Return the shard of plain values."""
        pieces = tuple(Piece(**piece) for piece in values["pieces"])
        return cls(values["number"], values["name"], values["first"], pieces)


@dataclass(frozen=True, slots=True)
class Reject:
    """An image that is left out: its index, its key, and why."""

    index: int
    key: str
    reason: str
