"""A demonstration on real photographs: noise in, completion out, scores and a picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from splic_ext.common.atomic import atomic_path
from splic_ext.common.optional import optional
from splic_ext.completion import complete
from splic_ext.data.photos import PHOTOS, load_photos
from splic_ext.files.images import IMAGE_SUFFIXES
from splic_ext.options import SolverOptions

__all__ = ["DemoResult", "DemoRow", "Score", "run_demo", "save_picture"]

Images = npt.NDArray[np.float32]

COLUMNS = ("clean", "noisy", "completed (noisy)", "completed (clean)")

CROP = 32
MAX_CROPS = 4096


@dataclass(frozen=True)
class Score:
    """Likeness of an image to the clean photograph: PSNR in dB and structural similarity."""

    psnr: float
    ssim: float


@dataclass(frozen=True)
class DemoRow:
    """Scores of one photograph: noisy, noisy completed, clean completed."""

    name: str
    scores: tuple[Score, Score, Score]


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration found: scores, and a picture with a row for each photograph.

    `sigma` is the standard deviation of the noise, on a scale of [0, 1]; `speed` counts images of
    32 x 32 in colour that were completed in a second, `batch` of them at once.
    """

    rows: tuple[DemoRow, ...]
    picture: Image.Image
    sigma: float
    speed: float
    batch: int

    def mean(self) -> DemoRow:
        """Return the mean over the photographs."""
        values = np.array([[(s.psnr, s.ssim) for s in row.scores] for row in self.rows])
        noisy, completed, clean = (Score(*map(float, pair)) for pair in values.mean(axis=0))
        return DemoRow("mean", (noisy, completed, clean))


def run_demo(
    options: SolverOptions,
    *,
    size: int = 224,
    sigma: float = 0.1,
    seed: int = 0,
    backend: str = "auto",
    threads: int | None = None,
) -> DemoResult:
    """Complete noisy and clean photographs of `size` pixels a side, and score the results."""
    score = _scorer()
    clean = load_photos(size)
    noise = np.random.default_rng(seed).normal(0.0, sigma, clean.shape)
    noisy = np.clip(clean + noise, 0.0, 1.0).astype(np.float32)

    def solve(images: Images) -> Images:
        return complete(
            images, options=options, seed=seed, backend=backend, threads=threads, channel_axis=-1
        )

    completed = solve(noisy)
    # a call of its own: a photo has the same mask with and without noise
    columns = (noisy, completed, solve(clean))
    rows = []
    for i, name in enumerate(PHOTOS):
        first, second, third = (score(clean[i], images[i]) for images in columns)
        rows.append(DemoRow(Path(name).stem, (first, second, third)))
    speed, batch = _measure_speed(clean, solve)
    return DemoResult(tuple(rows), _draw(rows, (clean, *columns)), sigma, speed, batch)


@contextmanager
def save_picture(
    target: Path, *, overwrite: bool = False
) -> Iterator[Callable[[Image.Image], None]]:
    """Check a file name before the work that leads to the picture; give a function to save it."""
    file_format = IMAGE_SUFFIXES.get(target.suffix.lower())
    if file_format is None:
        expected = " ".join(IMAGE_SUFFIXES)
        raise ValueError(f"the picture must have a suffix of {expected}, got '{target}'")
    with atomic_path(target, overwrite=overwrite) as temporary:
        yield lambda picture: picture.save(temporary, format=file_format)


def _scorer() -> Callable[[Images, Images], Score]:
    with optional("`splic-ext demo`", "demo", "skimage"):
        metrics: Any = import_module("skimage.metrics")

    def score(clean: Images, image: Images) -> Score:
        return Score(
            float(metrics.peak_signal_noise_ratio(clean, image, data_range=1.0)),
            float(metrics.structural_similarity(clean, image, channel_axis=-1, data_range=1.0)),
        )

    return score


def _measure_speed(photos: Images, solve: Callable[[Images], Images]) -> tuple[float, int]:
    """Time batches of crops of growing size, until one takes long enough to be believed."""
    count = 4
    while True:
        crops = _crops(photos, count)
        began = time.perf_counter()
        solve(crops)
        seconds = time.perf_counter() - began
        if seconds > 0.25 or count >= MAX_CROPS:
            return count / seconds, count
        count *= 4


def _crops(photos: Images, count: int) -> Images:
    """Cut `count` squares out of the photographs, at fixed places."""
    rng = np.random.default_rng(0)
    which = rng.integers(0, len(photos), count)
    corners = rng.integers(0, photos.shape[1] - CROP + 1, (count, 2))
    return np.stack(
        [photos[k, y : y + CROP, x : x + CROP] for k, (y, x) in zip(which, corners, strict=True)]
    )


def _draw(rows: Sequence[DemoRow], columns: Sequence[Images]) -> Image.Image:
    """Lay the photographs out, with a heading for each column and the PSNR under each image."""
    size, gap, line = columns[0].shape[1], 8, 20
    cell_width = max(size, 130) + gap
    cell_height = size + line + gap
    sheet = Image.new(
        "RGB", (gap + cell_width * len(columns), gap + line + cell_height * len(rows)), "white"
    )
    draw = ImageDraw.Draw(sheet)
    heading, caption = _font(14), _font(12)
    for j, title in enumerate(COLUMNS):
        draw.text((gap + j * cell_width, gap // 2), title, "black", heading)
    for i, row in enumerate(rows):
        top = gap + line + i * cell_height
        captions = [row.name, *(f"{score.psnr:.1f} dB" for score in row.scores)]
        for j, images in enumerate(columns):
            left = gap + j * cell_width
            pixels = np.rint(images[i] * 255).astype(np.uint8)
            tile = Image.frombytes("RGB", (size, size), pixels.tobytes())
            sheet.paste(tile, (left, top))
            draw.text((left, top + size + 2), captions[j], "black", caption)
    return sheet


def _font(size: int) -> Any:
    try:
        return ImageFont.load_default(size)
    except (TypeError, OSError, ImportError):  # Pillow 10.0, or one without FreeType
        return ImageFont.load_default()
