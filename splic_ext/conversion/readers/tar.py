"""WebDataset: tar archives in which files of one key are a sample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, ClassVar

from splic_ext.common.checks import printable, reason_of, shortened
from splic_ext.conversion.items import Item, Unit
from splic_ext.conversion.places import Entry
from splic_ext.conversion.readers.base import Hashed, Reader, group_of
from splic_ext.data.pictures import SUFFIXES
from splic_ext.data.sources.tarring import Member, TarError, read_tar_file
from splic_ext.data.sources.webdataset import TAR_SUFFIXES

__all__ = ["TarReader"]

#: Most bytes of a file that is no image.
MOST_EXTRA = 2**26

#: Where each so many-th sample of an archive begins is kept.
STEP = 1000


class TarReader(Reader):
    """Archives of a folder, or one; all files of a sample go with its image."""

    kind: ClassVar[str] = "tar"

    def entries(self) -> list[Entry]:
        """Return the archives."""
        if self.place.kind() == "file":
            return [self.place.entry()]
        return [e for e in self.place.files() if e.name.lower().endswith(TAR_SUFFIXES)]

    def scan(self, entry: Entry) -> Unit:
        """Count the samples, and note where some begin."""
        marks, twice, seen, count, read = [], [], set(), 0, 0
        with self.place.open(entry.name) as file:
            packed = _is_packed(file)
            hashed: Any = Hashed(file)
            for sample in self._samples(hashed, entry, 0, None):
                if count % STEP == 0 and not packed:
                    marks.append(sample.at)
                key = hash(sample.key)
                if key in seen:
                    twice.append(count)
                seen.add(key)
                count += 1
                read += not sample.ended
            sha256 = self.hash_of(hashed)
        if read == 0:
            raise ValueError(
                f"the archive '{entry.name or self.place.text}' holds no sample that can be read"
                f"{f': {sample.problem}' if count else ''}; take it out of the source, or write it "
                "again"
            )
        group = group_of(entry.name or self.place.text.rpartition("/")[2])
        return Unit(
            entry.name,
            group,
            entry.size,
            entry.stamp,
            count,
            sha256,
            tuple(marks),
            tuple(twice),
        )

    def read(self, unit: Unit, start: int, stop: int) -> Iterator[Item]:
        """Yield samples; after a part that cannot be read from the next mark on, if that is asked.

        Those in between have a problem each.
        """
        at = start
        while at < stop:
            for item in self._read_on(unit, at, stop):
                yield item
                at += 1
            if not self.skipping:
                return
            marked = at // STEP * STEP + STEP if unit.marks else stop
            for number in range(at, min(marked, stop)):
                yield Item(f"{number:08}", None, problem="it follows what cannot be read")
                at += 1

    def _read_on(self, unit: Unit, start: int, stop: int) -> Iterator[Item]:
        """Yield samples, until one cannot be read."""
        at, skipped = 0, 0
        if unit.marks:
            at, skipped = unit.marks[start // STEP], start // STEP * STEP
        with self.place.open(unit.name) as file:
            wanted, twice = range(start - skipped, stop - skipped), frozenset(unit.twice)
            for number, sample in enumerate(self._samples(file, unit, at, wanted)):
                if number in wanted:
                    if number + skipped in twice:
                        sample.problem = "its key comes twice"
                    yield sample.item()
                if number + 1 >= wanted.stop:
                    return

    def _samples(
        self, file: IO[bytes], unit: Entry | Unit, start: int, wanted: range | None
    ) -> Iterator[_Sample]:
        """Yield samples, with what they hold where they are wanted; None wants nothing of it."""
        sample, number = None, -1
        try:
            for member in read_tar_file(file, unit.size, self.max_bytes, start):
                key, suffix = split(member.name)
                if sample is None or sample.key != key:
                    if sample is not None:
                        yield sample
                    number += 1
                    sample = _Sample(key, member.at)
                sample.add(member, suffix, read=wanted is not None and number in wanted)
        except TarError as error:
            self.failing(error.__cause__)
            if sample is None:
                sample = _Sample("", start)
            sample.problem = f"the archive is not read on from here: {reason_of(error, 200)}"
            sample.ended = True
        if sample is not None:
            yield sample


@dataclass
class _Sample:
    """What an archive holds under one key."""

    key: str
    at: int
    image: bytes | None = None
    suffix: str = ""
    name: str = ""
    extra: dict[str, bytes] = field(default_factory=dict)
    problem: str | None = None
    ended: bool = False

    def add(self, member: Member, suffix: str, *, read: bool) -> None:
        """Take a file up, or note why the sample cannot be."""
        image = f".{suffix.rpartition('.')[2].lower()}" in SUFFIXES
        problem = None
        if member.refused is not None:
            problem = f"{member.refused}: {_shown(member.name)}"
        elif image and self.name:
            problem = f"it has two images, {_shown(self.name)} and {_shown(member.name)}"
        elif suffix in self.extra:
            problem = f"{_shown(member.name)} comes twice"
        elif not image and member.size > MOST_EXTRA:
            problem = f"{_shown(member.name)} has {member.size:,} bytes, more than {MOST_EXTRA:,}"
        if problem is not None:
            self.problem = self.problem or problem
        elif image:
            self.name, self.suffix = member.name, suffix
            self.image = member.read() if read else b""
        else:
            self.extra[suffix] = member.read() if read else b""

    def item(self) -> Item:
        """Return it as an image."""
        problem = self.problem
        if problem is None and not self.name:
            problem = "it has no image"
        if problem is not None:
            return Item(self.key, None, problem=problem)
        return Item(self.key, self.image, self.suffix, _label(self.extra), self.extra)


def _shown(name: str) -> str:
    """Return a name for a message."""
    return f"'{shortened(printable(name), 120)}'"


def split(name: str) -> tuple[str, str]:
    """Return the key of a file, its name up to the first dot, and all that follows the dot.

    >>> split("train/cat.7.seg.png")
    ('train/cat', '7.seg.png')
    """
    folder, slash, base = name.removeprefix("./").rpartition("/")
    key, _, suffix = base.partition(".")
    return f"{folder}{slash}{key}", suffix


def _label(extra: dict[str, bytes]) -> int | str | None:
    """Return the label of a .cls file, where that is an integer or a short name."""
    content = extra.get("cls", b"")[:200]
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        return None
    if text.isdecimal() and len(text) < 19:
        return int(text)
    return text if text and printable(text) == text else None


def _is_packed(file: IO[bytes]) -> bool:
    magic = file.read(6)
    file.seek(0)
    return magic.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"))
