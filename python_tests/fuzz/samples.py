"""What describes a reader: small valid files of it, how it is called, what it may raise."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (2, 3, 8, 8), dtype=np.uint8), np.array([0, 1])
#: Limits of the readers that have one; the bound of the memory is far above.
MAX_BYTES, MAX_PIXELS = 2**24, 10**6

#: What is mutated, and how it becomes the file: packed anew, with the right checksums.
Sample = tuple[bytes, Callable[[bytes], bytes]]


@dataclass(frozen=True)
class Reader:
    """`read` takes the path of a file of that name."""

    file: str
    samples: Sequence[Sample]
    read: Callable[[Path], Any]
    errors: tuple[type[Exception], ...] = (ValueError,)
    named: bool = True  # the message of an error names the file


def whole(*contents: bytes) -> list[Sample]:
    return [(content, bytes) for content in contents]


def zipped(name: str, files: Mapping[str, bytes], packing: int = zipfile.ZIP_STORED) -> Sample:
    """An archive, of which one file is mutated."""

    def wrap(content: bytes) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", packing) as archive:
            for other in files:
                archive.writestr(other, content if other == name else files[other])
        return stream.getvalue()

    return files[name], wrap


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz_samples() -> list[Sample]:
    files = {"x.npy": npy(X), "y.npy": npy(Y), "classes.npy": npy(np.array(["a", "b"]))}
    saved = io.BytesIO()
    np.savez_compressed(saved, x=X, y=Y)
    samples = [zipped(name, files, zipfile.ZIP_DEFLATED) for name in files]
    return [zipped("x.npy", files), *samples, *whole(saved.getvalue())]
