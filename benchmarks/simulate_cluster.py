"""What a conversion takes on up to a thousand processors: a simulation, event by event.

    pip install 'simpy>=4.1'
    python benchmarks/simulate_cluster.py                 # writes scale.json
    python benchmarks/simulate_cluster.py --plot docs/images/scale.svg   # needs matplotlib

What an image and a shard cost comes from `scale_costs.json`, which `measure_scale.py` writes. What
cannot be measured on one machine is assumed: `ASSUMPTIONS` and `STORES` say what, and stand in the
result.
"""

from __future__ import annotations

import argparse
import datetime
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import simpy
from cluster_events import MOST_TASKS, Cluster, Driver, Work, simulate

HERE = Path(__file__).resolve().parent
COSTS, RESULT = HERE / "scale_costs.json", HERE / "scale.json"

ASSUMPTIONS = (
    "A worker is one core, as fast as the one that was measured, whatever the others do.",
    "The time of a shard is its images times the mean time of an image, times a log-normal factor "
    "of mean 1, whose sigma is `straggle`.",
    "A worker reads a shard, computes it, writes it and notes that it is finished, one after the "
    "other; nothing overlaps within a worker.",
    "The store gives its bytes a second in equal shares to all transfers of a moment, to each not "
    "more than `each`; a request waits `latency` seconds beside that, and never fails.",
    "A worker dies at any moment with the same rate, `failures_per_hour`. What its task had made "
    "is lost, and it begins the task again after `restart` seconds. Finished tasks are kept.",
    "The driver does one thing at a time, in the order in which it is asked: it hands out a task, "
    "hears an answer. Each worker is given `ahead` tasks: one of this machine's processes 1, an "
    "actor of Ray Data 2.",
    "A task is one shard, of more than 10,000 shards several, as for Ray.",
    "Before the tasks all workers start at once, the source is looked through by all of them, in "
    "equal parts, and the driver plans all shards. After them the driver reads the records of all "
    "shards and removes them, one after the other. Meanwhile the workers wait.",
)

#: Assumed: bytes a second of all and of one transfer, and seconds of a request.
STORES = {
    "object store": {"bandwidth": 5e9, "each": 1e8, "latency": 0.03},
    "file server": {"bandwidth": 1e9, "each": 5e8, "latency": 0.002},
}
#: Assumed of workers: a death in 100 hours each, 30 seconds for another, shards that differ by a
#: tenth. Two tasks ahead are Ray Data's default.
USUAL = {"straggle": 0.1, "failures_per_hour": 0.01, "restart": 30.0, "ahead": 2}
#: Assumed: seconds until all actors are there, and of Ray's driver for a task, until
#: `measure_scale.py --ray` has measured them.
START, TASK = 30.0, 0.02
#: Counted by the tests (python_tests/conversion/test_s3.py) of a small archive, which is looked
#: through, looked at, read, written and noted; and of its record, which is read and removed.
SHARD_REQUESTS, FINISH_REQUESTS = 10, 2

SETS = {"ImageNet-1k": 1_281_167, "ImageNet-21k": 14_197_122, "10^9 images": 10**9}
CORES = (16, 256, 1000)
MANY = (1, 2, 16, 256, 1000)
#: Shards of a worker, where the cluster grows with the set.
EACH_HAS = 8


def shard_size(images: int, workers: int) -> int:
    """Return a size that gives each worker eight shards, from 50 images to a task of Ray's."""
    return min(max(10_000, images // MOST_TASKS), max(50, images // (EACH_HAS * workers)))


def work_of(load: dict[str, Any], images: int, size: int) -> Work:
    """Return what a measured load is for so many images."""
    return Work(
        images,
        size,
        seconds=load["solver_seconds"] + load["other_seconds"],
        bytes_read=load["bytes_read"],
        bytes_written=load["bytes_written"],
        look_seconds=load["look_seconds"],
        shard_requests=SHARD_REQUESTS,
    )


def task_seconds(costs: dict[str, Any]) -> float:
    """Return what a task of Ray takes: measured, or else assumed."""
    return float(costs["ray"]["task_2"]["seconds_by_the_clock"]) if "ray" in costs else TASK


def ray_driver(costs: dict[str, Any]) -> Driver:
    """Return what the driver of Ray was measured to take."""
    local = costs["local"]["driver"]
    return Driver(
        start=START,
        plan=local["plan_seconds"],
        hand=task_seconds(costs),
        answer=local["answer_seconds"],
        finish=local["finish_seconds"],
        finish_requests=FINISH_REQUESTS,
    )


def limits(work: Work, driver: Driver, cluster: Cluster) -> dict[str, float]:
    """Return the seconds that each part alone takes at least, were the others free."""
    shards = len(work.counts())
    tasks = min(shards, MOST_TASKS)
    after = driver.finish + driver.finish_requests * cluster.latency
    moving = 2 * work.bytes_read + work.bytes_written  # it is looked through, and read
    return {
        "workers": work.images * (work.seconds + work.look_seconds) / cluster.workers,
        "store": work.images * moving / cluster.bandwidth,
        "driver": tasks * driver.hand + shards * (driver.plan + driver.answer + after),
    }


def predict(load: dict[str, Any], images: int, workers: int, store: str, costs: Any) -> Any:
    """Return what a run is predicted to take."""
    work = work_of(load, images, shard_size(images, workers))
    driver = ray_driver(costs)
    cluster = Cluster(workers, **STORES[store], **USUAL)
    out = simulate(work, driver, cluster)
    alone = limits(work, driver, cluster)
    return {
        "load": load["name"],
        "store": store,
        "images": images,
        "workers": workers,
        "shard_size": work.shard_size,
        "shards": len(work.counts()),
        "seconds": out.seconds,
        "hours": out.seconds / 3600,
        "core_hours": images * work.seconds / 3600,
        "efficiency_percent": 100 * images * work.seconds / workers / out.seconds,
        "deaths": out.deaths,
        "before_seconds": out.before,
        "after_seconds": out.after,
        "limit": max(alone, key=alone.__getitem__),
        "alone_seconds": alone,
    }


def compared(run: dict[str, Any], predicted: float, measured: float) -> dict[str, Any]:
    """Put a prediction beside what was measured."""
    return {
        "workers": run["workers"],
        "predicted": predicted,
        "measured": measured,
        "error_percent": 100 * (predicted / measured - 1),
    }


def validate(costs: dict[str, Any]) -> dict[str, Any]:
    """Predict the runs that were measured: workers that sleep by the clock, and those that solve.

    The first run of each kind is predicted like the others; nothing is fitted to them.
    """
    local = costs["local"]
    begin = local["worker_start"]["seconds_by_the_clock"]
    drivers = {
        "local": Driver(
            start=begin,
            plan=local["driver"]["plan_seconds"],
            hand=local["local_task"]["seconds_by_the_clock"],
            finish=local["driver"]["finish_seconds"],
        ),
    }
    if "ray" in costs:
        start = costs["ray"]["task_2"]["start_by_the_clock"]
        drivers["ray"] = replace(ray_driver(costs), start=start)
    found: dict[str, Any] = {}
    for engine, driver in drivers.items():
        found[f"asleep, {engine}"] = []
        for run in costs[engine]["asleep"]:
            work = Work(run["images"], run["images"] // run["shards"], run["image_seconds"])
            cluster = Cluster(run["workers"], ahead=2 if engine == "ray" else 1)
            out = simulate(work, driver, cluster)
            found[f"asleep, {engine}"].append(compared(run, out.seconds, run["seconds"]))
    load = local["loads"][0]
    each = load["solver_seconds"] + load["other_seconds"]
    found["solving, processor seconds"] = [
        compared(
            run,
            run["images"] * each + run["workers"] * local["worker_start"]["processor_seconds"],
            run["processor_seconds_of_workers"],
        )
        for run in local["solving"]
    ]
    return found


def turning_points(load: dict[str, Any], costs: dict[str, Any]) -> dict[str, Any]:
    """Return from how many cores on the store or the driver holds a load up."""
    seconds = load["solver_seconds"] + load["other_seconds"]
    moving = load["bytes_read"] + load["bytes_written"]
    task = task_seconds(costs)
    return {
        "load": load["name"],
        "bytes_a_second_of_a_core": moving / seconds,
        **{
            f"cores_for_the_{store.replace(' ', '_')}": round(
                values["bandwidth"] * seconds / moving
            )
            for store, values in STORES.items()
        },
        "cores_for_the_driver_at_10000_images_a_shard": round(10_000 * seconds / task),
    }


def rounded(value: Any) -> Any:
    """Return it with three digits that count, four from 1,000 on, as whole numbers."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part) for part in value]
    if isinstance(value, float):
        return round(value) if abs(value) >= 1000 else float(f"{value:.3g}")
    return value


def all_results(costs: dict[str, Any]) -> dict[str, Any]:
    """Return what is written."""
    loads = costs["local"]["loads"][:3]
    return {
        "command": "python benchmarks/simulate_cluster.py",
        "machine": costs["local"]["machine"],
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "measured": {"file": COSTS.name, "date": costs["local"]["date"]},
        "simpy": simpy.__version__,
        "seed": 0,
        "assumptions": ASSUMPTIONS,
        "assumed": {
            "stores": STORES,
            "workers": USUAL,
            "start_seconds": START,
            "shard_requests": SHARD_REQUESTS,
            "finish_requests": FINISH_REQUESTS,
            "task_of_ray": "measured" if "ray" in costs else "assumed",
            "driver": asdict(ray_driver(costs)),
        },
        "validation": validate(costs),
        "turning_points": [turning_points(load, costs) for load in loads],
        "sets": {
            name: [
                predict(load, images, cores, "object store", costs)
                for load in loads
                for cores in CORES
            ]
            for name, images in SETS.items()
        },
        "weak_scaling": [
            predict(load, workers * per, workers, store, costs)
            for load, per in zip(loads, (80_000, 80_000, 800), strict=True)
            for store in STORES
            for workers in MANY
        ],
    }


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw weak scaling."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "splic", "font.size": 9}
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.4), constrained_layout=True)
    colours = ("#1f5fa8", "#c2571a", "#2f7d4f", "#7a4fa3")
    runs = results["weak_scaling"]
    names = list(dict.fromkeys(run["load"] for run in runs))
    for name, colour in zip(names, colours, strict=False):
        for store, style in zip(STORES, ("-", "--"), strict=True):
            mine = [run for run in runs if (run["load"], run["store"]) == (name, store)]
            label = f"{name}; {store}"
            xs = [run["workers"] for run in mine]
            ys = [run["efficiency_percent"] for run in mine]
            axes.plot(xs, ys, style, color=colour, label=label, marker=".", linewidth=1.3)
    axes.set(xscale="log", xlabel="cores", ylabel="predicted efficiency, %", ylim=(0, 102))
    axes.set_xticks((1, 4, 16, 64, 256, 1000), ("1", "4", "16", "64", "256", "1,000"))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="lower left")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Simulate, write, and draw what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    parser.add_argument("--plot", type=Path, help="an SVG of the weak scaling")
    arguments = parser.parse_args()
    results = rounded(all_results(json.loads(COSTS.read_text(encoding="utf-8"))))
    arguments.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if arguments.plot:
        plot(results, arguments.plot)


if __name__ == "__main__":
    main()
