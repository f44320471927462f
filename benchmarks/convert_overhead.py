"""What `splic-ext convert` leaves of the images a second of the solver alone.

    python benchmarks/convert_overhead.py            # measure, and show
    python benchmarks/convert_overhead.py --update   # measure, write convert_overhead.json

The source are PNG images of 32 x 32 RGB with a label each in tar shards of a thousand, the
destination is the same. It is converted in this process on one thread, in turn with one call of
`complete` over the same images. Times are those of the processor, which other work on the machine
changes less than those of the clock; what is compared is the ratio of neighbours.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image
from workloads import data_name, find_case, load_images, of_dtype

import splic_ext
from splic_ext.diagnostics import cpu_name

FIGURE = Path(__file__).with_suffix(".json")
IMAGES, SHARD, ROUNDS = 2000, 1000, 5


def write_source(folder: Path, images: npt.NDArray[Any]) -> None:
    """Write images (N, H, W, C) as WebDataset."""
    folder.mkdir()
    for first in range(0, len(images), SHARD):
        with tarfile.open(folder / f"{first // SHARD:05}.tar", "w") as archive:
            for number, image in enumerate(images[first : first + SHARD], first):
                stream = io.BytesIO()
                Image.fromarray(image).save(stream, format="PNG")
                for suffix, content in (("png", stream.getvalue()), ("cls", b"7")):
                    info = tarfile.TarInfo(f"{number:08}.{suffix}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))


def microseconds(call: Callable[[], object]) -> float:
    """Return the processor time of a call for each image."""
    began = time.process_time()
    call()
    return (time.process_time() - began) / IMAGES * 1e6


def measure() -> dict[str, Any]:
    """Return medians of both, and of their ratio in percent."""
    case = find_case(32, 3)
    images = np.moveaxis(of_dtype(load_images(case, IMAGES), "uint8"), 1, -1)
    images = np.ascontiguousarray(images)
    bare, whole = [], []
    with tempfile.TemporaryDirectory() as name:
        source, dest = Path(name) / "source", Path(name) / "dest"
        write_source(source, images)

        def alone() -> None:
            splic_ext.complete(images, options="paper", threads=1, channel_axis=-1)

        def convert() -> None:
            splic_ext.convert(source, dest, options="paper", workers=0, threads=1)

        for number in range(1 + ROUNDS):
            spent = microseconds(alone), microseconds(convert)
            if number > 0:  # the first loads modules
                bare.append(spent[0])
                whole.append(spent[1])
            read, written = (
                sum(path.stat().st_size for path in folder.glob("*.tar"))
                for folder in (source, dest)
            )
            shutil.rmtree(dest)
    return {
        "solver_microseconds": round(median(bare), 1),
        "convert_microseconds": round(median(whole), 1),
        "kept_percent": round(100 * median(b / w for b, w in zip(bare, whole, strict=True)), 1),
        "kept_percent_of_each_round": [
            round(100 * b / w, 1) for b, w in zip(bare, whole, strict=True)
        ],
        "bytes_read_of_an_image": round(read / IMAGES),
        "bytes_written_of_an_image": round(written / IMAGES),
    }


def main() -> None:
    """Show the figures, or write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="write the figures")
    update = parser.parse_args().update
    found = measure()
    print(
        f"solver {found['solver_microseconds']} us, convert {found['convert_microseconds']} us an "
        f"image: {found['kept_percent']} % of the images a second are kept"
    )
    if not update:
        return
    commit = subprocess.run(
        ["git", "-C", FIGURE.parent, "rev-parse", "--short=12", "HEAD"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    about = {
        "images": f"{IMAGES} of {data_name()}, 32 x 32 RGB, preset paper, {ROUNDS} rounds",
        "machine": cpu_name(),
        "versions": {
            "splic_ext": splic_ext.__version__,
            "commit": commit,
            "python": sys.version.split()[0],
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            "zlib": zlib.ZLIB_RUNTIME_VERSION,
        },
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "command": "python benchmarks/convert_overhead.py --update",
    }
    FIGURE.write_text(json.dumps({**found, **about}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
