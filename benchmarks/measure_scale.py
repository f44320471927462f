"""What an image, a shard and a task cost in a conversion: the numbers of `simulate_cluster.py`.

    python benchmarks/measure_scale.py            # writes scale_costs.json, but for Ray
    python benchmarks/measure_scale.py --ray      # adds those of Ray, where `ray` is installed

Costs are seconds of a processor, which other work on the machine stretches little. Runs by the
clock have workers that sleep for the time of the solver: so many fit on one machine, and what is
left is the conversion's own. Nothing is solved for the driver's costs.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import os
import resource
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import splic_ext
from splic_ext.conversion import clusters, completing
from splic_ext.conversion.engines import LocalEngine
from splic_ext.conversion.items import Piece, Shard, Unit
from splic_ext.conversion.manifest import Manifest, keep_record
from splic_ext.conversion.places import place_of
from splic_ext.conversion.planning import Plan, jobs_of
from splic_ext.conversion.readers.tar import TarReader
from splic_ext.conversion.settings import Settings
from splic_ext.conversion.shards import Record, ShardJob, make_shard
from splic_ext.conversion.writers.base import Layout, Made
from splic_ext.diagnostics import cpu_name

HERE = Path(__file__).resolve().parent
RESULT = HERE / "scale_costs.json"

#: Size, preset, format, images that are solved.
LOADS = (
    (32, "paper", "PNG", 256),
    (32, "recommended", "PNG", 128),
    (224, "recommended", "JPEG", 2),
    (224, "recommended", "PNG", 2),
)
#: Shards whose plan, jobs, answers and records are timed.
MANY = 2000

#: Where images sleep: seconds of an image, images of a shard, shards of a worker, workers.
ASLEEP, SLEEPING_IMAGES, SLEEPING_SHARDS = 0.04, 50, 4
SLEEPERS = {"local": (1, 2, 4, 8, 16), "ray": (1, 2)}

#: A worker that finds it in its path sleeps in place of solving.
SLEEP = """
import os, sys
if "splic_ext.conversion.worker" in sys.orig_argv and "SPLIC_ASLEEP" in os.environ:
    import time
    from splic_ext.conversion import completing
    def asleep(group, threads, job):
        time.sleep(float(os.environ["SPLIC_ASLEEP"]) * len(group))
        return [loaded.picture.pixels for loaded in group]
    completing.complete_group = asleep
"""


def processor(call: Callable[[], Any], repeats: int = 3) -> float:
    """Return the least seconds of this process's processor that a call takes."""
    times = []
    for _ in range(repeats):
        before = time.process_time()
        call()
        times.append(time.process_time() - before)
    return min(times)


def rounded(value: Any) -> Any:
    """Return it with three digits that count."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value


def pictures(size: int, count: int) -> np.ndarray:
    """Return images (N, H, W, 3) of uint8: of CIFAR-10, or photographs that come with packages."""
    sys.path.insert(0, str(HERE))
    import workloads

    case = workloads.find_case(size, 3)
    images = np.moveaxis(workloads.load_images(case, count), 1, -1)
    return np.round(255 * images).astype(np.uint8)


def encoded(image: np.ndarray, kind: str) -> bytes:
    """Return an image file, as a conversion writes it."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format=kind, **({"quality": 95} if kind == "JPEG" else {}))
    return stream.getvalue()


def write_tar(path: Path, files: list[bytes], suffix: str, first: int = 0) -> None:
    """Write an archive of samples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for number, content in enumerate(files, first):
            info = tarfile.TarInfo(f"{number:08}.{suffix}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def job_of(folder: Path, dest: Path, unit: Unit) -> tuple[Any, ...]:
    """Return what `make_shard` takes for a whole archive."""
    reader = TarReader(place_of(folder), 2**31)
    shard = Shard(0, "00000", 0, (Piece(unit.name, 0, unit.count),))
    layout = Layout("tar", "tar", "keep", (3, 32, 32), "uint8", None, None, 1, 1)
    settings = Settings(splic_ext.SolverOptions())
    return ShardJob(shard, (unit,)), reader, place_of(dest), layout, settings


def load(size: int, preset: str, kind: str, count: int, folder: Path) -> dict[str, Any]:
    """Return what an image takes."""
    images = pictures(size, count)
    options = splic_ext.SolverOptions.preset(preset)
    done: list[np.ndarray] = []

    def solve() -> None:
        done[:] = splic_ext.complete(images, options=options, channel_axis=-1, threads=1)

    solver = processor(solve, 3 if size == 32 else 2) / count
    files = [encoded(image, kind) for image in images]
    repeated = (files * 500)[: 500 if size == 32 else 40]
    write_tar(folder / "in/00000.tar", repeated, kind.lower().replace("jpeg", "jpg"))
    reader = TarReader(place_of(folder / "in"), 2**31)
    (entry,) = reader.entries()
    unit = reader.scan(entry)
    arguments = job_of(folder / "in", folder / "out", unit)
    right = completing.complete_group
    completing.complete_group = lambda group, threads, job: [  # type: ignore[assignment]
        loaded.picture.pixels for loaded in group
    ]
    try:
        other = processor(lambda: make_shard(*arguments)) / len(repeated)
    finally:
        completing.complete_group = right
    head = sum(-(-len(file) // 512) * 512 + 512 for file in repeated) / len(repeated)
    tail = sum(-(-len(encoded(i, kind)) // 512) * 512 + 512 for i in done) / len(done)
    return {
        "name": f"{size} x {size}, {preset}, {kind}",
        "solved": count,
        "solver_seconds": solver,
        "other_seconds": other,
        "images_per_second": 1 / (solver + other),
        "bare_images_per_second": 1 / solver,
        "bytes_read": head,
        "bytes_written": tail,
        "look_seconds": processor(lambda: reader.scan(entry)) / len(repeated),
    }


def plan_of(count: int, size: int) -> Plan:
    """Return the plan of archives that are nowhere."""
    units = tuple(
        Unit(f"{i:07}.tar", "shard", 10**7, "1700000000000000000", size, "0" * 64,
             tuple(range(0, 10**7, 10**7 * 1000 // size)))
        for i in range(count)
    )  # fmt: skip
    shards = tuple(
        Shard(i, f"{i:07}", i * size, (Piece(unit.name, 0, size),)) for i, unit in enumerate(units)
    )
    layout = Layout("tar", "tar", "keep", (), "uint8", None, None, count, 1)
    return Plan({"version": "0"}, layout, units, shards)


def driver(folder: Path) -> dict[str, Any]:
    """Return what the driver does for a shard."""
    plan = plan_of(MANY, 10_000)
    reader = TarReader(place_of(folder), 2**31)
    jobs: list[str] = []

    def make_jobs() -> None:
        jobs[:] = [
            json.dumps({"do": "shard", "job": job.to_dict()})
            for job in jobs_of(plan, plan.shards, reader)
        ]

    place = place_of(folder / "work")
    manifest = Manifest(place)
    begin = processor(lambda: manifest.begin(plan), 1)
    hand = processor(make_jobs)
    answer = json.dumps({"count": 10_000, "rejects": [], "rejected": 0})
    hear = processor(lambda: [json.loads(answer) for _ in range(MANY)])
    records = [
        Record(s.number, s.name, s.first, 10_000, 10_000, "0" * 64,
               (Made(f"{s.name}.tar", 10**7, "0" * 64),), ())
        for s in plan.shards
    ]  # fmt: skip
    keep = processor(lambda: [keep_record(place, record) for record in records], 1)
    finish = processor(manifest.finish, 1)
    return {
        "shards": MANY,
        "plan_seconds": (begin + hand) / MANY,
        "answer_seconds": hear / MANY,
        "record_seconds_of_a_worker": keep / MANY,
        "finish_seconds": finish / MANY,
        "job_bytes": sum(map(len, jobs)) / MANY,
        "answer_bytes": len(answer),
    }


class Tiny:
    """Jobs that a worker answers with an error at once."""

    def __init__(self, folder: Path) -> None:
        self.setup = {
            "source": str(folder), "dest": str(folder), "kind": "tar", "state": {"classes": None},
            "settings": Settings(splic_ext.SolverOptions()).to_dict(), "layout": None,
            "instruction_set": Settings(splic_ext.SolverOptions()).identity()["instruction_set"],
            "workers": 1,
        }  # fmt: skip

    def jobs(self, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
        entry = {"name": "none.tar", "size": 0, "stamp": ""}
        return ((i, {"do": "scan", "entry": entry}) for i in range(count))

    def run(self, engine: Any, count: int) -> tuple[float, float]:
        """Return seconds by the clock and of this process's processor."""
        began, used = time.perf_counter(), time.process_time()
        assert sum(isinstance(a, tuple) for a in engine.run(self.setup, self.jobs(count))) == count
        return time.perf_counter() - began, time.process_time() - used


def tasks(engine: Any, folder: Path, few: int, many: int) -> dict[str, float]:
    """Return what a task takes that does nothing, from few to many, and what all begins with."""
    tiny = Tiny(folder)
    first, second = tiny.run(engine, few), tiny.run(engine, many)
    clock, used = ((b - a) / (many - few) for a, b in zip(first, second, strict=True))
    return {
        "seconds_by_the_clock": clock,
        "seconds_of_the_driver": used,
        "start_by_the_clock": first[0] - few * clock,
        "few": few,
        "many": many,
    }


def asleep(engine: str, workers: int, folder: Path) -> dict[str, Any]:
    """Convert with so many workers that sleep; each has as many shards as with any other number."""
    shards = workers * SLEEPING_SHARDS
    rng = np.random.default_rng(0)
    file = encoded(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), "PNG")
    for number in range(shards):
        path = folder / f"in/{number:05}.tar"
        write_tar(path, [file] * SLEEPING_IMAGES, "png", number * SLEEPING_IMAGES)
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site/sitecustomize.py").write_text(SLEEP, encoding="utf-8")
    sys.path.insert(0, str(folder / "site"))
    os.environ["SPLIC_ASLEEP"] = str(ASLEEP)
    began = time.perf_counter()
    try:
        options = {"engine": engine, "workers": workers, "threads": 1}
        done = splic_ext.convert(folder / "in", folder / "out", **options)
    finally:
        sys.path.pop(0)
        del os.environ["SPLIC_ASLEEP"]
    assert done.written == shards * SLEEPING_IMAGES
    return {
        "workers": workers,
        "shards": shards,
        "images": done.written,
        "image_seconds": ASLEEP,
        "seconds": time.perf_counter() - began,
    }


def awake(workers: int, folder: Path) -> dict[str, Any]:
    """Convert with workers that solve; seconds by the clock, and of all processors."""
    images = pictures(32, 256)
    for number in range(2 * workers):
        files = [encoded(image, "PNG") for image in images]
        write_tar(folder / f"in/{number:05}.tar", files, "png", 256 * number)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = splic_ext.convert(
        folder / "in", folder / "out", options="paper", workers=workers, threads=1
    )
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "workers": workers,
        "images": done.written,
        "seconds": seconds,
        "processor_seconds_of_workers": used,
    }


def start(folder: Path) -> dict[str, float]:
    """Return what it takes until a worker of this machine has answered the first job."""
    tiny = Tiny(folder)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    clock = min(tiny.run(LocalEngine(1, 1), 1)[0] for _ in range(3))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds_by_the_clock": clock, "processor_seconds": used / 3}


def in_folder(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call with a new folder as the last argument."""
    with tempfile.TemporaryDirectory() as folder:
        return call(*arguments, Path(folder))


def about(command: str) -> dict[str, Any]:
    """Return where and when."""
    return {
        "command": command,
        "machine": cpu_name(),
        "processors": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "instruction_set": Settings(splic_ext.SolverOptions()).identity()["instruction_set"],
        "splic_ext": splic_ext.__version__,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }


def tell(what: str, found: Any) -> Any:
    """Print a result on its way."""
    print(what, json.dumps(rounded(found)), flush=True)
    return found


def of_this_machine() -> dict[str, Any]:
    """Return all but Ray's."""
    found = about("python benchmarks/measure_scale.py")
    found["loads"] = [tell("load", in_folder(load, *values)) for values in LOADS]
    found["driver"] = tell("driver", in_folder(driver))
    found["worker_start"] = tell("start", in_folder(start))
    found["local_task"] = tell("task", in_folder(lambda f: tasks(LocalEngine(1, 1), f, 100, 2000)))
    found["asleep"] = [tell("asleep", in_folder(asleep, "local", n)) for n in SLEEPERS["local"]]
    found["solving"] = [tell("solving", in_folder(awake, n)) for n in (1, 2)]
    return found


def of_ray() -> dict[str, Any]:
    """Return Ray's, on a cluster of this machine that has processors enough in name."""
    import ray

    found = about("python benchmarks/measure_scale.py --ray")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (folder, *sys.path)))
        (Path(folder) / "sitecustomize.py").write_text(SLEEP, encoding="utf-8")
        os.environ["SPLIC_ASLEEP"] = str(ASLEEP)
        ray.init(
            address="local",
            num_cpus=max(SLEEPERS["ray"]),
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=80 * 2**20,
        )
        found["ray"] = ray.__version__
        engine = clusters.RayEngine(2, 1, 0.0)
        found["task_2"] = tell("task", in_folder(lambda f: tasks(engine, f, 20, 220)))
        found["asleep"] = []
        for workers in SLEEPERS["ray"]:
            found["asleep"].append(tell("asleep", in_folder(asleep, "ray", workers)))
        ray.shutdown()
    return found


def main() -> None:
    """Measure, and write what is measured beside what was."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ray", action="store_true", help="Ray's costs alone")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    place = arguments.output
    before = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    name = "ray" if arguments.ray else "local"
    found = {**before, name: rounded(of_ray() if arguments.ray else of_this_machine())}
    place.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
