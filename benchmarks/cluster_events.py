"""A conversion on a cluster, event by event: the simulation that `simulate_cluster.py` asks.

Its assumptions stand there, in `ASSUMPTIONS`.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Any

import simpy

#: Into so many tasks the shards are put together at most (splic_ext.conversion.clusters).
MOST_TASKS = 10_000


@dataclass(frozen=True)
class Work:
    """What is converted: shards, and what an image of them takes."""

    images: int
    shard_size: int
    seconds: float  #: of a core for an image: solver, decoding, encoding
    bytes_read: float = 0.0
    bytes_written: float = 0.0
    look_seconds: float = 0.0  #: of a core for an image, when the source is looked through
    image_requests: float = 0.0  #: to the store for an image: of folders of files
    shard_requests: float = 0.0

    def counts(self) -> list[int]:
        """Return the images of each shard."""
        full, rest = divmod(self.images, self.shard_size)
        return [self.shard_size] * full + ([rest] if rest else [])


@dataclass(frozen=True)
class Driver:
    """Seconds that the one process takes which hands out the work."""

    start: float = 0.0  #: until the workers are there
    plan: float = 0.0  #: for a shard, before the first
    hand: float = 0.0  #: for a task
    answer: float = 0.0  #: for a shard
    finish: float = 0.0  #: for a shard, after the last
    finish_requests: float = 0.0  #: to the store for a shard, after the last


@dataclass(frozen=True)
class Cluster:
    """Workers, and what they share."""

    workers: int
    bandwidth: float = math.inf  #: bytes a second of the store
    each: float = math.inf  #: of one transfer
    latency: float = 0.0
    straggle: float = 0.0
    failures_per_hour: float = 0.0
    restart: float = 0.0
    ahead: int = 1


@dataclass
class Outcome:
    """What came of it."""

    seconds: float = 0.0
    before: float = 0.0  #: start, looking through, planning
    after: float = 0.0  #: reading the records
    computing: float = 0.0  #: seconds of all cores in finished tasks
    lost: float = 0.0  #: seconds of all cores in tasks that died
    driving: float = 0.0  #: seconds of the driver while the workers worked
    moving: float = 0.0  #: bytes
    deaths: int = 0
    finished: list[int] = field(default_factory=list)  #: shards, in the order in which they ended


class Pipe:
    """A store whose bytes a second are shared evenly."""

    def __init__(self, env: simpy.Environment, total: float, each: float) -> None:
        self._env, self._total, self._each = env, total, each
        self._ends: list[tuple[float, int, simpy.Event]] = []
        self._numbers = itertools.count()
        self._given, self._since, self._plans = 0.0, 0.0, 0
        self.moved = 0.0

    def send(self, count: float) -> simpy.Event:
        """Return what happens when so many bytes are through."""
        done = self._env.event()
        if count <= 0 or math.isinf(min(self._total, self._each)):
            self.moved += count
            return done.succeed()
        self._advance()
        heappush(self._ends, (self._given + count, next(self._numbers), done))
        self._plan()
        return done

    def cancel(self, event: simpy.Event) -> None:
        """Take a transfer out."""
        self._advance()
        self._ends = [end for end in self._ends if end[2] is not event]
        heapify(self._ends)
        self._plan()

    def _rate(self) -> float:
        return min(self._each, self._total / len(self._ends))

    def _advance(self) -> None:
        """Give each transfer what it got since the last look."""
        if self._ends:
            given = (self._env.now - self._since) * self._rate()
            self._given += given
            self.moved += given * len(self._ends)
        self._since = self._env.now

    def _plan(self) -> None:
        """Look again when the next transfer ends; an earlier plan no longer holds."""
        self._plans += 1
        if self._ends:
            wait = max(0.0, self._ends[0][0] - self._given) / self._rate()
            look = self._env.timeout(wait, self._plans)
            look.callbacks.append(self._look)

    def _look(self, event: Any) -> None:
        if event.value != self._plans:
            return
        self._advance()
        first = self._ends[0][0]  # it is due, whatever rounding says
        while self._ends and self._ends[0][0] <= first:
            heappop(self._ends)[2].succeed()
        self._plan()


class Run:
    """A conversion; `outcome` says how it went."""

    def __init__(self, work: Work, driver: Driver, cluster: Cluster, seed: int) -> None:
        self._work, self._driver, self._cluster = work, driver, cluster
        self._chance = random.Random(seed)
        self._env = simpy.Environment()
        self._pipe = Pipe(self._env, cluster.bandwidth, cluster.each)
        self._counts = work.counts()
        self._factors = self._drawn(random.Random(f"shards {seed}"))
        self._turn = simpy.Resource(self._env)
        self._free: simpy.Store = simpy.Store(self._env)
        self._ended = self._env.event()
        self.outcome = Outcome()

    def __call__(self) -> Outcome:
        """Let it happen."""
        shards, out = len(self._counts), self.outcome
        out.before = self._driver.start + self._look_through() + shards * self._driver.plan
        tasks = list(self._tasks())
        inboxes = [simpy.Store(self._env) for _ in range(min(self._cluster.workers, len(tasks)))]
        for inbox in inboxes:
            self._env.process(self._worker(inbox))
        for inbox in inboxes * self._cluster.ahead:
            self._free.put(inbox)
        self._env.process(self._hand_out(tasks))
        self._env.run(self._ended)
        requests = self._driver.finish_requests * self._cluster.latency
        out.after = shards * (self._driver.finish + requests)
        out.seconds = out.before + self._env.now + out.after
        out.moving = self._pipe.moved
        return out

    def _look_through(self) -> float:
        """Return the seconds until the source is looked through: its bytes, read by all."""
        work, cluster = self._work, self._cluster
        rate = min(cluster.bandwidth, cluster.workers * cluster.each)
        moving = work.images * work.bytes_read / rate
        return moving + work.images * work.look_seconds / cluster.workers

    def _tasks(self) -> Iterator[range]:
        """Yield the shards of each task."""
        shards = len(self._counts)
        size = math.ceil(shards / MOST_TASKS)
        return (range(i, min(i + size, shards)) for i in range(0, shards, size))

    def _hand_out(self, tasks: list[range]) -> Generator[simpy.Event, Any, None]:
        for task in tasks:
            inbox = yield self._free.get()
            yield from self._drive(self._driver.hand)
            inbox.put(task)

    def _drive(self, seconds: float) -> Generator[simpy.Event, Any, None]:
        with self._turn.request() as turn:
            yield turn
            yield self._env.timeout(seconds)
        self.outcome.driving += seconds

    def _worker(self, inbox: simpy.Store) -> Generator[simpy.Event, Any, None]:
        while True:
            task = yield inbox.get()
            began = self._env.now
            while not (yield from self._attempt(task)):
                self.outcome.deaths += 1
                self.outcome.lost += self._env.now - began
                yield self._env.timeout(self._cluster.restart)
                began = self._env.now
            self.outcome.computing += self._env.now - began
            self._env.process(self._answer(inbox, task))

    def _answer(self, inbox: simpy.Store, task: range) -> Generator[simpy.Event, Any, None]:
        yield from self._drive(self._driver.answer * len(task))
        self.outcome.finished.extend(task)
        self._free.put(inbox)
        if len(self.outcome.finished) == len(self._counts):
            self._ended.succeed()

    def _attempt(self, task: range) -> Generator[simpy.Event, Any, bool]:
        """Make the shards of a task; return whether the worker lived to see it."""
        rate = self._cluster.failures_per_hour / 3600
        dies = self._env.now + self._chance.expovariate(rate) if rate else math.inf
        for shard in task:
            for event in self._steps(shard):
                if self._env.now + getattr(event, "_delay", math.inf) <= dies:
                    yield event
                    continue
                yield event | self._env.timeout(max(0.0, dies - self._env.now))
                if not event.processed:
                    self._pipe.cancel(event)
                    return False
        return True

    def _steps(self, shard: int) -> Iterator[simpy.Event]:
        """Yield what a worker waits for to make a shard."""
        work, count = self._work, self._counts[shard]
        requests = work.shard_requests + work.image_requests * count
        yield self._env.timeout(requests * self._cluster.latency)
        yield self._pipe.send(count * work.bytes_read)
        yield self._env.timeout(count * work.seconds * self._factors[shard])
        yield self._pipe.send(count * work.bytes_written)

    def _drawn(self, chance: random.Random) -> list[float]:
        """Return how much longer each shard takes than the mean one; whoever makes it, the same."""
        sigma = self._cluster.straggle
        return [chance.lognormvariate(-(sigma**2) / 2, sigma) for _ in self._counts]


def simulate(work: Work, driver: Driver, cluster: Cluster, seed: int = 0) -> Outcome:
    """Return how a conversion goes.

    >>> out = simulate(Work(100, 10, seconds=0.5), Driver(), Cluster(workers=1))
    >>> out.seconds, len(out.finished)
    (50.0, 10)
    """
    return Run(work, driver, cluster, seed)()
