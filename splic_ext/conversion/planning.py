"""What a conversion will do: units counted, shards cut, the destination laid out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from splic_ext.conversion.completing import decode
from splic_ext.conversion.items import Item, Piece, Shard, Unit
from splic_ext.conversion.readers.base import Reader
from splic_ext.conversion.readers.folder import FolderReader
from splic_ext.conversion.settings import Settings
from splic_ext.conversion.shards import ShardJob
from splic_ext.conversion.writers.base import Layout
from splic_ext.conversion.writers.choosing import WRITERS
from splic_ext.files.images import ImageFileError, no_pillow_limit

__all__ = ["SHARD_SIZE", "Plan", "job_of", "make_plan"]

#: Images of a shard, where the source has none.
SHARD_SIZE = 10_000

#: So many images are tried for the shape and the labels of all.
TRIED = 1000


@dataclass(frozen=True)
class Plan:
    """What a conversion does, as its manifest says it."""

    identity: dict[str, Any]
    layout: Layout
    units: tuple[Unit, ...]
    shards: tuple[Shard, ...]

    @property
    def count(self) -> int:
        """Number of images."""
        return sum(unit.count for unit in self.units)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "identity": self.identity,
            "layout": self.layout.to_dict(),
            "inputs": [asdict(unit) for unit in self.units],
            "shards": [shard.to_dict() for shard in self.shards],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """Return the plan of plain values."""
        units = tuple(
            Unit(**{**unit, "marks": tuple(unit["marks"]), "twice": tuple(unit["twice"])})
            for unit in values["inputs"]
        )
        shards = tuple(Shard.from_dict(shard) for shard in values["shards"])
        return cls(values["identity"], Layout.from_dict(values["layout"]), units, shards)


def make_plan(
    reader: Reader,
    units: Iterable[Unit],
    *,
    to: str,
    shard_size: int | None,
    settings: Settings,
    identity: dict[str, Any],
) -> Plan:
    """Cut shards, and look at the first images for what all have in common."""
    units = tuple(units)
    if not sum(unit.count for unit in units):
        raise ValueError(f"the source '{reader.place.text}' holds no image; check its path")
    shards = _cut(reader, units, to, shard_size)
    layout = _layout(reader, units, to, settings)
    return Plan(identity, layout, units, tuple(shards))


def job_of(plan: Plan, shard: Shard, reader: Reader) -> ShardJob:
    """Return what a worker needs for a shard."""
    known = {unit.name: unit for unit in plan.units}
    units = tuple(known[piece.unit] for piece in shard.pieces)
    names = None
    if isinstance(reader, FolderReader):
        names = tuple(
            tuple(name)
            for piece, unit in zip(shard.pieces, units, strict=True)
            for name in reader.names(unit, piece.start, piece.stop)
        )
    return ShardJob(shard, units, names)


def _cut(reader: Reader, units: tuple[Unit, ...], to: str, size: int | None) -> list[Shard]:
    """Cut units into shards: as they are, or of one size, group by group."""
    shards: list[Shard] = []
    first = 0
    if size is None and reader.sharded and to != "cifar10":
        for unit in units:
            if unit.count:
                name = _plain(unit.name or reader.place.text.rpartition("/")[2])
                piece = Piece(unit.name, 0, unit.count)
                shards.append(Shard(len(shards), name, first, (piece,)))
            first += unit.count
        return shards
    size = size or SHARD_SIZE
    for group, members in groupby(units, key=lambda unit: unit.group):
        inside = list(members)
        total = sum(unit.count for unit in inside)
        parts = -(-total // size)
        for number in range(parts):
            pieces = _pieces(inside, number * size, min(total, (number + 1) * size))
            name = _name(group, number, parts, to)
            shards.append(Shard(len(shards), name, first + number * size, pieces))
        first += total
    names = [shard.name for shard in shards]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"the source has two groups of shards that would be named '{twice}'; convert its "
            "folders apart"
        )
    return shards


def _pieces(units: list[Unit], start: int, stop: int) -> tuple[Piece, ...]:
    """Return the parts of units that are images `start` to `stop` of their group."""
    pieces, before = [], 0
    for unit in units:
        low, high = max(start - before, 0), min(stop - before, unit.count)
        if low < high:
            pieces.append(Piece(unit.name, low, high))
        before += unit.count
    return tuple(pieces)


def _name(group: str, number: int, parts: int, to: str) -> str:
    """Return the name of a shard, without suffix."""
    if to == "cifar10":
        test = group.rpartition("/")[2].lower() in ("test", "val", "validation")
        return "test_batch" if test and parts == 1 else f"data_batch_{number + 1}"
    if to == "parquet":
        return f"{group}-{number:05}-of-{parts:05}"
    if to == "npy" and parts == 1:
        return group
    return f"{group}-{number:05}"


def _plain(name: str) -> str:
    """Return the name of a file without the suffixes of archives and tables."""
    return re.sub(r"(\.tar|\.tar\.gz|\.tgz|\.parquet|\.npy)$", "", name, flags=re.IGNORECASE)


def _layout(reader: Reader, units: tuple[Unit, ...], to: str, settings: Settings) -> Layout:
    """Look at the first image that can be read."""
    shape: tuple[int, ...] = ()
    dtype, label = "uint8", None
    with no_pillow_limit():
        for item in _first(reader, units):
            try:
                picture = decode(item, settings)
            except ImageFileError:
                continue
            pixels = picture.pixels
            shape, dtype = (pixels.shape[2], *pixels.shape[:2]), pixels.dtype.name
            label = _kind(item.label, reader.classes)
            break
    if not shape and not WRITERS[to].encoded:
        raise ValueError(
            f"none of the first {TRIED:,} images of '{reader.place.text}' can be read, so that the "
            "shape of an array is not known; mend them, or convert to tar"
        )
    return Layout(to, reader.kind, settings.encode, shape, dtype, label, reader.classes, len(units))


def _kind(label: int | str | None, classes: tuple[str, ...] | None) -> str | None:
    if label is None:
        return None
    return "integer" if isinstance(label, int) or label in (classes or ()) else "text"


def _first(reader: Reader, units: tuple[Unit, ...]) -> Iterable[Item]:
    """Yield the first images."""
    left = TRIED
    for unit in units:
        if unit.count and left:
            yield from reader.read(unit, 0, min(unit.count, left))
            left -= min(unit.count, left)
