"""Choose the preset "recommended" on CIFAR-10 training images, gray box; see docs/presets.md.

    python benchmarks/tune_preset.py           # sweep, choose, write the JSON
    python benchmarks/tune_preset.py --report  # then, once: speeds, and the test images

Needs torch, scikit-image, and the folder of data and weights (``../shared``, or ``SPLIC_SHARED``).
Round 1 tries single changes and random combinations. Round 2 measures the best of them on *other*
training images, with several mask seeds. The rule, fixed before the sweep: the score is the mean of
the accuracies on clean, FGSM and PGD images. Eligible is what keeps a photograph of 224 x 224
within 1 dB of the paper's preset and has at most 4 masks (8 masks, at twice the time, must gain 2
points). Of the eligible settings within one standard error (paired, over images) of the best score,
take the one with the fewest masks, then the fewest iterations, then the highest score.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import environment
from skimage.data import chelsea
from skimage.transform import resize

from splic_ext import SolverOptions, complete

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "python_tests"))

from test_gray_box import EPSILON, ResNet20, attack  # noqa: E402

SHARED = Path(os.environ.get("SPLIC_SHARED") or ROOT.parent / "shared")
OUTPUT = ROOT / "results" / "preset_recommended.json"
KINDS = ("clean", "fgsm", "pgd")
THREADS = 2
PAPER = SolverOptions.preset("paper")
BASE = SolverOptions(tv_weight=0.1, tolerance=1e-8, n_masks=4)
ONE_CHANGE = {
    "tv_weight": (0.02, 0.05, 0.07, 0.14, 0.2),
    "n_masks": (1, 8),
    "rank": (6, 10, 12, 16),
    "anchor_fraction": (0.4, 0.6, 0.7),
    "delta_decay": (0.5, 0.6),
    "max_iterations": (35, 56),
}
COMBINED = {
    "tv_weight": (0.03, 0.04, 0.05, 0.06, 0.07, 0.085, 0.1, 0.12, 0.14, 0.17),
    "rank": (None, None, None, 10, 12, 16),
    "anchor_fraction": (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7),
    "delta_decay": (0.45, 0.5, 0.6),
    "max_iterations": (56, 70),
}
COMBINATIONS, FINALISTS = 20, 5
DATA = (
    "CIFAR-10 training images, true pixels: the first for round 1, the next for round 2; stock "
    "ResNet-20, attacked without the defence, L-inf 8/255: FGSM; PGD, 7 x 2/255, random start"
)


def load_network() -> ResNet20:
    path = SHARED / "weights" / "cifar10_resnet20.th"
    state = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    model = ResNet20()
    model.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    return model.eval().requires_grad_(False)


class Problem:
    """Labels, and clean and attacked images, in [0, 1]."""

    def __init__(self, network: ResNet20, split: str, first: int, count: int) -> None:
        with np.load(SHARED / "data" / f"cifar10_{split}_lossless.npz") as data:
            x, y = (torch.from_numpy(data[key][first : first + count]) for key in "xy")
        x, y = x.float() / 255, y.long()
        self.network, self.labels, self.count = network, y, len(y)
        self.images = {kind: np.empty(x.shape, np.float32) for kind in KINDS}
        noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
        for i in range(0, self.count, 250):
            part = slice(i, i + 250)
            images, labels = x[part], y[part]
            start = EPSILON * (2 * noise[part] - 1)
            fgsm = attack(network, images, labels, start=0, step=EPSILON, steps=1)
            pgd = attack(network, images, labels, start=start, step=2 / 255, steps=7)
            for kind, attacked in zip(KINDS, (images, fgsm, pgd), strict=True):
                self.images[kind][part] = attacked.numpy()

    def measure(self, options: SolverOptions | None, seeds: int) -> tuple[dict, np.ndarray]:
        """Return what goes into the JSON, and whether (kind, image) is right, mean of the seeds."""
        right = np.zeros((len(KINDS), self.count))
        for seed in range(seeds if options else 1):
            for k, images in enumerate(self.images.values()):
                if options:
                    images = complete(images, options=options, seed=seed, threads=THREADS)
                parts = torch.from_numpy(images).split(500)
                found = torch.cat([self.network(part).argmax(dim=1) for part in parts])
                right[k] += (found == self.labels).numpy()
        right /= seeds if options else 1
        entry: dict[str, Any] = {"options": changed(options) if options else None}
        for kind, mean in zip(KINDS, right.mean(axis=1), strict=True):
            entry[kind] = round(100 * mean, 2)
            entry[f"{kind}_interval"] = wilson(mean, self.count)
        entry["score"] = round(100 * right.mean(), 2)
        print(json.dumps(entry), flush=True)
        return entry, right


def changed(options: SolverOptions) -> dict[str, Any]:
    """Return the fields that differ from the paper's preset."""
    return {k: v for k, v in options.to_dict().items() if v != getattr(PAPER, k)}


def wilson(share: float, count: int) -> list[float]:
    """Return the 95 % interval in %; seeds do not count, as they share the images."""
    z2 = 1.959964**2 / count
    centre = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(z2 * (share * (1 - share) + z2 / 4)) / (1 + z2)
    return [round(100 * (centre - half), 1), round(100 * (centre + half), 1)]


def photograph_psnr(options: SolverOptions) -> float:
    """Return the PSNR in dB of a clean photograph of 224 x 224 after completion."""
    image = resize(chelsea(), (224, 224), anti_aliasing=True).astype(np.float32)
    image = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
    completed = complete(image, options=options, threads=THREADS)
    return round(-10 * math.log10(float(np.square(completed - image).mean())), 2)


def candidates() -> list[SolverOptions]:
    """Return what round 1 tries."""
    single = [BASE.replace(**{key: v}) for key, values in ONE_CHANGE.items() for v in values]
    rng = np.random.default_rng(0)
    draws = [{k: v[rng.integers(len(v))] for k, v in COMBINED.items()} for _ in range(COMBINATIONS)]
    return list(dict.fromkeys([BASE, *single, *(BASE.replace(**draw) for draw in draws)]))


def finalists(scores: dict[SolverOptions, float]) -> list[SolverOptions]:
    """Return what round 2 measures: the best of round 1, and what they are to be compared with."""
    ranked = sorted(scores, key=lambda options: -scores[options])
    scaled = [o for o in ranked if o.rank is None and o.n_masks == 4]
    fixed = [o for o in ranked if o.rank is not None]
    compared = [scaled[0].replace(n_masks=1), scaled[0].replace(n_masks=8)]
    compared += [scaled[0].replace(max_iterations=56), BASE, BASE.replace(tv_weight=0.05)]
    return list(dict.fromkeys([*scaled[:FINALISTS], *fixed[:2], *compared, PAPER]))


def choose(measured: list[tuple[SolverOptions, dict, np.ndarray]]) -> SolverOptions:
    """Apply the rule at the top of this file."""
    floor = photograph_psnr(PAPER) - 1
    good = [one for one in measured if one[1]["photograph_psnr"] >= floor]
    few = max(entry["score"] for options, entry, _ in good if options.n_masks <= 4)
    good = [one for one in good if one[0].n_masks <= 4 or one[1]["score"] > few + 2]
    best = max(good, key=lambda one: one[1]["score"])
    near = []
    for options, entry, right in good:
        difference = 100 * (best[2] - right).mean(axis=0)
        error = float(difference.std(ddof=1) / math.sqrt(difference.size))
        entry["below_best"] = [round(float(difference.mean()), 2), round(error, 2)]
        if difference.mean() <= error:
            near.append((options.n_masks, options.max_iterations, -entry["score"], options))
    return min(near, key=lambda one: one[:3])[3]


def sweep(network: ResNet20, arguments: argparse.Namespace) -> dict[str, Any]:
    found = environment()
    document = {
        "schema_version": 1,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": {key: found[key] for key in ("cpu", "cores", "system", "simd")},
        "versions": {key: found[key] for key in ("splic_ext", "python", "numpy", "torch")},
        "command": shlex.join(["python", "benchmarks/tune_preset.py", *sys.argv[1:]]),
        "data": DATA,
        "images": {"round_1": arguments.coarse_images, "round_2": arguments.images},
        "seeds": {"round_1": 1, "round_2": arguments.seeds},
        "threads": THREADS,
    }
    problem = Problem(network, "train", 0, arguments.coarse_images)
    first = {options: problem.measure(options, 1)[0] for options in candidates()}
    problem = Problem(network, "train", arguments.coarse_images, arguments.images)
    document["undefended"], _ = problem.measure(None, 1)
    measured = []
    for options in finalists({options: entry["score"] for options, entry in first.items()}):
        entry, right = problem.measure(options, arguments.seeds)
        entry["photograph_psnr"] = photograph_psnr(options)
        measured.append((options, entry, right))
    document["chosen"] = changed(choose(measured))  # adds below_best to the entries
    return document | {"round_2": [one[1] for one in measured], "round_1": list(first.values())}


def speeds(images: np.ndarray, settings: list[SolverOptions], rounds: int = 7) -> list[float]:
    """Return images per second: medians over rounds in which the settings take turns."""
    seconds = np.empty((rounds, len(settings)))
    for times in seconds:
        for k, options in enumerate(settings):
            start = time.perf_counter()
            complete(images, options=options, threads=THREADS)
            times[k] = time.perf_counter() - start
    return [float(f"{len(images) / median:.3g}") for median in np.median(seconds, axis=0)]


def report(network: ResNet20, document: dict[str, Any], seeds: int) -> None:
    """Add speeds, a photograph with two tolerances, and the test images."""
    chosen = SolverOptions(**document["chosen"])
    photograph = {"paper": PAPER, "chosen": chosen, "chosen, 1e-6": chosen.replace(tolerance=1e-6)}
    document["photograph_psnr"] = {key: photograph_psnr(o) for key, o in photograph.items()}
    problem = Problem(network, "test", 0, 500)
    settings = [SolverOptions(**entry["options"]) for entry in document["round_2"]]
    rates = speeds(problem.images["clean"][:256], settings)
    for entry, rate in zip(document["round_2"], rates, strict=True):
        entry["images_per_second"] = rate
    rows = {"none": None, "paper": PAPER, "chosen": chosen}
    measured = {name: problem.measure(options, seeds)[0] for name, options in rows.items()}
    about = {"data": "first 500 CIFAR-10 test images", "images": problem.count, "seeds": seeds}
    document["test_report"] = about | measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000, help="of round 2")
    parser.add_argument("--coarse-images", type=int, default=400, help="of round 1")
    parser.add_argument("--seeds", type=int, default=2, help="of round 2 and the report")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--report", action="store_true", help="add speeds and test images")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    if arguments.report:
        document = json.loads(arguments.output.read_text())
        report(load_network(), document, arguments.seeds)
    else:
        document = sweep(load_network(), arguments)
    arguments.output.parent.mkdir(exist_ok=True)
    lines = []  # one setting on each
    for key, value in document.items():
        rows = [json.dumps(entry) for entry in value] if isinstance(value, list) else []
        text = "[\n    " + ",\n    ".join(rows) + "\n  ]" if rows else json.dumps(value)
        lines.append(f'  "{key}": {text}')
    arguments.output.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
