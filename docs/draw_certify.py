"""Draw certify.png: an image with a patch, a mask, a pair of masks, and what fills the holes.

python docs/draw_certify.py

The photograph is `skimage.data.astronaut` (NASA, public domain). Needs torch, scikit-image, OpenCV
and Pillow.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from skimage.data import astronaut
from skimage.transform import resize

from splic_ext.certify import MaskSet
from splic_ext.fills import create_fill

PICTURE = Path(__file__).with_name("certify.png")
SIDE, PATCH, PLACE = 32, 5, (14, 7)  # of the image; of the patch; its top and left
SCALE, GAP, HEAD = 4, 8, 20
PAIR = (13, 22)  # the first hides the patch


def tiles() -> dict[str, np.ndarray]:
    """Return the images of the picture, (H, W, 3), by what is written above them."""
    face = resize(astronaut()[16:208, 128:320], (SIDE, SIDE), anti_aliasing=True)
    top, left = PLACE
    noise = np.random.default_rng(0).random((PATCH, PATCH, 3))
    face[top : top + PATCH, left : left + PATCH] = noise.round()
    masks = MaskSet(SIDE, SIDE, PATCH)
    first, second = (masks.visible[number] for number in PAIR)
    if first[top : top + PATCH, left : left + PATCH].any():
        raise SystemExit("the first mask must hide the patch")
    images = torch.from_numpy(face.transpose(2, 0, 1)[None]).float()
    shown = {"an image with a patch": face}
    shown["a mask hides it"] = hatched(face, first)
    shown["with another mask"] = hatched(face, first & second)
    for title, name in (("gray", "gray"), ("Telea", "telea"), ("SPLIC", "splic")):
        filled = create_fill(name)(images, torch.from_numpy(first & second))
        shown[f"filled: {title}"] = filled[0].permute(1, 2, 0).numpy()
    return shown


def hatched(face: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Return the image with stripes where it is hidden."""
    rows, columns = np.indices(visible.shape)
    stripes = np.where(((rows + columns) % 3 < 1)[..., None], [0.8, 0.2, 0.2], 1.0)
    return np.where(visible[..., None], face, stripes)


def draw() -> Image.Image:
    """Return the picture."""
    images = tiles()
    step = SIDE * SCALE + GAP
    picture = Image.new("RGB", (step * len(images) - GAP, SIDE * SCALE + HEAD), "white")
    pen = ImageDraw.Draw(picture)
    for number, (title, image) in enumerate(images.items()):
        pixels = np.rint(255 * image).astype(np.uint8).repeat(SCALE, 0).repeat(SCALE, 1)
        picture.paste(Image.fromarray(pixels), (number * step, HEAD))
        pen.text((number * step, 2), title, "black", ImageFont.load_default(12))
    return picture


if __name__ == "__main__":
    draw().save(PICTURE, optimize=True)
