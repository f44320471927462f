"""Parameters of a conversion, checked and made into a run."""

from __future__ import annotations

import os
from typing import Any

from splic_ext.common.checks import check_integer, check_number
from splic_ext.common.clusters import check_engine
from splic_ext.completion import MAX_THREADS
from splic_ext.completion import resolve_options as solver_options
from splic_ext.conversion.engines import Engine, LocalEngine
from splic_ext.conversion.manifest import Manifest
from splic_ext.conversion.places import place_of
from splic_ext.conversion.readers.opening import find_reader
from splic_ext.conversion.running import Run, Silent
from splic_ext.conversion.settings import Settings

__all__ = ["open_run", "problems_of"]


def open_run(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    to: str | None,
    shard_size: int | None,
    engine: str,
    workers: int | None,
    threads: int | None,
    gpus: float,
    overwrite: bool,
    reporter: Any,
    settings: dict[str, Any],
) -> Run:
    """Return what :func:`splic_ext.convert` runs."""
    check_engine(engine)
    if workers is not None:
        workers = check_integer("workers", workers, 0 if engine == "local" else 1, 2**20)
    if threads is not None:
        threads = check_integer("threads", threads, 1, MAX_THREADS)
    gpus = check_number("gpus", gpus, 0.0)
    if settings["defense"] is not None and not isinstance(settings["defense"], str):
        raise TypeError(
            f"`defense` must be a text, got {type(settings['defense']).__name__}; workers make it "
            "anew: give its name, or its place as 'package.module:Class'"
        )
    made = Settings(
        **{**settings, "options": solver_options(settings["options"])}, threads=threads or 1
    )
    places = place_of(source), place_of(dest)
    if engine == "ray" and not (places[0].shared and places[1].shared):
        raise ValueError(
            "`source` and `dest` must be seen by all nodes with `engine='ray'`, got the memory of "
            "this process; use a shared path or a URL of a service"
        )
    reader = find_reader(os.fspath(source), places[0], made.max_bytes)
    reader.skipping = made.skip_unreadable
    return Run(
        reader=reader,
        source=places[0].text if places[0].kind() else os.fspath(source),
        dest=places[1],
        to=to or ("npy" if reader.kind == "dataset" else reader.kind),
        shard_size=shard_size,
        settings=made,
        engine=_engine(engine, workers, threads, gpus),
        overwrite=overwrite,
        reporter=reporter or Silent(),
    )


def _engine(engine: str, workers: int | None, threads: int | None, gpus: float) -> Engine:
    if engine == "local":
        return LocalEngine(workers, threads)
    from splic_ext.conversion.clusters import RayEngine

    return RayEngine(workers, threads or 1, gpus)


def problems_of(dest: str | os.PathLike[str]) -> list[str]:
    """Return what :func:`splic_ext.conversion.verify` finds."""
    place = place_of(dest)
    manifest = Manifest(place)
    if manifest.plan is None:
        raise ValueError(f"'{place.text}' holds no manifest of a conversion; give its destination")
    found = [f"'{name}': {problem}" for name, problem in manifest.verify() if problem is not None]
    records = {record.number for record in manifest.records()}
    found += [
        f"'{shard.name}': it is not finished; run the same command again"
        for shard in manifest.plan.shards
        if shard.number not in records
    ]
    return found
