"""A process that makes shards: jobs come in, records go out, one line of JSON each.

An image that ends the process ends no more than that: who started it knows from a file which image
was being read.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from splic_ext.common.checks import reason_of
from splic_ext.conversion.items import Unit
from splic_ext.conversion.manifest import keep_record
from splic_ext.conversion.places import Entry, WriteError, place_of
from splic_ext.conversion.planning import look
from splic_ext.conversion.readers.opening import READERS
from splic_ext.conversion.settings import Settings, instruction_set
from splic_ext.conversion.shards import ShardJob, StrictError, make_shard
from splic_ext.conversion.writers.base import Layout
from splic_ext.signals import end_now

__all__ = ["MARK", "OUT_OF_MEMORY", "Bench", "main"]

#: Exit code of a worker that has too little memory.
OUT_OF_MEMORY = 77

#: What the file of a worker holds: the image being read, or -1, and how many are done.
MARK = struct.Struct("<qq")


class Bench:
    """Source, destination and settings of a worker; it answers jobs."""

    def __init__(self, setup: dict[str, Any]) -> None:
        self.source, self.dest = place_of(setup["source"]), place_of(setup["dest"])
        self.settings = Settings.from_dict(setup["settings"])
        self.reader = READERS[setup["kind"]](self.source, self.settings.max_bytes)
        self.reader.skipping = self.settings.skip_unreadable
        self.reader.restore(setup["state"])
        self.layout = Layout.from_dict(setup["layout"]) if setup.get("layout") else None
        here = instruction_set(self.settings.backend)
        if setup["instruction_set"] != here:
            raise ValueError(
                f"a worker computes with {here or 'no instruction set'}, the run began with "
                f"{setup['instruction_set']}, and bits would differ; set SPLIC_SIMD to the same on "
                "all machines"
            )

    def answer(self, job: dict[str, Any], mark: Any) -> dict[str, Any]:
        """Return what came of a job, or the error."""
        try:
            return self._answer(job, mark)
        except StrictError as error:
            return {"error": "strict", "message": str(error)}
        except WriteError as error:
            return {"error": "write", "message": str(error)}
        except MemoryError:
            raise
        except Exception as error:  # whatever it is, the other shards go on
            message = str(error)
            if isinstance(error, OSError) and error.strerror:
                message = f"{error.strerror}: '{error.filename}'"
            return {"error": type(error).__name__, "message": message or reason_of(error)}

    def _answer(self, job: dict[str, Any], mark: Any) -> dict[str, Any]:
        if job["do"] == "scan":
            return {"unit": asdict(self.reader.scan(Entry(**job["entry"])))}
        if job["do"] == "look":
            asked = job["job"]
            units = [Unit.from_dict(unit) for unit in asked["units"]]
            poisoned = {int(index): reason for index, reason in asked["poisoned"].items()}
            return look(self.reader, units, self.settings, asked["pixels"], poisoned, mark)
        assert self.layout is not None
        record = make_shard(
            ShardJob.from_dict(job["job"]), self.reader, self.dest, self.layout, self.settings, mark
        )
        keep_record(self.dest, record)
        return {
            "count": record.count,
            "rejects": [[r.index, r.key, r.reason] for r in record.rejects[:100]],
            "rejected": len(record.rejects),
        }


def _listen(lines: SimpleQueue[str]) -> None:
    """Pass jobs on; end the process with the input, as when the one that writes it is killed."""
    for line in sys.stdin:
        lines.put(line)
    end_now(0)


def main() -> None:
    """Answer the jobs of the standard input, until it ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what others print is no answer
    with Path(sys.argv[1]).open("r+b") as file:
        memory = mmap.mmap(file.fileno(), MARK.size)

    def mark(index: int, done: int) -> None:
        MARK.pack_into(memory, 0, index, done)

    lines: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    bench: Bench | None = None
    while True:
        job = json.loads(lines.get())
        mark(-1, 0)
        try:
            if bench is None:
                bench = Bench(job)
                answer: dict[str, Any] = {"ready": True}
            else:
                answer = bench.answer(job, mark)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        try:
            print(json.dumps(answer), file=answers, flush=True)
        except BrokenPipeError:  # who asked was killed meanwhile
            os._exit(0)
