"""What a worker of a cluster does: one batch of an evaluation, in a process of its own."""

from __future__ import annotations

import os
import pickle
import platform
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import nn

from splic_ext.common.checks import reason_of
from splic_ext.evaluation.plan import Batch, Plan
from splic_ext.evaluation.work import Outcome, Worker
from splic_ext.runs.fingerprints import code_fingerprint, fingerprint, package_versions
from splic_ext.runs.machine import describe_machine
from splic_ext.runs.progress import Progress
from splic_ext.runs.store import Part

__all__ = ["Answer", "Job", "answer", "evaluated"]


@dataclass(frozen=True)
class Job:
    """A batch under an attack, or clean, behind some defences, with the parts that are there.

    `kept` says whether the parts that it makes are sent back.
    """

    attack: str | None
    defenses: tuple[str, ...]
    clean: Batch
    found: dict[str, Part]
    kept: bool


@dataclass(frozen=True)
class Answer:
    """What came of a job: its outcome, new parts, images and seconds by kind, and warnings."""

    outcome: Outcome
    made: tuple[tuple[dict[str, Any], Part], ...]
    counts: dict[str, tuple[int, float]]
    warned: tuple[str, ...]


@dataclass
class Shelf:
    """A store in memory: the parts that came with a job, and those that it makes."""

    found: Mapping[str, Part]
    kept: bool
    made: list[tuple[dict[str, Any], Part]] = field(default_factory=list)

    def get(
        self,
        description: Mapping[str, Any],
        expected: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
    ) -> Part | None:
        """Return a part that came with the job."""
        return self.found.get(fingerprint(description))

    def put(self, description: Mapping[str, Any], part: Part) -> None:
        """Keep a part for the answer."""
        if self.kept:
            self.made.append((dict(description), part))


#: The plan that this process works on, by the name of its run.
_PLANS: dict[str, Plan] = {}


def answer(name: str, box: list[Any], how: tuple[int, str], job: bytes) -> bytes:
    """Return the answer to a job, or an error, pickled; `box` has the plan of the run `name`.

    `how` has the threads of torch and of the solver, and the device.
    """
    try:
        if name not in _PLANS:
            _PLANS.clear()
            _PLANS[name] = _plan(import_module("ray").get(box[0]), *how)
        return pickle.dumps(evaluated(_PLANS[name], pickle.loads(job)))
    except Exception as error:  # of any type: it is raised where the evaluation was called
        return pickle.dumps(_portable(error))


def evaluated(plan: Plan, job: Job) -> Answer:
    """Return what comes of a job."""
    given = job.clean
    clean = Batch(given.start, given.images.to(plan.device), given.labels.to(plan.device))
    shelf, progress = Shelf(job.found, job.kept), Progress({})
    worker = Worker(plan, shelf, progress)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        shares = worker.shares(job.attack, clean, job.defenses)
    machine = describe_machine(plan.device)
    return Answer(
        Outcome(job.attack, clean.start, shares, worker.spent, machine),
        made=tuple(shelf.made),
        counts={kind: (n, progress.seconds[kind]) for kind, n in progress.counts.items()},
        warned=tuple(str(w.message) for w in caught if issubclass(w.category, UserWarning)),
    )


def _plan(packed: bytes, threads: int, device: str) -> Plan:
    """Unpack a plan for this process; raise if it would compute something else here."""
    torch.set_num_threads(threads)
    os.environ["SPLIC_NUM_THREADS"] = str(threads)
    plan: Plan = pickle.loads(packed)
    here = {"code": code_fingerprint(), "versions": package_versions()}
    for what, value in here.items():
        if plan.environment[what] != value:
            raise RuntimeError(
                f"the node '{platform.node()}' must have the {what} of splic_ext and its packages "
                "that this process has, got others; install the same on all nodes"
            )
    place = torch.device(device)
    for part in (plan.model, plan.surrogate, *plan.defenses.values()):
        if isinstance(part, nn.Module):
            part.to(place)
    return replace(plan, device=place)


def _portable(error: Exception) -> Exception:
    """Return an error that can be pickled: itself, or one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # of any type: it is the code of others
        return RuntimeError(f"{type(error).__name__}: {reason_of(error)}")
    return error
