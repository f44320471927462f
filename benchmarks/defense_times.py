"""How long the defences beside SPLIC take, one thread: in native code, in torch, in kornia.

    python benchmarks/defense_times.py            # measure and print
    python benchmarks/defense_times.py --update   # measure, write benchmarks/defense_times.json

A 32 x 32 RGB image, forward and with the exact backward pass, in milliseconds of processor time:
medians of rounds in which all take turns, and the medians of the ratios of each round. Kornia is
measured where it is installed; the library does not need it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "SPLIC_NUM_THREADS"), "1"))

import torch
from workloads import find_case, images_and_masks

import splic_ext
from splic_ext import defenses
from splic_ext.defenses import compiled
from splic_ext.diagnostics import cpu_name

FILE = Path(__file__).with_suffix(".json")
COUNT, ROUNDS = 32, 5

Run = Callable[[torch.Tensor], torch.Tensor]


def in_torch(defense: defenses.Defense) -> Run:
    """Return the defence as it runs where the native module is missing."""

    def run(images: torch.Tensor) -> torch.Tensor:
        native = compiled.native_module
        compiled.native_module = lambda: None  # type: ignore[assignment]
        try:
            return defense(images)
        finally:
            compiled.native_module = native

    return run


def contestants() -> dict[str, dict[str, Run]]:
    """Return the ways to compute each defence, ours first."""
    found: dict[str, dict[str, Run]] = {}
    for defense in (
        defenses.TotalVariation(),
        defenses.SoftImpute(seed=0, gradient="exact"),
        defenses.NuclearNorm(seed=0, gradient="exact"),
    ):
        found[type(defense).__name__] = {"ours": defense, "torch": in_torch(defense)}
    guided, bilateral = defenses.GuidedFilter(guide="self"), defenses.Bilateral()
    found["GuidedFilter, guide=self"] = {"ours": guided}
    found["Bilateral"] = {"ours": bilateral}
    if find_spec("kornia") is not None:
        from kornia import filters

        found["GuidedFilter, guide=self"]["kornia"] = lambda x: filters.guided_blur(
            x.reshape(-1, 1, *x.shape[2:]), x.reshape(-1, 1, *x.shape[2:]), 5, 0.01
        ).reshape(x.shape)
        found["Bilateral"]["kornia"] = lambda x: filters.bilateral_blur(
            x, (5, 5), 0.1, (2.0, 2.0), border_type="replicate", color_distance_type="l2"
        )
    return found


def milliseconds(run: Run, images: torch.Tensor, backward: bool) -> float:
    """Return the processor time for an image."""
    leaf = images.clone().requires_grad_(backward)
    start = time.process_time()
    with torch.set_grad_enabled(backward):
        result = run(leaf)
    if backward:
        result.backward(images)
    return (time.process_time() - start) / len(images) * 1e3


def measure(rounds: int) -> dict[str, Any]:
    """Return the medians of all."""
    torch.set_num_threads(1)
    images = torch.from_numpy(images_and_masks(find_case(32, 3), COUNT)[0]).float()
    table: dict[str, Any] = {}
    for name, ways in contestants().items():
        row = table[name] = {}
        for way, backward in (("forward", False), ("forward and backward", True)):
            for run in ways.values():  # memory and caches
                milliseconds(run, images[:8], backward)
            times: dict[str, list[float]] = {key: [] for key in ways}
            for _ in range(rounds):
                for key, run in ways.items():
                    times[key].append(milliseconds(run, images, backward))
            cells = {f"{key} ms": round(median(found), 3) for key, found in times.items()}
            for key in list(ways)[1:]:
                ratios = [b / a for a, b in zip(times["ours"], times[key], strict=True)]
                cells[f"{key} / ours"] = round(median(ratios), 2)
            row[way] = cells
            print(name, way, cells, flush=True)
    return table


def main() -> None:
    """Print the table, or write it too."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="write the file")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    table = measure(arguments.rounds)
    if arguments.update:
        about = {
            "command": "python benchmarks/defense_times.py --update",
            "images": f"{COUNT} of 32 x 32, RGB, float32",
            "threads": 1,
            "rounds": arguments.rounds,
            "machine": cpu_name(),
            "simd": splic_ext.backend_info()["cpu"].details.get("simd"),
            "torch": torch.__version__,
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        }
        FILE.write_text(json.dumps({**about, "times": table}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
