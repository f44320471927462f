"""How often a network is right where pixels are hidden, fill by fill; see docs/presets.md.

    python benchmarks/tune_fill.py --cifar10 NPZ WEIGHTS --svhn NPZ WEIGHTS gray splic splic:rank=8
    python benchmarks/tune_fill.py --cifar10 NPZ WEIGHTS --kept 0.1 --kept 0.2 mean splic:ablation

Needs torch, and training images as .npz archives; test images are for results alone. Each image is
asked for under random pairs of the masks of a certificate against patches, the same pairs for every
fill; with --kept, under random masks that keep this share of the pixels. A certificate needs all
pairs; some of them tell fills apart at a fraction of the time. Times are medians over batches, so
that matrices that are made once do not count.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import environment

from splic_ext.certify import MaskSet, ablation_masks
from splic_ext.data import Dataset, load_dataset
from splic_ext.fills import fill_from_spec
from splic_ext.models import build_model, load_weights

OUTPUT = Path(__file__).with_name("tuning_fills.json")
NETWORKS = {"cifar10": "resnet20", "svhn": "svhn_vgg"}
FILLS = ("gray", "mean", "telea", "thin-plate", "tv", "splic:holes", "splic")
AT_A_TIME = 8  # images


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in NETWORKS:
        parser.add_argument(f"--{name}", nargs=2, type=Path, metavar=("NPZ", "WEIGHTS"))
    parser.add_argument("--first", type=int, default=1000, help="index of the first image")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--pairs", type=int, default=24, help="or masks, of each image")
    parser.add_argument("--kept", type=float, action="append", help="share that is visible")
    parser.add_argument("--patch", type=int, default=5)
    parser.add_argument("--masks", type=int, default=6, help="along each axis")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("fills", nargs="*", default=FILLS, metavar="FILL")
    arguments = parser.parse_args()
    if not any(getattr(arguments, name) for name in NETWORKS):
        parser.error("give --cifar10 or --svhn: training images and weights")
    return arguments


class Problem:
    """Images, labels, a network, and masks for each image."""

    def __init__(self, name: str, arguments: argparse.Namespace, kept: float | None) -> None:
        path, weights = getattr(arguments, name)
        data: Dataset = load_dataset(str(path), "train")
        part = slice(arguments.first, arguments.first + arguments.images)
        whole = Dataset(data.name, data.images[part], data.labels[part], data.classes)
        self.name, self.labels = name, torch.from_numpy(whole.labels)
        self.images = torch.from_numpy(whole.to_float())
        model = build_model(NETWORKS[name], len(data.classes))
        self.network = load_weights(model, weights).eval().requires_grad_(False)
        self.kept, count, size = kept, len(whole), self.images.shape[2:]
        if kept is None:
            masks = MaskSet(*size, arguments.patch, arguments.masks)
            rng = np.random.default_rng(0)
            draws = [
                rng.choice(len(masks.pairs), arguments.pairs, replace=False) for _ in range(count)
            ]
            first, second = masks.pairs[np.stack(draws)].transpose(2, 0, 1)
            visible = masks.visible[first] & masks.visible[second]
        else:
            index, draw = np.divmod(np.arange(count * arguments.pairs), arguments.pairs)
            visible = ablation_masks(tuple(size), kept, index=index, draw=draw)
            visible = visible.reshape(count, arguments.pairs, *size)
        self.visible = torch.from_numpy(visible)

    def measure(self, spec: str) -> dict[str, Any]:
        """Return what goes into the JSON."""
        fill = fill_from_spec(spec)
        count, pairs = self.visible.shape[:2]
        right = torch.zeros(count, pairs, dtype=torch.bool)
        squares = hidden = 0.0
        seconds = []
        for start in range(0, count, AT_A_TIME):
            part = slice(start, start + AT_A_TIME)
            images = self.images[part].repeat_interleave(pairs, dim=0)
            masks = self.visible[part].flatten(0, 1)[:, None]
            began = time.perf_counter()
            filled = fill(images, masks)
            seconds.append((time.perf_counter() - began) / len(images))
            squares += float((filled - images).double().square().sum())  # visible ones are equal
            hidden += float((~masks).sum()) * images.shape[1]
            classes = self.network(filled).argmax(dim=1).view(-1, pairs)
            right[part] = classes == self.labels[part, None]
        entry = {
            "data": self.name,
            **({} if self.kept is None else {"kept": self.kept}),
            "fill": spec,
            "pairs_right": round(100 * float(right.float().mean()), 2),
            "images_right": round(100 * float(right.all(dim=1).float().mean()), 2),
            "rmse": round((squares / hidden) ** 0.5, 4),
            "psnr": round(-10 * np.log10(squares / self.images[0].numel() / count / pairs), 2),
            "milliseconds": round(1e3 * float(np.median(seconds)), 3),
        }
        print(json.dumps(entry), flush=True)
        return entry


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    found = environment()
    document = {
        "schema_version": 1,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": {key: found[key] for key in ("cpu", "cores", "system", "simd")},
        "versions": {key: found[key] for key in ("splic_ext", "python", "numpy", "torch")},
        "command": shlex.join(["python", "benchmarks/tune_fill.py", *sys.argv[1:]]),
        "images": arguments.images,
        "first": arguments.first,
        "pairs": arguments.pairs,
        **({} if arguments.kept else {"patch": arguments.patch, "masks": arguments.masks}),
        "threads": arguments.threads,
    }
    problems = [
        Problem(name, arguments, kept)
        for name in NETWORKS
        if getattr(arguments, name)
        for kept in arguments.kept or [None]
    ]
    rows = [problem.measure(spec) for problem in problems for spec in arguments.fills]
    lines = [f'  "{key}": {json.dumps(value)}' for key, value in document.items()]
    lines.append('  "fills": [\n    ' + ",\n    ".join(map(json.dumps, rows)) + "\n  ]")
    arguments.output.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
