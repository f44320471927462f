"""Image files of data sets, decoded to bytes of gray or colour."""

from __future__ import annotations

import io
import warnings
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.common.checks import reason_of
from splic_ext.common.optional import optional

__all__ = ["MAX_PIXELS", "SUFFIXES", "UnreadableError", "decode_image", "picture_pixels", "pillow"]

#: Names of files that are read as images; the content decides what format they are of.
SUFFIXES = frozenset(
    (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

#: Most pixels of an image.
MAX_PIXELS = 64_000_000

#: Mode of Pillow -> the one it becomes: gray or colour, without transparency.
_READ_AS = {
    **dict.fromkeys(("L", "1", "LA", "La"), "L"),
    **dict.fromkeys(("RGB", "P", "PA", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"), "RGB"),
}

_CLEAR = "images have transparency, which is left out"
_DEEP = "images have 16 bits a channel, of which 8 are read"


class UnreadableError(ValueError):
    """An image that is left out; the message says why, without its name."""


def pillow() -> Any:
    """Import Pillow, or say which extra brings it."""
    with optional("`load_dataset`", "data", "PIL"):
        return import_module("PIL.Image")


def decode_image(content: bytes) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Return the pixels of an image file, (1, H, W) or (3, H, W), and what was lost.

    It is decoded only if its header has at most MAX_PIXELS. Its orientation stays as it is stored.
    """
    image_module = pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", image_module.DecompressionBombWarning)
            with image_module.open(io.BytesIO(content), formats=FORMATS) as image:
                return picture_pixels(image)
    except (MemoryError, UnreadableError):
        raise
    except import_module("PIL").UnidentifiedImageError:
        raise UnreadableError(
            "it is no BMP, JPEG, PNG, PPM, TIFF or WebP image, or is cut short"
            if content
            else "it is empty"
        ) from None
    except Exception as error:  # Pillow's decoders raise nearly every type on damaged files
        raise UnreadableError(reason_of(error, 120)) from error


def picture_pixels(image: Any) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Return the pixels of a picture of Pillow, as :func:`decode_image` does."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableError(
            f"its {width * height:,} pixels are more than the limit of {MAX_PIXELS:,}"
        )
    if width * height == 0:
        raise UnreadableError("it has no pixels")
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise UnreadableError(f"it has {frames} frames, expected 1")
    notes = []
    if image.format in ("PNG", "PPM", "TIFF") and ";16" in str(getattr(image, "tile", "")[:1]):
        notes.append(_DEEP)
    image.load()
    mode = _READ_AS.get(image.mode)
    if mode is None:
        raise UnreadableError(
            f"its pixels of mode {image.mode!r} are not of 8 bits; convert it to gray or RGB"
        )
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        notes.append(_CLEAR)
    pixels = np.asarray(image if image.mode == mode else image.convert(mode), dtype=np.uint8)
    return (pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)), notes
