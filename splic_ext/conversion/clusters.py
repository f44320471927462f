"""Shards on a cluster of Ray: an actor pool of Ray Data, which takes up what dies."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from splic_ext.common.clusters import cluster
from splic_ext.conversion.crew import Outside

__all__ = ["RayEngine"]

#: Into so many parts the list of jobs is cut: what dies is made again with the rest of its part.
MOST_BLOCKS = 10_000


class ShardActor:
    """An actor that owns a worker process, which an image may crash without ending the actor."""

    def __init__(self, setup: str) -> None:
        self._crew = Outside(json.loads(setup))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the answers to a batch of jobs."""
        numbers = [int(number) for number in batch["number"]]
        answers = [json.dumps(self._crew.run(json.loads(job))) for job in batch["job"]]
        return {"number": numbers, "answer": answers}


class RayEngine:
    """Actors of Ray Data, each with some processors, or a GPU.

    Jobs and answers are all that passes through the object store: workers read the source and write
    the destination themselves, so both must be where all nodes see them.
    """

    def __init__(self, workers: int | None, threads: int, gpus: float) -> None:
        self._workers, self._threads, self._gpus = workers, threads, gpus

    def run(
        self, setup: Mapping[str, Any], jobs: Iterator[tuple[int, dict[str, Any]]]
    ) -> Iterator[tuple[int, dict[str, Any]] | int]:
        """Yield each job's number with its answer."""
        rows = [{"number": number, "job": json.dumps(job)} for number, job in jobs]
        if not rows:
            return
        with cluster() as ray:
            data: Any = import_module("ray.data")
            processors = int(ray.cluster_resources().get("CPU", 1))
            most = self._workers or max(1, processors // self._threads)
            size = max(1, min(most, len(rows)))
            resources: dict[str, Any] = {"num_cpus": self._threads}
            if self._gpus:
                resources["num_gpus"] = self._gpus
            context = data.DataContext.get_current()
            context.enable_progress_bars = False
            logging.getLogger("ray.data").setLevel(logging.WARNING)
            made = data.from_items(
                rows, override_num_blocks=min(len(rows), MOST_BLOCKS)
            ).map_batches(
                ShardActor,
                batch_size=1,
                compute=data.ActorPoolStrategy(size=size),
                fn_constructor_args=(json.dumps(dict(setup)),),
                **resources,
            )
            for row in made.iter_rows():
                yield int(row["number"]), json.loads(row["answer"])
