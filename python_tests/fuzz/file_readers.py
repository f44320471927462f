"""Readers of image and array files."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.samples import MAX_BYTES, MAX_PIXELS, Reader, Sample, X, npy, npz_samples, whole

# Images


def image_reader(kind: str) -> Reader:
    from PIL import Image

    from splic_ext.files.images import (
        ImageFileError,
        encode_picture,
        no_pillow_limit,
        read_picture,
    )

    saved = []

    def save(mode: str, file_format: str = kind, size: int = 12, **options: Any) -> None:
        picture = Image.effect_noise((size, size + 3), 60).convert(mode)
        stream = io.BytesIO()
        picture.save(stream, file_format, **options)
        saved.append(stream.getvalue())

    exif = Image.Exif()
    exif[271], exif[274] = "maker", 6
    if kind in ("PNG", "TIFF", "WEBP"):
        save("RGBA"), save("RGB", exif=exif)
    if kind == "PNG":
        (
            save("L"),
            save("P"),
            save("1"),
            save("I;16"),
            save("L", transparency=3),
            save("RGB", icc_profile=b"x" * 90, dpi=(9, 9)),
        )
    if kind == "TIFF":
        save("F"), save("I;16"), save("1", compression="group4")
        for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
            save("RGB", compression=packing)
    if kind == "JPEG":
        save("L"), save("RGB", exif=exif, progressive=True), save("CMYK"), save("RGB")
        save("RGB", "MPO", save_all=True, append_images=[Image.new("RGB", (12, 15))])
    if kind == "WEBP":
        save("RGB", lossless=True)
    if kind == "BMP":
        save("L"), save("P"), save("RGB"), save("1")

    def read(path: Path) -> None:
        with no_pillow_limit():
            picture = read_picture(path, max_pixels=MAX_PIXELS)
            encode_picture(picture, picture.pixels, io.BytesIO())

    samples = whole(*saved)
    if kind == "PNG":
        samples += [(content, with_checksums) for content in saved]
    return Reader(f"image.{kind.lower()}", samples, read, (ImageFileError,), named=False)


def with_checksums(content: bytes) -> bytes:
    """Return a PNG file whose chunks have the right checksums, as far as there are chunks."""
    result, at = content[:8], 8
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        result += content[at:end] + zlib.crc32(content[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return result + content[at:]


# Arrays


class Heard:
    """A reporter of failures; of each a reason in words is expected."""

    def __init__(self) -> None:
        self.reason = ""

    def expect(self, images: float) -> None:
        """Nothing to do."""

    advance = expect

    def note(self, path: Path, text: str) -> None:
        """Nothing to do."""

    def fail(self, path: Path, reason: str) -> None:
        self.reason = reason


def complete_reader(file: str, samples: Sequence[Sample]) -> Reader:
    """`splic-ext complete`, which reports a file that fails, and raises nothing."""
    from splic_ext import SolverOptions
    from splic_ext.files.pipeline import run_jobs
    from splic_ext.files.plan import Job
    from splic_ext.files.settings import JobSettings

    options = SolverOptions(max_iterations=1)
    settings = JobSettings(options, threads=1, jobs=1, max_bytes=MAX_BYTES, overwrite=True)

    def read(path: Path) -> None:
        heard = Heard()
        failed = run_jobs([Job(0, path, path.with_name(f"out-{path.name}"))], settings, heard)
        if failed:
            if heard.reason == "not enough memory":
                raise MemoryError
            if not heard.reason.count(" ") or len(heard.reason) > 1000:
                raise AssertionError(f"no reason: {heard.reason[:1000]!r}")
            raise ValueError(heard.reason)

    return Reader(file, samples, read, named=False)


def npy_reader() -> Reader:
    arrays = [X, X.astype(np.float32) / 255, X[0].copy("F"), X.astype(np.float64)[0] / 255]
    return complete_reader("array.npy", whole(*map(npy, arrays)))


def complete_npz_reader() -> Reader:
    return complete_reader("array.npz", npz_samples())
