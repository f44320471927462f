"""Photographs that come with scikit-image; nothing is downloaded."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from splic_ext.common.optional import optional
from splic_ext.errors import MissingExtraError

__all__ = ["PHOTOS", "load_photos"]

#: File names inside scikit-image's own package.
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def load_photos(size: int) -> npt.NDArray[np.float32]:
    """Return the photographs, cropped to squares and resized.

    Parameters
    ----------
    size : int
        Side in pixels.

    Returns
    -------
    ndarray of shape (N, size, size, 3), float32
        In [0, 1], in the order of :data:`PHOTOS`.

    Raises
    ------
    MissingExtraError
        Pillow or scikit-image is not installed, or without the photographs.
    """
    with optional("`load_photos`", "demo", "PIL"):
        from PIL import Image
    spec = find_spec("skimage")
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    folders = [Path(place) / "data" for place in places]
    photos = []
    for name in PHOTOS:
        path = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if path is None:
            raise MissingExtraError("`load_photos`", "scikit-image", "demo")
        with Image.open(path) as image:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            square = image.convert("RGB").crop((left, top, left + side, top + side))
            resized = square.resize((size, size), Image.Resampling.LANCZOS)
        photos.append(np.asarray(resized, dtype=np.float32) / np.float32(255))
    return np.stack(photos)
