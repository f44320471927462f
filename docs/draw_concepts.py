"""Draw the pictures of concepts.md: what masks, lambda, rank and anchors do to a photograph.

python docs/draw_concepts.py

The photograph is `skimage.data.astronaut` (NASA, public domain). Needs scikit-image and Pillow.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from skimage.data import astronaut
from skimage.transform import resize

import splic_ext
from splic_ext.masks import bernoulli_masks

FOLDER = Path(__file__).parent
SIDE, NOISE, SEED = 144, 0.1, 1
COLUMNS, GAP, HEAD, TEXT = 3, 8, 20, 14
#: What each picture starts from: one mask, since the mean of several hides what the others do.
BASE = splic_ext.SolverOptions.preset("recommended").replace(n_masks=1)

Pixels = npt.NDArray[np.float64]


def photograph() -> tuple[Pixels, Pixels]:
    """Return the photograph, (3, H, W), and the same with noise."""
    clean = resize(astronaut()[:224, 112:336], (SIDE, SIDE), anti_aliasing=True).transpose(2, 0, 1)
    noise = np.random.default_rng(0).normal(0, NOISE, clean.shape)
    return clean, (clean + noise).clip(0, 1)


def psnr(image: Pixels, clean: Pixels) -> str:
    """Return the distance to the photograph."""
    return f"{-10 * np.log10(((image - clean) ** 2).mean()):.1f} dB"


def completed(
    image: Pixels, mask: npt.NDArray[np.bool_] | None = None, **changes: object
) -> Pixels:
    """Return the completion with some options changed."""
    return splic_ext.complete(image, mask, options=BASE.replace(**changes), seed=SEED)


def passes(clean: Pixels, noisy: Pixels) -> dict[str, Pixels]:
    """Return the two passes of one completion."""
    mask = bernoulli_masks((1, *noisy.shape), seed=SEED)[0]
    first = completed(noisy, mask, alternate=False)
    both = completed(noisy, mask)
    return {
        "photograph": clean,
        f"with noise: {psnr(noisy, clean)}": noisy,
        "anchors": np.where(mask, noisy, 0),
        f"first pass: {psnr(first, clean)}": first,
        "anchors of the second": np.where(mask, 0, first),
        f"second pass: {psnr(both, clean)}": both,
    }


def sweep(
    clean: Pixels, noisy: Pixels, option: str, word: str, *values: object
) -> dict[str, Pixels]:
    """Return a completion for each value of an option."""
    shown = {}
    for value in values:
        image = completed(noisy, **{option: value})
        shown[f"{word} {value}: {psnr(image, clean)}"] = image
    return shown


def masks(clean: Pixels, noisy: Pixels) -> dict[str, Pixels]:
    """Return means over masks, and by how much two masks differ."""
    shown = sweep(clean, noisy, "n_masks", "masks", 1, 4, 16)
    one, four, many = shown.values()
    for number, image in ((1, one), (4, four), (16, many)):
        other = splic_ext.complete(noisy, options=BASE.replace(n_masks=number), seed=SEED + 1)
        distance = np.sqrt(((image - other) ** 2).mean())
        shown[f"other seed: {distance:.3f}"] = (0.5 + 4 * (image - other)).clip(0, 1)
    return shown


def draw(tiles: dict[str, Pixels]) -> Image.Image:
    """Return the tiles in rows, each below its title."""
    rows = -(-len(tiles) // COLUMNS)
    width, height = SIDE + GAP, SIDE + HEAD + GAP
    picture = Image.new("RGB", (COLUMNS * width + GAP, rows * height + GAP), "white")
    pen = ImageDraw.Draw(picture)
    for number, (title, image) in enumerate(tiles.items()):
        left, top = GAP + number % COLUMNS * width, number // COLUMNS * height + 4
        pixels = np.rint(255 * image.transpose(1, 2, 0)).astype(np.uint8)
        picture.paste(Image.fromarray(pixels), (left, top + HEAD))
        pen.text((left, top), title, "black", ImageFont.load_default(TEXT))
    return picture


def main() -> None:
    """Draw all pictures."""
    clean, noisy = photograph()
    pictures = {
        "passes": passes(clean, noisy),
        "lambda": sweep(clean, noisy, "tv_weight", "lambda", 0, 0.02, 0.05, 0.1, 0.2, 0.5),
        "rank": sweep(clean, noisy, "rank", "rank", 4, 9, 18, 36, 72, 144),
        "anchors": sweep(clean, noisy, "anchor_fraction", "anchors", 0.1, 0.3, 0.5, 0.7, 0.9, 0.95),
        "masks": masks(clean, noisy),
    }
    for name, tiles in pictures.items():
        draw(tiles).save(FOLDER / f"concepts_{name}.jpg", quality=85, optimize=True)


if __name__ == "__main__":
    main()
