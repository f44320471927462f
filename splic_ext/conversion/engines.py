"""Where shards are made: on this machine, or on a cluster of Ray."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import Any, Protocol

from splic_ext.completion import processors
from splic_ext.conversion.crew import Crew, Inside, Outside

__all__ = ["Engine", "LocalEngine"]

#: Seconds between two looks at how far the workers are.
LOOK = 0.5

#: A job, and how it is found again.
Job = tuple[int, dict[str, Any]]


class Engine(Protocol):
    """Runs jobs in any order."""

    def run(
        self, setup: Mapping[str, Any], jobs: Iterator[Job]
    ) -> Iterator[tuple[int, dict[str, Any]] | int]:
        """Yield each job's number with its answer, and in between how many images are done."""


class LocalEngine:
    """Processes of this machine, each with some threads of the solver.

    No more are started than there are jobs, and all of them together have as many threads as this
    machine has processors. With no worker all is done in this process.
    """

    def __init__(self, workers: int | None, threads: int | None) -> None:
        self._workers, self._threads = workers, threads

    def shares(self, count: int) -> tuple[int, int]:
        """Return workers and threads of each for so many jobs."""
        there = processors()
        wanted = there // (self._threads or 1) if self._workers is None else self._workers
        workers = min(max(1, wanted), count) if self._workers != 0 else 0
        share = max(1, there // max(1, workers))
        return workers, min(self._threads or share, share)

    def run(
        self, setup: Mapping[str, Any], jobs: Sequence[Job] | Iterator[Job]
    ) -> Iterator[tuple[int, dict[str, Any]] | int]:
        """Yield each job's number with its answer, and in between how many images are done."""
        workers = setup["workers"]
        crew: list[Crew] = [Outside(setup) for _ in range(workers)] or [Inside(setup)]
        idle: SimpleQueue[Crew] = SimpleQueue()
        for one in crew:
            idle.put(one)

        def work(job: dict[str, Any]) -> dict[str, Any]:
            one = idle.get()
            try:
                return one.run(job)
            finally:
                idle.put(one)

        pool = ThreadPoolExecutor(len(crew), "shards")
        running: dict[Future[dict[str, Any]], int] = {}
        left = iter(jobs)
        try:
            while True:
                while len(running) < len(crew):
                    following = next(left, None)
                    if following is None:
                        break
                    running[pool.submit(work, following[1])] = following[0]
                if not running:
                    return
                finished, _ = wait(running, timeout=LOOK, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield running.pop(future), future.result()
                if not finished:
                    yield sum(one.done() for one in crew)
        finally:
            for one in crew:
                one.stop()
            pool.shutdown(wait=True, cancel_futures=True)
