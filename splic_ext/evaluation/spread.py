"""An evaluation spread over a cluster of Ray, batch by batch, with the records of a local run."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from secrets import token_hex
from typing import Any

import numpy as np
from torch import nn

from splic_ext.common.checks import check_integer, check_number, reason_of
from splic_ext.common.clusters import check_engine, cluster
from splic_ext.common.optional import optional
from splic_ext.common.outside import loaded_files
from splic_ext.completion import MAX_THREADS
from splic_ext.evaluation.plan import Batch, Plan
from splic_ext.evaluation.remote import Answer, Job, answer
from splic_ext.evaluation.work import Outcome, Worker
from splic_ext.runs.fingerprints import fingerprint
from splic_ext.runs.progress import Progress
from splic_ext.runs.store import Part, PartStore

__all__ = ["Spread", "held", "make_spread"]

#: A batch whose worker or node dies is done again so often.
MOST_RETRIES = 10


class Missing(Exception):  # noqa: N818 - it is no error
    """A part is to be made."""


@dataclass
class Finished:
    """A store of what is finished: what is not ends the work on a batch."""

    store: PartStore
    found: dict[str, Part] = field(default_factory=dict)

    def get(
        self,
        description: Mapping[str, Any],
        expected: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
    ) -> Part:
        """Return a part, or raise :class:`Missing`."""
        key = fingerprint(description)
        part = self.found.get(key) or self.store.get(description, expected)
        if part is None:
            raise Missing
        self.found[key] = part
        return part

    def put(self, description: Mapping[str, Any], part: Part) -> None:
        """Do nothing: there is nothing new."""


@dataclass(frozen=True)
class Spread:
    """Tasks of Ray, one for a batch under an attack, of so many processors and GPUs each.

    They are tasks and not actors, as an actor whose node has died may wait for a place for ever
    while the others, without work, hold all that are left. The driver alone reads and writes
    parts, so that nodes need not share a file system.
    """

    workers: int | None
    threads: int
    gpus: float

    def __call__(self, plan: Plan, store: PartStore, progress: Progress) -> Iterator[Outcome]:
        """Yield the outcome of each batch under each attack, in any order."""
        payload = pack(plan)
        jobs = self._jobs(plan, store, progress)
        with ExitStack() as stack:
            running: dict[Any, Job] = {}
            submit: Callable[[Job], Any] | None = None
            ray: Any = None
            size, told, more = 1, set[str](), True
            while more or running:
                while more and len(running) < size:
                    following = next(jobs, None)
                    if following is None:
                        more = False
                    elif isinstance(following, Outcome):
                        yield following
                    else:
                        if submit is None:
                            ray = stack.enter_context(cluster())
                            submit = self._submitting(ray, payload)
                            stack.callback(_cancel, ray, running)
                        size = self._size(ray)
                        running[submit(following)] = following
                if not running:
                    continue
                done, _ = ray.wait(list(running), num_returns=1)
                for reference in done:
                    result = _received(ray, reference, running[reference])
                    del running[reference]
                    yield _taken_in(result, store, progress, size, told)

    def placed(self, plan: Plan) -> Plan:
        """Return a plan for the device of the workers; raise if not all nodes could unpack it."""
        if plan.device.type != "cpu":
            raise ValueError(
                f"`device` must be the CPU with `engine='ray'`, got '{plan.device}', which other "
                "nodes may not have; move the network with `.cpu()`, and give `gpus` for workers "
                "with GPUs"
            )
        if not self.gpus:
            return plan
        return replace(plan, environment={**plan.environment, "device": "cuda"})

    def _jobs(self, plan: Plan, store: PartStore, progress: Progress) -> Iterator[Outcome | Job]:
        """Yield the outcome of what is finished already, and a job for all else."""
        for attack in (None, *plan.attacks):
            alone = attack is not None and plan.scenario == "white"
            groups = [(name,) for name in plan.defenses] if alone else [tuple(plan.defenses)]
            for clean in plan.batches():
                for defenses in groups:
                    finished = Finished(store)
                    if taken_up(plan, finished, attack, clean, defenses):
                        worker = Worker(plan, finished, progress)
                        shares = worker.shares(attack, clean, defenses)
                        yield Outcome(attack, clean.start, shares, worker.spent)
                    else:
                        kept = store.folder is not None
                        yield Job(attack, defenses, clean, finished.found, kept)

    def _size(self, ray: Any) -> int:
        """Return how many tasks run at a time; a cluster may grow."""
        if self.workers is not None:
            return self.workers
        most = 0
        for node in ray.nodes():
            there = node["Resources"] if node["Alive"] else {}
            fit = int(there.get("CPU", 0) / self.threads)
            if self.gpus:
                fit = min(fit, int(there.get("GPU", 0) / self.gpus))
            most += fit
        if not most:
            raise ValueError(
                f"a node must have the {self.threads} `threads` and {self.gpus:g} `gpus` of a "
                "worker, got none; ask for less, or give `workers` if the cluster is to grow"
            )
        return most

    def _submitting(self, ray: Any, payload: bytes) -> Callable[[Job], Any]:
        """Put the plan into the object store, and return what begins a job."""
        box, name = [ray.put(payload)], token_hex(16)  # a box, so that workers fetch it once
        task = ray.remote(
            num_cpus=self.threads,
            num_gpus=self.gpus,
            max_retries=MOST_RETRIES,
            max_calls=0,  # a process with a GPU stays for the next one, too
        )(answer)
        how = (self.threads, "cuda" if self.gpus else "cpu")
        return lambda job: task.remote(name, box, how, pickle.dumps(job))


def make_spread(engine: str, workers: Any, threads: Any, gpus: Any) -> Spread | None:
    """Return how an evaluation is spread over a cluster; None for a local one.

    >>> make_spread("local", None, None, 0.0) is None
    True
    """
    if check_engine(engine) == "ray":
        with optional("`engine='ray'`", "ray", "ray"):
            import_module("ray")
        return Spread(
            None if workers is None else check_integer("workers", workers, 1, 2**20),
            1 if threads is None else check_integer("threads", threads, 1, MAX_THREADS),
            check_number("gpus", gpus, 0.0),
        )
    for name, value in (("workers", workers), ("threads", threads), ("gpus", gpus or None)):
        if value is not None:
            raise ValueError(
                f"`{name}` is for `engine='ray'`, got {value!r} with 'local'; leave it out, or "
                "give that engine"
            )
    return None


@contextmanager
def held(engine: str) -> Iterator[None]:
    """Keep one cluster for several evaluations, where they are spread over one."""
    if check_engine(engine) == "local":
        yield
        return
    with cluster():
        yield


def taken_up(
    plan: Plan, finished: Finished, attack: str | None, clean: Batch, defenses: tuple[str, ...]
) -> bool:
    """Say whether all parts of a job are there; those that are there are found afterwards."""
    whole, worker = True, Worker(plan, finished, Progress({}))
    for defense in defenses:
        try:
            worker.shares(attack, clean, [defense])
        except Missing:
            whole = False
    return whole


def pack(plan: Plan) -> bytes:
    """Return a plan, without its images, as what a worker unpacks; raise if a part of it cannot be.

    Code that was loaded from files goes along: no other process has it.
    """
    pickler: Any = import_module("ray.cloudpickle")
    files = loaded_files()
    for module in files:
        pickler.register_pickle_by_value(module)
    try:
        try:
            packed: bytes = pickler.dumps(replace(plan, data=plan.data.first(1)))
        except Exception as error:  # of any type: it is the code of others
            name, part, reason = _culprit(pickler, plan, error)
            raise TypeError(
                f"`{name}` must be an object that can be pickled with `engine='ray'`, got "
                f"{type(part).__name__}: {reason}; keep locks, open files and the like out of it, "
                "or give it `__getstate__`"
            ) from error
    finally:
        for module in files:
            pickler.unregister_pickle_by_value(module)
    return packed


def _culprit(pickler: Any, plan: Plan, error: Exception) -> tuple[str, Any, str]:
    """Return what cannot be pickled, its name and the reason."""
    parts: list[tuple[str, nn.Module | Any]] = [
        ("model", plan.model),
        ("surrogate", plan.surrogate),
        *(("defenses", defense) for defense in plan.defenses.values()),
        *(("attacks", attack) for attack in plan.attacks.values()),
    ]
    for name, part in parts:
        try:
            pickler.dumps(part)
        except Exception as found:  # of any type: it is the code of others
            return name, part, reason_of(found)
    return "model", plan.model, reason_of(error)


def _received(ray: Any, reference: Any, job: Job) -> Answer:
    """Return the answer to a job, or raise what was raised there."""
    try:
        result: Answer | Exception = pickle.loads(ray.get(reference))
    except ray.exceptions.RayError as error:
        last = job.clean.start + len(job.clean) - 1
        raise RuntimeError(
            f"no worker of Ray could evaluate images {job.clean.start} to {last}: "
            f"{type(error).__name__}: {reason_of(error)}; mend that, and run the same again: "
            "finished parts in `output` are kept"
        ) from error
    if isinstance(result, Exception):
        raise result
    return result


def _taken_in(
    result: Answer, store: PartStore, progress: Progress, size: int, told: set[str]
) -> Outcome:
    """Keep the parts of an answer, count it and say what it warned of; return its outcome."""
    for description, part in result.made:
        store.put(description, part)
    for kind, (images, seconds) in result.counts.items():
        progress.advance(kind, images, seconds / size)
    for text in result.warned:
        if text not in told:
            told.add(text)
            warnings.warn(text, stacklevel=2)
    return result.outcome


def _cancel(ray: Any, running: Mapping[Any, Job]) -> None:
    """End what is left where the evaluation ends early."""
    for reference in running:
        with suppress(Exception):
            ray.cancel(reference, force=True)
