"""The manifest of a destination: what was planned, which shards are finished, what was left out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from splic_ext.common.atomic import held
from splic_ext.common.checks import reason_of
from splic_ext.conversion.items import Shard
from splic_ext.conversion.places import Place
from splic_ext.conversion.planning import Plan
from splic_ext.conversion.readers.base import sha256_of
from splic_ext.conversion.shards import Record
from splic_ext.conversion.writers.base import MANIFEST, REJECTS, WORK, Made, begun_of
from splic_ext.errors import ConversionError

__all__ = ["Manifest", "folder_of", "keep_record", "only_one"]

FORMAT = 1

#: Held while a conversion runs.
LOCK = ".splic-convert.lock"

_PLAN = f"{WORK}/plan.json"

#: What ends the first line of a manifest; on each following line is a record.
_OUTPUTS = b', "outputs": [\n'


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
    place.remove(begun_of(record.number))


def _record(number: int) -> str:
    return f"{WORK}/{number:07}.json"


def _json(values: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(values, sort_keys=True)}\n".encode()


class Manifest:
    """What a destination holds of an earlier run.

    A record names each file of its shard, of a folder each image. So records are read one by one,
    and none is kept.

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
        if place.kind(MANIFEST) == "file":
            self.plan = self._read(MANIFEST)
            self.finished = self.plan is not None
        elif place.kind(_PLAN) == "file":
            self.plan = self._read(_PLAN)

    def _read(self, name: str) -> Plan | None:
        """Return the plan that this version wrote; None if it is damaged and forgiven."""
        try:
            with self.place.open(name) as file:
                head = file.readline()
            if name == MANIFEST:
                if not head.endswith(_OUTPUTS):
                    raise ValueError("its first line does not end where those of the shards begin")
                head = head[: -len(_OUTPUTS)] + b"}"
            values: dict[str, Any] = json.loads(head)
            if values["format"] != FORMAT:
                raise ValueError(f"it is of the format {values['format']!r}")
            plan = Plan.from_dict(values)
            if name == MANIFEST:
                numbers = {record.number for record in self._listed()}
                lost = [shard.name for shard in plan.shards if shard.number not in numbers]
                if lost:
                    raise ValueError(f"it lacks the shard '{lost[0]}'")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if self._forgiving:
                return None
            raise ValueError(
                f"the manifest '{self.place.text}/{name}' cannot be read: "
                f"{reason_of(error, 120)}; name another destination, or begin anew with "
                "`overwrite=True`"
            ) from None
        return plan

    def _listed(self) -> Iterator[Record]:
        """Yield the records of the manifest, each of which has a line."""
        with self.place.open(MANIFEST) as file:
            file.readline()
            for line in file:
                text = line.strip().removesuffix(b",")
                if text == b"]}":
                    return
                yield Record.from_dict(json.loads(text))
        raise ValueError("it is cut short")

    def begin(self, plan: Plan) -> None:
        """Keep the plan of a run that begins, and no record of one before."""
        self.tidy()
        self.place.write(_PLAN, _json({"format": FORMAT, **plan.to_dict()}))
        self.plan, self.finished = plan, False

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

    def records(self) -> Iterator[Record]:
        """Yield the records of finished shards, in the order of the shards."""
        if self.finished:
            yield from self._listed()
            return
        for name in sorted(self.place.names(WORK)):
            if name.removesuffix(".json").isdecimal():
                try:
                    values = json.loads(self.place.read(f"{WORK}/{name}"))
                    yield Record.from_dict(values)
                except (ValueError, KeyError, TypeError):  # of a disk that lost it
                    continue

    def missing(self) -> list[Shard]:
        """Return the shards that are to be made: those without a record, or without its files."""
        assert self.plan is not None
        there = {record.number for record in self.records() if self._there(record)}
        return [shard for shard in self.plan.shards if shard.number not in there]

    def _there(self, record: Record) -> bool:
        try:
            return all(self.place.entry(made.name).size == made.size for made in record.files)
        except OSError:
            return False

    def reopen(self) -> None:
        """Turn the manifest of a finished run, whose files are not all there, into records."""
        assert self.plan is not None
        if self.finished:
            for record in self.records():
                if self._there(record):
                    keep_record(self.place, record)
            self.place.write(_PLAN, _json({"format": FORMAT, **self.plan.to_dict()}))
            self.place.remove(MANIFEST)
            self.finished = False

    def finish(self) -> None:
        """Write the manifest of a run whose shards are all there, and the list of rejects."""
        assert self.plan is not None
        written, rejected, numbers = 0, 0, set()
        with self.place.writing(REJECTS, durable=True) as path, path.open("wb") as file:
            for record in self.records():
                numbers.add(record.number)
                written += record.written
                rejected += len(record.rejects)
                for reject in record.rejects:
                    file.write(_json(asdict(reject)))
        lost = tuple(shard.name for shard in self.plan.shards if shard.number not in numbers)
        if lost:
            raise ConversionError(
                f"{len(lost)} of {len(self.plan.shards)} shards were not made, such as "
                f"'{lost[0]}'; run the same command again: the others are kept",
                lost,
            )
        counts = {
            "images": self.plan.count,
            "written": written,
            "rejected": rejected,
            "shards": len(self.plan.shards),
        }
        values = {"format": FORMAT, "counts": counts, **self.plan.to_dict()}
        with self.place.writing(MANIFEST, durable=True) as path, path.open("wb") as file:
            file.write(_json(values)[:-2] + _OUTPUTS)
            for number, record in enumerate(self.records()):
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
        """Remove all that a run has written, of shards that were merely begun, too."""
        folders = {folder_of(shard.name) for shard in self.plan.shards} if self.plan else set()
        for name in self._written():
            self.place.remove(name)
            folders.add(folder_of(name))
        self.place.clean(iter(folders | {"", WORK}))
        for folder in sorted(folders - {""}, reverse=True):
            self.place.remove_folder(folder)  # where nothing else is in it
        self.place.remove(MANIFEST)
        self.place.remove(REJECTS)
        self.tidy()
        self.plan, self.finished = None, False

    def _written(self) -> Iterator[str]:
        """Yield the files of finished shards, and of those that were begun."""
        for record in self.records():
            yield from (made.name for made in record.files)
        for name in self.place.names(WORK):
            if name.endswith(".begun"):
                for line in self.place.read(f"{WORK}/{name}").splitlines():
                    with suppress(ValueError):  # of a line that was cut short
                        yield Made(json.loads(line), 0, "").checked().name

    def verify(self) -> Iterator[tuple[str, str | None]]:
        """Yield each file that a manifest names, and what is wrong with it, or None."""
        for record in self.records():
            for made in record.files:
                try:
                    with self.place.open(made.name) as file:
                        sha256 = sha256_of(file)
                except OSError as error:
                    yield made.name, f"it cannot be read: {error.strerror or reason_of(error)}"
                    continue
                yield made.name, None if sha256 == made.sha256 else "its content has changed"


def folder_of(name: str) -> str:
    """Return the folder of a file, "" for none."""
    return name.rpartition("/")[0]


def _shown(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 200 else f"{text[:197]}..."
