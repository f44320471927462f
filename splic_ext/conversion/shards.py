"""One shard: read, completed, written, and described by a record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from splic_ext.common.checks import printable, shortened
from splic_ext.conversion.completing import Completer, Done, decode, encode
from splic_ext.conversion.items import Item, Reject, Shard, Unit
from splic_ext.conversion.places import Place
from splic_ext.conversion.readers.base import Reader
from splic_ext.conversion.readers.folder import FolderReader
from splic_ext.conversion.settings import Settings
from splic_ext.conversion.writers.base import Layout, Made, RejectedError, Writer
from splic_ext.conversion.writers.choosing import WRITERS
from splic_ext.files.images import ImageFileError, no_pillow_limit

__all__ = ["Record", "ShardJob", "StrictError", "make_shard"]

#: Most of a reason that is kept.
MOST_REASON = 300


class SourceError(ValueError):
    """The source cannot be read any more, which is not the fault of one image."""


class StrictError(ValueError):
    """An image was rejected where none may be."""


@dataclass(frozen=True)
class Record:
    """What a finished shard is.

    Attributes
    ----------
    number, name, first : int, str, int
        As of :class:`Shard`.
    count, written : int
        Images that were read, and that were written.
    input_sha256 : str
        Of the keys and images that were read, in their order.
    files : tuple of Made
        What was written.
    rejects : tuple of Reject
        What was left out.
    """

    number: int
    name: str
    first: int
    count: int
    written: int
    input_sha256: str
    files: tuple[Made, ...]
    rejects: tuple[Reject, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """Return the record of plain values."""
        made = dict(values)
        made["files"] = tuple(Made.from_dict(file) for file in values["files"])
        made["rejects"] = tuple(Reject(**reject) for reject in values["rejects"])
        return cls(**made)


@dataclass(frozen=True)
class ShardJob:
    """What a worker needs to make a shard: the units it reads, or the files of a folder."""

    shard: Shard
    units: tuple[Unit, ...]
    names: tuple[tuple[Any, ...], ...] | None = None
    poisoned: Mapping[int, str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        poisoned = {str(index): reason for index, reason in (self.poisoned or {}).items()}
        return {
            "shard": self.shard.to_dict(),
            "units": [asdict(unit) for unit in self.units],
            "names": self.names,
            "poisoned": poisoned,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ShardJob:
        """Return the job of plain values."""
        units = tuple(Unit.from_dict(unit) for unit in values["units"])
        names = values["names"]
        poisoned = {int(index): reason for index, reason in values["poisoned"].items()}
        return cls(Shard.from_dict(values["shard"]), units, names and tuple(names), poisoned)


def make_shard(
    job: ShardJob,
    reader: Reader,
    place: Place,
    layout: Layout,
    settings: Settings,
    mark: Callable[[int, int], None] | None = None,
) -> Record:
    """Make a shard, and return its record.

    `mark` hears the index of the image that is about to be read, or -1, and how many images are
    done.
    """
    maker = _Maker(job, reader, layout, settings, mark or (lambda index, done: None))
    writer: Writer = WRITERS[layout.kind](place, job.shard, layout, reader.schema)
    with no_pillow_limit(), writer:
        maker.run(writer)
    return maker.record(writer)


def _completer(settings: Settings, encoded: bool) -> Completer:
    """Return what completes images with these settings, and makes files of them if `encoded`."""
    if settings.defense is None:
        return Completer(settings, encoded=encoded)
    from splic_ext.conversion.defending import defender

    return Completer(*defender(settings), encoded=encoded)


class _Maker:
    """A shard that is being made."""

    def __init__(
        self,
        job: ShardJob,
        reader: Reader,
        layout: Layout,
        settings: Settings,
        mark: Callable[[int, int], None],
    ) -> None:
        self.job, self.reader, self.layout, self.settings = job, reader, layout, settings
        self.mark, self.digest = mark, hashlib.sha256()
        self.rejects: list[Reject] = []
        self.done = self.written = 0

    def run(self, writer: Writer) -> None:
        """Read, complete and write all images."""
        completer = _completer(self.settings, writer.encoded)
        for index, item in enumerate(self._items(), self.job.shard.first):
            self._hash(item)
            for done in self._completed(completer, index, item):
                self._write(writer, done)
        self.mark(-1, self.done)
        for done in completer.flush():
            self._write(writer, done)

    def _items(self) -> Iterator[Item]:
        """Yield the images of all pieces; an error of the source is no error of the destination."""
        try:
            yield from self._read()
            for unit in self.job.units:
                self.reader.check(unit)
        except OSError as error:
            raise SourceError(
                f"the source cannot be read: {error.strerror or error}: '{error.filename}'; put it "
                "back, and run the same command again"
            ) from error

    def _read(self) -> Iterator[Item]:
        units = {unit.name: unit for unit in self.job.units}
        for unit in self.job.units:
            self.reader.check(unit)
        if self.job.names is not None:
            assert isinstance(self.reader, FolderReader)
            for values in self.job.names:
                yield self.reader.one(*values)
            return
        for piece in self.job.shard.pieces:
            unit = units[piece.unit]
            count = 0
            for item in self.reader.read(unit, piece.start, piece.stop):
                count += 1
                yield item
            if count < piece.stop - piece.start:
                raise ValueError(
                    f"'{unit.name or self.reader.place.text}' of the source has changed under the "
                    "run: it holds fewer images than it did; put it back, or begin anew with "
                    "`overwrite=True`"
                )

    def _hash(self, item: Item) -> None:
        content: Any = item.image if item.image is not None else b""
        if not isinstance(content, bytes):
            content = np.ascontiguousarray(content).data
        self.digest.update(f"{item.key}\0{len(content)}\0".encode("utf-8", "replace"))
        self.digest.update(content)

    def _completed(self, completer: Completer, index: int, item: Item) -> Iterator[Done]:
        """Decode an image and put it in; yield those that are finished."""
        poison = (self.job.poisoned or {}).get(index)
        if poison is not None:
            self._reject(index, item, poison)
            return
        self.mark(index, self.done)
        try:
            picture = decode(item, self.settings)
        except ImageFileError as error:
            self._reject(index, item, str(error))
            return
        self.mark(-1, self.done)
        yield from completer.put(index, item, picture)

    def _write(self, writer: Writer, done: Done) -> None:
        if isinstance(done.pixels, str):
            self._reject(done.index, done.item, done.pixels)
            return
        try:
            if writer.encoded:
                content, suffix = encode(done)
                writer.add(done.index, done.item, content, suffix)
            else:
                writer.add(done.index, done.item, np.moveaxis(done.pixels, -1, 0), "")
        except (ImageFileError, RejectedError) as error:
            self._reject(done.index, done.item, str(error))
            return
        self.written += 1
        self.done += 1

    def _reject(self, index: int, item: Item, reason: str) -> None:
        reject = Reject(
            index,
            shortened(printable(item.key), MOST_REASON),
            shortened(printable(reason), MOST_REASON),
        )
        if self.settings.strict:
            raise StrictError(
                f"image {index} of the source, '{reject.key}', cannot be converted: "
                f"{reject.reason}; mend it, or leave `strict` out to have it listed"
            )
        self.rejects.append(reject)
        self.done += 1

    def record(self, writer: Writer) -> Record:
        """Return what was made."""
        shard = self.job.shard
        return Record(
            number=shard.number,
            name=shard.name,
            first=shard.first,
            count=shard.count,
            written=self.written,
            input_sha256=self.digest.hexdigest(),
            files=tuple(writer.made),
            rejects=tuple(sorted(self.rejects, key=lambda reject: reject.index)),
        )
