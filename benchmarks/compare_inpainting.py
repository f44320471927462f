"""Holes of photographs, filled by this library, OpenCV and scikit-image; see docs/inpainting.md.

    python benchmarks/compare_inpainting.py

Needs OpenCV, scikit-image with its photographs, SciPy, Pillow and torch (the extras `certify` and
`demo`). Holes are drawn from a fixed seed. The error is the root mean square over hidden pixels and
channels, on a scale of 255, of each photograph, then the mean over photographs; times are those of
the processor, one thread.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import numpy as np
import skimage
import torch
from conftest import environment
from PIL import Image
from skimage.restoration import inpaint_biharmonic

import splic_ext
from splic_ext import SolverOptions
from splic_ext.data.photos import load_photos
from splic_ext.fills import TVInpainting
from splic_ext.inpainting.plate import with_surface

OUTPUT = Path(__file__).with_name("inpainting.json")
#: What the preset was chosen on: pictures of scikit-image that are not in the tables of results.
OTHERS = ("camera.png", "brick.png", "grass.png", "ihc.png", "hubble_deep_field.jpg")
SETS = ("photographs", "others")
Picture = np.ndarray[Any, Any]


def others(size: int) -> Picture:
    """Return the other pictures, cut to squares and resized, (N, size, size, 3) in [0, 1]."""
    found = []
    for name in OTHERS:
        with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            square = image.convert("RGB").crop((left, top, left + side, top + side))
            found.append(np.asarray(square.resize((size, size), Image.Resampling.LANCZOS)))
    return np.stack(found).astype(np.float32) / 255


def holes(size: int) -> dict[str, Picture]:
    """Return masks (True = visible) by their names."""
    rng = np.random.default_rng(0)
    found = {}
    for count, side in ((16, 8), (6, 20), (1, 64)):
        mask = np.ones((size, size), bool)
        for _ in range(count):
            y, x = rng.integers(0, size - side, 2) if count > 1 else [(size - side) // 2] * 2
            mask[y : y + side, x : x + side] = False
        name = f"{count} holes of {side} x {side}" if count > 1 else f"a hole of {side} x {side}"
        found[name] = mask
    scratched = np.ones((size, size), np.uint8)
    for _ in range(12):
        first, second = rng.integers(0, size, (2, 2)).tolist()
        cv2.line(scratched, first, second, 0, 3)
    found["12 scratches, 3 pixels wide"] = scratched > 0
    found["every second pixel"] = rng.random((size, size)) < 0.5
    return found


def ours(options: SolverOptions | str) -> Callable[[Picture, Picture], Picture]:
    return lambda photo, mask: splic_ext.inpaint(
        photo, mask, options=options, channel_axis=-1, threads=1
    )


def opencv(flag: int) -> Callable[[Picture, Picture], Picture]:
    def fill(photo: Picture, mask: Picture) -> Picture:
        pixels = np.rint(255 * photo).astype(np.uint8)
        return cv2.inpaint(pixels, (~mask).astype(np.uint8), 3, flag) / 255

    return fill


def biharmonic(photo: Picture, mask: Picture) -> Picture:
    return inpaint_biharmonic(photo, ~mask, channel_axis=-1).clip(0, 1)


def surface(photo: Picture, mask: Picture) -> Picture:
    planes = np.where(mask, photo.transpose(2, 0, 1), 0).astype(np.float64)
    with_surface(planes, mask)
    return planes.clip(0, 1).transpose(1, 2, 0)


def variation(photo: Picture, mask: Picture) -> Picture:
    planes = torch.from_numpy(photo.transpose(2, 0, 1)[None].copy())
    filled = TVInpainting(iterations=400)(planes, torch.from_numpy(mask))
    return filled[0].numpy().transpose(1, 2, 0)


HOLES = SolverOptions.preset("holes")
REFINE = SolverOptions.preset("refine")
METHODS = {
    "splic_ext.inpaint": ours("inpaint"),
    "its first guess (thin plate)": surface,
    "preset refine": ours("refine"),
    "preset holes": ours("holes"),
    "preset holes, paper's tolerance": ours(HOLES.replace(tolerance=1e-6)),
    "total variation": variation,
    "OpenCV Telea": opencv(cv2.INPAINT_TELEA),
    "OpenCV Navier-Stokes": opencv(cv2.INPAINT_NS),
    "scikit-image biharmonic": biharmonic,
}
#: What the preset was chosen from.
CHOICE = {
    "thin plate": surface,
    "refine": ours("refine"),
    "refine, rank 0.8": ours(REFINE.replace(rank=0.8)),
    "refine, rank 0.8, tv_weight 0.1": ours("inpaint"),
}


def measure(
    photos: Picture, masks: dict[str, Picture], methods: dict[str, Any], **known: Any
) -> list[dict[str, Any]]:
    """Return what goes into the JSON."""
    rows = []
    for hole, mask in masks.items():
        for name, fill in methods.items():
            began, errors = time.process_time(), []
            for photo in photos:
                wrong = (fill(photo, mask) - photo)[~mask].astype(np.float64)
                errors.append(255 * float(np.sqrt((wrong**2).mean())))
            seconds = (time.process_time() - began) / len(photos)
            row = {**known, "holes": hole, "method": name, "rmse": round(fmean(errors), 2)}
            row |= {"each": [round(e, 2) for e in errors], "seconds": round(seconds, 3)}
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument(
        "--images",
        nargs="+",
        choices=SETS,
        default=SETS,
        help="which to measure; rows of the others stay in the output",
    )
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    masks, rows = holes(arguments.size), []
    if arguments.output.is_file():
        known = json.loads(arguments.output.read_text())["rows"]
        rows = [row for row in known if row["images"] not in arguments.images]
    if "photographs" in arguments.images:
        rows += measure(load_photos(arguments.size), masks, METHODS, images="photographs")
    if "others" in arguments.images:
        few = {name: mask for name, mask in masks.items() if "every" not in name}
        rows += measure(others(arguments.size), few, CHOICE, images="others")
    found = environment()
    document = {
        "schema_version": 1,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": {key: found[key] for key in ("cpu", "cores", "system", "simd")},
        "versions": {
            **{key: found[key] for key in ("splic_ext", "python", "numpy")},
            "opencv": cv2.__version__,
            "scikit-image": skimage.__version__,
        },
        "command": shlex.join(["python", "benchmarks/compare_inpainting.py", *sys.argv[1:]]),
        "size": arguments.size,
    }
    lines = [f'  "{key}": {json.dumps(value)}' for key, value in document.items()]
    lines.append('  "rows": [\n    ' + ",\n    ".join(map(json.dumps, rows)) + "\n  ]")
    arguments.output.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
