"""Who makes shards: a process that may crash and is started again, or this one."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from splic_ext.conversion.worker import MARK, OUT_OF_MEMORY, Bench

__all__ = ["Crew", "Inside", "Outside", "WorkerError"]

#: An image that ends its process so often is rejected, and a shard that does so elsewhere fails.
MOST_TRIES, MOST_TRIES_ELSEWHERE = 2, 5

#: What a worker runs: the module from where this process has it, whatever folder it is in.
_BEGIN = """
import importlib, os, sys
sys.path[:] = os.environ["PYTHONPATH"].split(os.pathsep)
importlib.import_module(sys.argv.pop(1)).main()
"""

#: Seconds that a worker has to end by itself.
PATIENCE = 5.0


class WorkerError(RuntimeError):
    """A worker cannot be started."""


class Crew(Protocol):
    """Answers jobs."""

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Return what came of a job, or its error."""

    def done(self) -> int:
        """Return how many images of the job are done."""

    def stop(self) -> None:
        """End at once."""


class Inside:
    """No other process: one job after the other, for places that no other process sees."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        self._bench, self._done = Bench(dict(setup)), 0

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Return what came of a job, or its error."""

        def mark(index: int, done: int) -> None:
            self._done = done

        try:
            return self._bench.answer(json.loads(json.dumps(job)), mark)
        finally:
            self._done = 0

    def done(self) -> int:
        """Return how many images of the job are done."""
        return self._done

    def stop(self) -> None:
        """Have nothing to end."""


class Outside:
    """A process of its own, which is started again when it crashes.

    What crashes it twice is an image that is left out, if it was being read, or else the shard.
    """

    def __init__(self, setup: Mapping[str, Any]) -> None:
        self._setup = dict(setup)
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False
        handle, name = tempfile.mkstemp(prefix="splic-worker-")
        os.write(handle, MARK.pack(-1, 0))
        os.close(handle)
        self._mark = Path(name)
        with self._mark.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), MARK.size)

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Return what came of a job, or its error; a job that crashes the worker is tried again."""
        tries: Counter[int] = Counter()
        MARK.pack_into(self._memory, 0, -1, 0)
        while True:
            answer = self._ask(job)
            if answer is not None or self._stopped:
                MARK.pack_into(self._memory, 0, -1, 0)
                return answer or {"error": "stopped", "message": "it was stopped"}
            index, _ = MARK.unpack_from(self._memory)
            ended = self._how_it_ended()
            tries[index] += 1
            most = MOST_TRIES if index >= 0 else MOST_TRIES_ELSEWHERE
            if tries[index] < most:
                continue
            if index < 0:
                told = f"the worker {ended}, {most} times; use fewer workers or smaller shards"
                return {"error": "crash", "message": told}
            reason = f"the worker that read it {ended}, {MOST_TRIES} times"
            job["job"]["poisoned"][str(index)] = reason

    def done(self) -> int:
        """Return how many images of the job are done."""
        return int(MARK.unpack_from(self._memory)[1])

    def stop(self) -> None:
        """End the process at once."""
        self._stopped = True
        self._end()
        with suppress(OSError):
            self._mark.unlink()

    def _end(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        for stream in (process.stdin, process.stdout):
            try:
                if stream is not None:
                    with suppress(OSError):
                        stream.close()  # at the end of its input it removes what is unfinished
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return process.returncode

    def _how_it_ended(self) -> str:
        code = 0
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
            code = self._process.returncode or 0
        self._end()
        if code == OUT_OF_MEMORY:
            return "had too little memory"
        if code == -9:
            return "was killed, as where there is too little memory"
        return f"ended by signal {-code}" if code < 0 else f"ended with code {code}"

    def _ask(self, job: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer of the process; None if it ended."""
        if self._process is None:
            answer = self._start()
            if answer is None:
                return None
            if "error" in answer:
                self._end()
                return answer
        return self._line(job)

    def _start(self) -> dict[str, Any] | None:
        threads = str(self._setup["settings"]["threads"])
        variables = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),  # noqa: PTH109
            "OMP_NUM_THREADS": threads,
            "SPLIC_NUM_THREADS": threads,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BEGIN, "splic_ext.conversion.worker", str(self._mark)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=variables,
            start_new_session=True,  # Ctrl-C is for the one who started it
        )
        if self._stopped:
            self._end()
        return self._line(self._setup)

    def _line(self, job: Mapping[str, Any]) -> dict[str, Any] | None:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        try:
            process.stdin.write(f"{json.dumps(job)}\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except (OSError, ValueError):  # it has ended
            return None
        if not line.endswith("\n"):
            return None
        answer: dict[str, Any] = json.loads(line)
        return answer
