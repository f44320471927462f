"""A conversion from its beginning, or from where it was, to its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import splic_ext
from splic_ext.conversion.engines import Engine, LocalEngine
from splic_ext.conversion.items import Shard, Unit
from splic_ext.conversion.manifest import Manifest, folder_of, only_one
from splic_ext.conversion.outcome import Conversion
from splic_ext.conversion.places import Place, WriteError
from splic_ext.conversion.planning import Plan, jobs_of, make_plan
from splic_ext.conversion.readers.base import Reader
from splic_ext.conversion.settings import Settings
from splic_ext.conversion.writers.base import MANIFEST, WORK
from splic_ext.conversion.writers.choosing import WRITERS
from splic_ext.errors import ConversionError
from splic_ext.files.plan import left_out
from splic_ext.files.reporting import Reporter

__all__ = ["Run", "Silent"]

#: So many rejected images are told one by one.
TOLD = 20

#: Sources of more bytes are looked through by the workers.
SCANNED_HERE = 2**30


class Silent:
    """A reporter that tells nobody."""

    def expect(self, images: float) -> None:
        """Do nothing."""

    def advance(self, images: float) -> None:
        """Do nothing."""

    def note(self, path: Path, text: str) -> None:
        """Do nothing."""

    def fail(self, path: Path, reason: str) -> None:
        """Do nothing."""


@dataclass
class Run:
    """What is to be converted, to where and how; `begin` finds out what is left to do."""

    reader: Reader
    source: str
    dest: Place
    to: str
    shard_size: int | None
    settings: Settings
    engine: Engine
    overwrite: bool
    reporter: Reporter

    def __call__(self) -> Conversion:
        """Convert what is not converted yet."""
        self._check_apart()
        done = self._done_before()
        if done is not None:
            return done
        with only_one(self.dest):
            manifest = Manifest(self.dest, forgiving=self.overwrite)
            plan = self._plan(manifest)
            self.dest.clean(iter({folder_of(shard.name) for shard in plan.shards} | {"", WORK}))
            missing = manifest.missing()
            kept = sum(shard.count for shard in plan.shards) - sum(s.count for s in missing)
            self.reporter.expect(plan.count - kept)
            if missing:
                manifest.reopen()
                self._make(plan, missing)
            if missing or not manifest.finished:
                manifest.finish()
            else:
                manifest.tidy()
            return self._outcome(manifest, plan, len(missing))

    def _done_before(self) -> Conversion | None:
        """Return what there is if it is all finished: a destination that is read-only will do."""
        if self.dest.kind(MANIFEST) != "file" or self.dest.names(WORK):
            return None
        manifest = Manifest(self.dest, forgiving=True)
        plan = manifest.plan
        if plan is None or manifest.differences(self._identity()) or self._changed(plan):
            return None
        if manifest.missing():
            return None
        self.reporter.expect(0)
        return self._outcome(manifest, plan, 0)

    def _outcome(self, manifest: Manifest, plan: Plan, made: int) -> Conversion:
        """Return the counts of a finished run."""
        written = rejected = 0
        for record in manifest.records():
            written += record.written
            rejected += len(record.rejects)
        shards = len(plan.shards)
        return Conversion(self.dest.text, plan.count, written, rejected, shards, made)

    def _check_apart(self) -> None:
        """Refuse a destination in the source, which would be read, or around it."""
        if not (self.dest.local and self.reader.place.local and self.reader.place.kind()):
            return
        source, dest = self.reader.place.path.resolve(), self.dest.path.resolve()
        if dest == source or source in dest.parents:
            raise ValueError(
                f"`dest` must not be in the source, got '{dest}' in '{source}'; name another folder"
            )
        if dest in source.parents:
            raise ValueError(
                f"`dest` must not hold the source, which it might overwrite, got '{dest}' around "
                f"'{source}'; name another folder"
            )
        if dest.exists() and not dest.is_dir():
            raise ValueError(f"`dest` must be a folder, got the file '{dest}'; name another")

    def _identity(self) -> dict[str, Any]:
        return {
            "version": splic_ext.__version__,
            "source": self.source,
            "to": self.to,
            "shard_size": self.shard_size,
            **self.settings.identity(),
        }

    def _plan(self, manifest: Manifest) -> Plan:
        """Return the plan of an earlier run if it is the same, or a new one."""
        identity = self._identity()
        if self.overwrite:
            there = manifest.plan
            if there is None:
                differs = bool(self.dest.names(WORK))  # of a run whose plan is damaged
            else:
                differs = bool(manifest.differences(identity) or self._changed(there))
            if differs:
                manifest.clear()
        if manifest.plan is None:
            return self._new(manifest, identity)
        found = manifest.differences(identity)
        if found:
            raise ValueError(
                f"the destination '{self.dest.text}' holds another conversion: {'; '.join(found)}: "
                "name another destination, or give `overwrite=True` to begin anew"
            )
        changed = self._changed(manifest.plan)
        if changed:
            raise ValueError(
                f"the source '{self.reader.place.text}' is not what it was when this conversion "
                f"began: {changed}; put it back, or give `overwrite=True` to begin anew"
            )
        return manifest.plan

    def _changed(self, plan: Plan) -> str | None:
        """Return what has changed in the source, or None."""
        now = {entry.name: entry for entry in self.reader.entries()}
        for unit in plan.units:
            entry = now.pop(unit.name, None)
            shown = unit.name or self.reader.place.text
            if entry is None:
                return f"'{shown}' is gone"
            if (entry.size, entry.stamp) != (unit.size, unit.stamp):
                return f"'{shown}' has changed"
        return f"'{next(iter(now))}' is new" if now else None

    def _new(self, manifest: Manifest, identity: dict[str, Any]) -> Plan:
        """Look through the source, and keep the plan."""
        if not self.overwrite:
            there = next((e.name for e in self._visible()), None)
            if there is not None:
                raise FileExistsError(
                    f"the destination '{self.dest.text}' is not empty: it holds '{there}'; name "
                    "another, or give `overwrite=True` to write beside it"
                )
        if self.reader.place.local:
            for path, reason in left_out([self.reader.place.text]):
                self.reporter.note(path, reason)
        entries = self.reader.entries()
        jobs = ((i, {"do": "scan", "entry": asdict(e)}) for i, e in enumerate(entries))
        units: dict[int, Unit] = {}
        if len(entries) > 1 and sum(entry.size for entry in entries) > SCANNED_HERE:
            for told in self.engine.run(self._setup(None, len(entries)), iter(jobs)):
                if isinstance(told, tuple):
                    number, answer = told
                    if "error" in answer:
                        raise _error(answer)
                    units[number] = Unit.from_dict(answer["unit"])
        else:
            units = {i: self.reader.scan(entry) for i, entry in enumerate(entries)}
        plan = make_plan(
            self.reader,
            [units[number] for number in sorted(units)],
            to=self.to,
            shard_size=self.shard_size,
            settings=self.settings,
            identity=identity,
            look=self._look,
        )
        manifest.begin(plan)
        return plan

    def _look(self, units: list[Unit]) -> dict[str, Any]:
        """Look at the first images; in another process if they are decoded, which may crash."""
        pixels = not WRITERS[self.to].encoded
        setup = self._setup(None, 1)
        alone = setup["workers"] == 0 and isinstance(self.engine, LocalEngine)
        setup["workers"] = int(pixels and not alone)
        job = {"units": [asdict(unit) for unit in units], "pixels": pixels, "poisoned": {}}
        for told in LocalEngine(1, 1).run(setup, iter([(0, {"do": "look", "job": job})])):
            if isinstance(told, tuple):
                if "error" in told[1]:
                    raise _error(told[1])
                return told[1]
        raise ConversionError("the first images were not looked at; run the same command again")

    def _visible(self) -> Iterator[Any]:
        if self.dest.kind() == "folder":
            yield from self.dest.files()

    def _setup(self, plan: Plan | None, count: int) -> dict[str, Any]:
        """Return what workers are told first."""
        settings, workers = self.settings, 0
        if isinstance(self.engine, LocalEngine):
            workers, threads = self.engine.shares(count)
            if not (self.dest.shared and self.reader.place.shared):
                workers = 0
            settings = Settings.from_dict({**settings.to_dict(), "threads": threads})
        return {
            "source": self.reader.place.text,
            "dest": self.dest.text,
            "kind": self.reader.kind,
            "state": self.reader.state(),
            "settings": settings.to_dict(),
            "layout": None if plan is None else plan.layout.to_dict(),
            "instruction_set": self.settings.identity()["instruction_set"],
            "workers": workers,
        }

    def _make(self, plan: Plan, missing: list[Shard]) -> None:
        """Make shards; raise at the end if some cannot be."""
        jobs = (
            (job.shard.number, {"do": "shard", "job": job.to_dict()})
            for job in jobs_of(plan, missing, self.reader)
        )
        names = {shard.number: shard.name for shard in missing}
        failed: dict[str, str] = {}
        done = told = 0.0
        rejects = 0
        for answer in self.engine.run(self._setup(plan, len(missing)), jobs):
            if isinstance(answer, int):
                now = max(told, done + answer)
                self.reporter.advance(now - told)
                told = now
                continue
            number, values = answer
            if values.get("error") in ("write", "strict"):
                raise _error(values)
            if "error" in values:
                failed[names[number]] = values["message"]
                self.reporter.fail(Path(names[number]), values["message"])
                continue
            done += values["count"]
            self.reporter.advance(done - told)
            told = done
            for index, key, reason in values["rejects"][: max(0, TOLD - rejects)]:
                self.reporter.note(Path(key), f"image {index} is left out: {reason}")
            rejects += values["rejected"]
        if failed:
            name, reason = next(iter(failed.items()))
            raise ConversionError(
                f"{len(failed)} of {len(plan.shards)} shards could not be made, such as '{name}': "
                f"{reason}; mend that, and run the same command again: the others are kept",
                tuple(failed),
            )


def _error(answer: Mapping[str, Any]) -> Exception:
    """Return the error that a worker told of."""
    message = str(answer["message"])
    if answer["error"] == "write":
        return WriteError(message)
    if answer["error"] in ("ValueError", "TypeError"):
        return ValueError(message)
    return ConversionError(message)
