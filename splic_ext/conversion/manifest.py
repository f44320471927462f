"""The manifest of a destination: what was planned, which shards are finished, what was left out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from splic_ext.common.atomic import held
from splic_ext.common.checks import reason_of
from splic_ext.conversion.items import Shard
from splic_ext.conversion.places import Place
from splic_ext.conversion.planning import Plan
from splic_ext.conversion.readers.base import sha256_of
from splic_ext.conversion.shards import Record
from splic_ext.conversion.writers.base import MANIFEST, REJECTS
from splic_ext.errors import ConversionError

__all__ = ["WORK", "Manifest", "keep_record", "only_one"]

FORMAT = 1

#: Held while a conversion runs.
LOCK = ".splic-convert.lock"

#: The folder of what is not finished: the plan, and a record of each finished shard.
WORK = ".splic-convert"

_PLAN = f"{WORK}/plan.json"


@contextmanager
def only_one(place: Place) -> Iterator[None]:
    """Keep others out of a destination of this machine's files."""
    if not place.local:
        yield
        return
    try:
        place.path.mkdir(parents=True, exist_ok=True)
        holding = held(place.path / LOCK)
        free = holding.__enter__()
    except OSError as error:
        raise OSError(
            f"the destination '{place.text}' cannot be written: {error.strerror}; name another"
        ) from error
    try:
        if not free:
            raise BlockingIOError(
                f"another conversion writes to '{place.text}'; wait for its end, or name another "
                "destination"
            )
        yield
    finally:
        holding.__exit__(None, None, None)


def keep_record(place: Place, record: Record) -> None:
    """Note that a shard is finished."""
    place.write(_record(record.number), _json(record.to_dict()))


def _record(number: int) -> str:
    return f"{WORK}/{number:07}.json"


def _json(values: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(values, sort_keys=True)}\n".encode()


class Manifest:
    """What a destination holds of an earlier run.

    Attributes
    ----------
    plan : Plan or None
        None where there was none.
    finished : bool
        Whether all shards were.
    """

    def __init__(self, place: Place, forgiving: bool = False) -> None:
        self.place, self._forgiving = place, forgiving
        self.plan: Plan | None = None
        self.finished = False
        self._records: dict[int, Record] | None = None
        if place.kind(MANIFEST) == "file":
            values = self._read(MANIFEST)
            if values is not None:
                self.finished = True
                records = [Record.from_dict(record) for record in values["outputs"]]
                self._records = {record.number: record for record in records}
        elif place.kind(_PLAN) == "file":
            values = self._read(_PLAN)
        else:
            return
        self.plan = None if values is None else Plan.from_dict(values)

    def _read(self, name: str) -> dict[str, Any] | None:
        """Return a file of JSON that this version wrote; None if it is damaged and forgiven."""
        try:
            values: dict[str, Any] = json.loads(self.place.read(name))
            if values["format"] != FORMAT:
                raise ValueError(f"it is of the format {values['format']!r}")
            Plan.from_dict(values)
            if name == MANIFEST:
                for record in values["outputs"]:
                    Record.from_dict(record)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if self._forgiving:
                return None
            raise ValueError(
                f"the manifest '{self.place.text}/{name}' cannot be read: "
                f"{reason_of(error, 120)}; name another destination, or begin anew with "
                "`overwrite=True`"
            ) from None
        return values

    def begin(self, plan: Plan) -> None:
        """Keep the plan of a run that begins, and no record of one before."""
        self.tidy()
        self.place.write(_PLAN, _json({"format": FORMAT, **plan.to_dict()}))
        self.plan, self.finished, self._records = plan, False, {}

    def differences(self, identity: Mapping[str, Any]) -> list[str]:
        """Return in what another run differs, in words."""
        assert self.plan is not None
        there = self.plan.identity
        names = sorted({*there, *identity})
        return [
            f"`{name}` was {_shown(there.get(name))} and is {_shown(identity.get(name))}"
            for name in names
            if there.get(name) != identity.get(name)
        ]

    def records(self) -> dict[int, Record]:
        """Return the records of finished shards whose files are there, by number."""
        if self._records is None:
            self._records = {}
            for name in self.place.names(WORK):
                number = name.removesuffix(".json")
                if number.isdecimal():
                    try:
                        values = json.loads(self.place.read(f"{WORK}/{name}"))
                        record = Record.from_dict(values)
                    except (ValueError, KeyError, TypeError):  # of a disk that lost it
                        continue
                    self._records[record.number] = record
        return self._records

    def missing(self) -> list[Shard]:
        """Return the shards that are to be made: those without a record, or without its files."""
        assert self.plan is not None
        records = self.records()
        return [
            shard
            for shard in self.plan.shards
            if shard.number not in records or not self._there(records[shard.number])
        ]

    def _there(self, record: Record) -> bool:
        try:
            return all(self.place.entry(made.name).size == made.size for made in record.files)
        except OSError:
            return False

    def reopen(self) -> None:
        """Turn the manifest of a finished run, whose files are not all there, into records."""
        assert self.plan is not None
        if self.finished:
            for record in self.records().values():
                if self._there(record):
                    keep_record(self.place, record)
            self.place.write(_PLAN, _json({"format": FORMAT, **self.plan.to_dict()}))
            self.place.remove(MANIFEST)
            self.finished, self._records = False, None

    def finish(self) -> None:
        """Write the manifest of a run whose shards are all there, and the list of rejects."""
        assert self.plan is not None
        self._records = None
        records = self.records()
        lost = tuple(shard.name for shard in self.plan.shards if shard.number not in records)
        if lost:
            raise ConversionError(
                f"{len(lost)} of {len(self.plan.shards)} shards were not made, such as "
                f"'{lost[0]}'; run the same command again: the others are kept",
                lost,
            )
        ordered = [records[shard.number] for shard in self.plan.shards]
        with self.place.writing(REJECTS, durable=True) as path, path.open("wb") as file:
            for record in ordered:
                for reject in record.rejects:
                    file.write(_json(asdict(reject)))
        counts = {
            "images": self.plan.count,
            "written": sum(record.written for record in ordered),
            "rejected": sum(len(record.rejects) for record in ordered),
            "shards": len(ordered),
        }
        values = {"format": FORMAT, "counts": counts, **self.plan.to_dict()}
        with self.place.writing(MANIFEST, durable=True) as path, path.open("wb") as file:
            file.write(_json(values)[:-2] + b', "outputs": [\n')
            for number, record in enumerate(ordered):
                file.write((b",\n" if number else b"") + _json(record.to_dict()).strip())
            file.write(b"\n]}\n")
        self.finished = True
        self.tidy()

    def tidy(self) -> None:
        """Remove what a run keeps while it works."""
        for name in sorted(self.place.names(WORK), reverse=True):
            self.place.remove(f"{WORK}/{name}")
        self.place.remove_folder(WORK)

    def clear(self) -> None:
        """Remove all that a run has written."""
        for record in self.records().values():
            for made in record.files:
                self.place.remove(made.name)
        self.place.remove(MANIFEST)
        self.place.remove(REJECTS)
        self.tidy()
        self.plan, self.finished, self._records = None, False, None

    def verify(self) -> Iterator[tuple[str, str | None]]:
        """Yield each file that a manifest names, and what is wrong with it, or None."""
        for record in self.records().values():
            for made in record.files:
                try:
                    with self.place.open(made.name) as file:
                        sha256 = sha256_of(file)
                except OSError as error:
                    yield made.name, f"it cannot be read: {error.strerror or reason_of(error)}"
                    continue
                yield made.name, None if sha256 == made.sha256 else "its content has changed"


def _shown(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 200 else f"{text[:197]}..."
