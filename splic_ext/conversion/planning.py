"""What a conversion will do: units counted, shards cut, the destination laid out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
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

__all__ = ["SHARD_SIZE", "Plan", "jobs_of", "look", "make_plan"]

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
        units = tuple(Unit.from_dict(unit) for unit in values["inputs"])
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
    look: Callable[[list[Unit]], Mapping[str, Any]],
) -> Plan:
    """Cut shards, and have somebody :func:`look` at the first images for what all share."""
    units = tuple(units)
    if not sum(unit.count for unit in units):
        raise ValueError(f"the source '{reader.place.text}' holds no image; check its path")
    shards = _cut(reader, units, to, shard_size)
    first = look(_first(units))
    shape, dtype = tuple(first["shape"]), first["dtype"]
    _check_arrays(reader, to, shape, dtype, first["label"])
    groups = len({unit.group for unit in units})
    layout = Layout(
        kind=to,
        source=reader.kind,
        encode=settings.encode,
        shape=shape,
        dtype=dtype,
        label=first["label"],
        classes=reader.classes,
        units=len(units),
        groups=groups,
    )
    return Plan(identity, layout, units, tuple(shards))


def jobs_of(plan: Plan, shards: Iterable[Shard], reader: Reader) -> Iterator[ShardJob]:
    """Yield what workers need for shards."""
    known = {unit.name: unit for unit in plan.units}
    png = plan.layout.kind == "folder" and plan.layout.encode == "png"
    for shard in shards:
        units = tuple(known[piece.unit] for piece in shard.pieces)
        names = None
        if isinstance(reader, FolderReader):
            names = tuple(
                tuple(name)
                for piece, unit in zip(shard.pieces, units, strict=True)
                for name in reader.names(unit, piece.start, piece.stop, png)
            )
        yield ShardJob(shard, units, names)


def _cut(reader: Reader, units: tuple[Unit, ...], to: str, size: int | None) -> list[Shard]:
    """Cut units into shards: as they are, or of one size, group by group."""
    shards: list[Shard] = []
    first = 0
    if size is None and reader.sharded and to != "cifar10":
        for unit in units:
            if unit.count:
                name = _plain(unit.name or reader.place.text.rpartition("/")[2])
                piece = Piece(unit.name, 0, unit.count)
                name = _as_images(name) if to == "npy" else name
                shards.append(Shard(len(shards), name, first, (piece,)))
            first += unit.count
        return _told_apart(shards)
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
    return _told_apart(shards)


def _told_apart(shards: list[Shard]) -> list[Shard]:
    """Raise if two shards have one name: one would take the place of the other."""
    twice = next((name for name, n in Counter(s.name for s in shards).items() if n > 1), None)
    if twice is not None:
        raise ValueError(
            f"the source has files, or groups of them, of which two shards would be named "
            f"'{twice}'; rename one, or convert its folders apart"
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
    name = group if to == "npy" and parts == 1 else f"{group}-{number:05}"
    return _as_images(name) if to == "npy" else name


def _as_images(name: str) -> str:
    """Return the name of a file of arrays.

    >>> _as_images("images-00000"), _as_images("a/train"), _as_images("images")
    ('images-00000', 'a/images-train', 'images')
    """
    folder, slash, base = name.rpartition("/")
    if base == "images" or base.startswith("images-"):
        return name
    return f"{folder}{slash}images-{base}"


def _plain(name: str) -> str:
    """Return the name of a file without the suffixes of archives and tables."""
    return re.sub(r"(\.tar|\.tar\.gz|\.tgz|\.parquet|\.npy)$", "", name, flags=re.IGNORECASE)


def _first(units: tuple[Unit, ...]) -> list[Unit]:
    """Return the units of the first images."""
    found, count = [], 0
    for unit in units:
        if unit.count and count < TRIED:
            found.append(unit)
            count += unit.count
    return found


def _check_arrays(
    reader: Reader, to: str, shape: tuple[int, ...], dtype: str, label: str | None
) -> None:
    """Refuse what arrays cannot hold, before each image is rejected for it."""
    if WRITERS[to].encoded:
        return
    if not shape:
        raise ValueError(
            f"none of the first {TRIED:,} images of '{reader.place.text}' can be read, so that the "
            "shape of an array is not known; mend them, or convert to tar"
        )
    if label == "text":
        raise ValueError(
            f"`to` '{to}' must have integer labels, got texts in '{reader.place.text}'; convert to "
            "tar, parquet or folder"
        )
    fits = shape[0] in (1, 3) and shape[1:] == (32, 32) and dtype == "uint8"
    if to == "cifar10" and not (fits and label):
        got = f"{' x '.join(map(str, shape))} of {dtype} {'with' if label else 'without'} labels"
        raise ValueError(
            f"`to` 'cifar10' must have labelled images 3 x 32 x 32 of uint8, got {got} in "
            f"'{reader.place.text}'; convert to npy"
        )


def look(
    reader: Reader,
    units: Iterable[Unit],
    settings: Settings,
    pixels: bool,
    poisoned: Mapping[int, str],
    mark: Callable[[int, int], None],
) -> dict[str, Any]:
    """Return shape and dtype of the first image that can be read, if `pixels`, and kind of label.

    `mark` and `poisoned` are as of a shard.
    """
    found: dict[str, Any] = {"shape": [], "dtype": "uint8", "label": None}
    labels: set[type] = set()
    if reader.classes is not None:
        found["label"] = "integer"
    if not pixels and (reader.classes is not None or isinstance(reader, FolderReader)):
        return found
    with no_pillow_limit():
        for index, item in enumerate(_items(reader, units)):
            labels.add(type(item.label))
            if not pixels or found["shape"] or index in poisoned:
                continue
            mark(index, 0)
            try:
                image = decode(item, settings).pixels
            except ImageFileError:
                continue
            mark(-1, 0)
            found |= {"shape": [image.shape[2], *image.shape[:2]], "dtype": image.dtype.name}
            if found["label"] is not None:
                break
    if found["label"] is None and labels & {int, str}:
        found["label"] = "text" if str in labels else "integer"
    return found


def _items(reader: Reader, units: Iterable[Unit]) -> Iterator[Item]:
    """Yield the first images."""
    left = TRIED
    for unit in units:
        yield from reader.read(unit, 0, min(unit.count, left))
        left -= min(unit.count, left)
        if not left:
            return
