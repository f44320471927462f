"""Image files in and out: pixels for the solver, everything else kept for the way back."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from splic_ext.common.checks import shortened
from splic_ext.files.png import MOST_PIXELS, encode_plain

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageFileError",
    "Picture",
    "encode_picture",
    "is_other_image",
    "is_plain",
    "no_pillow_limit",
    "read_picture",
]

#: Suffix -> format; a file is decoded and written by its content, whatever its name.
IMAGE_SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}

#: Images of other formats, which people keep beside the others.
OTHER_SUFFIXES = frozenset(
    {
        *(".apng", ".avif", ".dds", ".gif", ".heic", ".heif", ".ico", ".j2k", ".jfif", ".jp2"),
        *(".jpe", ".jpx", ".pbm", ".pgm", ".pnm", ".ppm", ".psd", ".svg", ".tga"),
    }
)

#: Modes that the solver does not take -> the one they are read as.
_READ_AS = {
    "1": "L",
    "P": "RGB",
    "PA": "RGBA",
    "La": "LA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "YCbCr": "RGB",
}

#: Ways to store a TIFF that lose nothing and take every mode; others become Deflate.
_TIFF_COMPRESSIONS = ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate")

#: TIFF tags that describe the picture and not how the file stores it: description, make, model,
#: software, date, artist, XMP, copyright, the EXIF and the GPS block.
_TIFF_TAGS = frozenset({270, 271, 272, 305, 306, 315, 700, 33432, 34665, 34853})

_FULL_16_BIT = 65535.0


class ImageFileError(Exception):
    """An image file that cannot be read or written; the message says why, without the name."""


@dataclass(frozen=True)
class Picture:
    """A decoded image file."""

    #: What the solver takes, of shape (H, W, C) without alpha: uint8, or float32 for 16-bit gray
    #: (scaled to [0, 1]) and for floating-point images.
    pixels: npt.NDArray[Any]
    data_range: float | None
    mode: str  # Pillow's name of what is written, without alpha
    format: str
    alpha: npt.NDArray[np.uint8] | None = None  # of shape (H, W), written back untouched
    save_options: dict[str, Any] = field(default_factory=dict)  # metadata, encoder settings
    note: str | None = None  # what the user should know about this file


def is_other_image(path: Path) -> bool:
    """Tell from its suffix whether a file is an image of a format that is not read here."""
    return path.suffix.lower() in OTHER_SUFFIXES and not path.name.startswith(".")


class _Told(threading.local):
    """What Pillow warns of in this thread, while it reads a picture."""

    texts: list[str] | None = None


_TOLD = _Told()


@contextmanager
def no_pillow_limit() -> Iterator[None]:
    """Turn off Pillow's own limit on pixels, where :func:`read_picture` applies another.

    What Pillow warns of becomes a note of the picture. Filters of warnings are those of all
    threads: enter this in the main one.
    """
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.filterwarnings("always", module=r"PIL\.")
        show = warnings.showwarning

        def hear(message: Warning | str, *others: Any, **more: Any) -> None:
            if _TOLD.texts is None:
                show(message, *others, **more)
            else:
                _TOLD.texts.append(" ".join(str(message).split()))

        warnings.showwarning = hear
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def read_picture(
    file: Path | BinaryIO, *, max_pixels: int, quality: int = 95, data_range: float | None = None
) -> Picture:
    """Decode an image file of one frame, by path or open; palette images as RGB, bilevel as gray.

    Files of more pixels than `max_pixels` are refused on the evidence of their header, before any
    is decoded. `quality` is that of JPEG and lossy WebP files when they are written back.
    """
    told: list[str] = []
    _TOLD.texts = told
    try:
        with Image.open(file, formats=sorted(set(IMAGE_SUFFIXES.values()))) as image:
            _check_header(image, max_pixels)
            note = _note(image)
            image.load()
            save_options = _save_options(image, file, quality)
            picture = _picture(image, data_range, save_options, note)
        warned = [f"Pillow warns: {shortened(text, 200)}" for text in list(dict.fromkeys(told))[:3]]
        return replace(picture, note="; ".join(filter(None, [note, *warned])) or None)
    except ImageFileError:
        raise
    except UnidentifiedImageError:
        raise ImageFileError(
            "not a PNG, JPEG, WebP, BMP or TIFF image that Pillow can read"
        ) from None
    except MemoryError:
        raise ImageFileError("not enough memory to decode it") from None
    except Exception as error:  # Pillow's decoders raise nearly every type on damaged files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageFileError(f"cannot be decoded: {shortened(reason, 200)}") from error
    finally:
        _TOLD.texts = None


def _check_header(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageFileError(
            f"{width} x {height} = {width * height:,} pixels are more than the limit of "
            f"{max_pixels:,}; raise it with `max_pixels` if the file is meant to be that large"
        )
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageFileError(
            f"holds {frames} frames, expected 1; split it into files of one frame each"
        )


def _note(image: Image.Image) -> str | None:
    """Tell what is lost; ask before the pixels are loaded."""
    frames = getattr(image, "n_frames", 1)
    if image.format == "MPO" and frames > 1:
        return f"of its {frames} frames only the first is completed and written"
    if image.mode.startswith("I") and "transparency" in image.info:
        return "its transparent gray value is lost: 16-bit gray is written without transparency"
    return _depth_note(image)


def _depth_note(image: Image.Image) -> str | None:
    """Tell of 16-bit colour, which Pillow reads as 8-bit."""
    if image.format not in ("PNG", "TIFF") or image.mode.startswith("I"):
        return None
    # the raw mode is all of the arguments of a decoder, or the first of them
    if not isinstance(image, ImageFile.ImageFile) or ";16" not in str(image.tile[:1]):
        return None
    return "16-bit colour is read and written as 8-bit; to keep 16 bits convert it to a float .npy"


def _picture(
    image: Image.Image, data_range: float | None, save_options: dict[str, Any], note: str | None
) -> Picture:
    file_format = "JPEG" if image.format == "MPO" else str(image.format)
    mode = _READ_AS.get(image.mode, image.mode)
    if "transparency" in image.info and mode in ("L", "RGB"):
        mode += "A"  # one colour is transparent, and completion changes colours
    if mode.startswith("I;16") or (mode == "I" and file_format == "PNG"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > _FULL_16_BIT:
            raise ImageFileError("gray values outside [0, 65535]")
        pixels = (values / np.float32(_FULL_16_BIT)).astype(np.float32)[..., None]
        return Picture(pixels, 1.0, "I;16", file_format, None, save_options, note)
    if mode == "F":
        pixels = np.array(image)[..., None]
        return Picture(pixels, data_range, "F", file_format, None, save_options, note)
    if mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        raise ImageFileError(
            f"pixels of mode {image.mode!r} are not supported; convert it to gray or RGB"
        )
    converted = image if image.mode == mode else image.convert(mode)
    pixels = np.asarray(converted).reshape(image.height, image.width, -1)
    alpha = None
    if mode in ("LA", "RGBA"):
        pixels, alpha = pixels[..., :-1], pixels[..., -1]
        mode = mode[:-1]
    return Picture(pixels, None, mode, file_format, alpha, save_options, note)


def _save_options(image: Image.Image, file: Path | BinaryIO, quality: int) -> dict[str, Any]:
    """Collect metadata and encoder settings of a loaded image."""
    info = image.info
    options = {name: info[name] for name in ("icc_profile", "exif", "dpi") if info.get(name)}
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        options |= _tiff_options(image)
    elif isinstance(image, JpegImagePlugin.JpegImageFile):
        # -1: gray, CMYK, or a layout that Pillow cannot write; 4:4:4 then loses least
        sampling = JpegImagePlugin.get_sampling(image)
        options |= {"quality": quality, "subsampling": max(sampling, 0)}
    elif image.format == "WEBP":
        options |= {"quality": quality, "lossless": _is_lossless_webp(file), "exact": True}
    if image.format in ("JPEG", "MPO", "WEBP") and info.get("xmp"):
        options["xmp"] = info["xmp"]
    return options


def _tiff_options(image: TiffImagePlugin.TiffImageFile) -> dict[str, Any]:
    compression = image.info.get("compression")
    tags = image.getexif()  # Pillow has turned the pixels upright and dropped the orientation
    for tag in [tag for tag in tags if tag not in _TIFF_TAGS]:
        del tags[tag]
    known = compression in _TIFF_COMPRESSIONS
    options: dict[str, Any] = {"compression": compression if known else "tiff_adobe_deflate"}
    if tags:
        # Decoded here, where what Pillow warns of is heard, and not when the file is written.
        options["exif"] = Image.Exif()
        options["exif"].update(tags)
        options["exif"].tobytes()
    return options


def _is_lossless_webp(file: Path | BinaryIO) -> bool:
    """Look for the bit-stream chunk of a WebP file (RIFF): VP8L is lossless, "VP8 " is not."""
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as stream:
        stream.seek(12)
        while len(header := stream.read(8)) == 8:
            if header[:4] in (b"VP8L", b"VP8 "):
                return header[:4] == b"VP8L"
            size = int.from_bytes(header[4:], "little")
            stream.seek(size + size % 2, io.SEEK_CUR)
    return False


def is_plain(picture: Picture) -> bool:
    """Say whether a picture is written by :func:`splic_ext.files.png.encode_plain`."""
    return (
        picture.format == "PNG"
        and picture.mode in ("L", "RGB")
        and picture.alpha is None
        and not picture.save_options
        and picture.pixels.dtype == np.uint8
        and 0 < picture.pixels[..., 0].size <= MOST_PIXELS
    )


def encode_picture(picture: Picture, completed: npt.NDArray[Any], stream: BinaryIO) -> None:
    """Write completed pixels as a file of the format, mode and metadata of `picture`."""
    if is_plain(picture):
        stream.write(encode_plain([completed])[0])
        return
    values = completed
    if picture.mode == "I;16":
        values = np.rint(completed.astype(np.float64) * _FULL_16_BIT).astype("<u2")
    height, width, _ = completed.shape
    image = Image.frombytes(picture.mode, (width, height), values.tobytes())
    if picture.alpha is not None:
        image.putalpha(Image.frombytes("L", (width, height), picture.alpha.tobytes()))
    try:
        image.save(stream, format=picture.format, **picture.save_options)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's encoders raise nearly every type on odd metadata
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the picture
        reason = str(error) or type(error).__name__
        raise ImageFileError(f"cannot be written as {picture.format}: {reason}") from error
