"""Files of arrays, which may promise more than there is, or unpack without end."""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_BYTES", "check_npy", "check_unpacked", "read_member", "strictly", "too_large"]

#: Most bytes that a file unpacks to, if nothing else is said; the largest of SVHN has 1.6e9.
MAX_BYTES = 2**31

#: A header is read of so many bytes at most; NumPy takes one of 10,000.
HEADER_BYTES = 2**16


def check_unpacked(members: Iterable[zipfile.ZipInfo], max_bytes: int) -> str | None:
    """Return what is wrong if these unpack to more; zipfile reads no more than they say."""
    return too_large(sum(member.file_size for member in members), max_bytes)


def too_large(size: int, max_bytes: int) -> str | None:
    """Return what is wrong if this is above the limit."""
    if size <= max_bytes:
        return None
    return (
        f"unpacks to {size:,} bytes, more than the limit of {max_bytes:,}; raise it with "
        "`max_bytes` if the file is meant to be that large"
    )


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """Read an array, unless its header promises more than there is: NumPy takes the memory."""
    with archive.open(member) as stream:
        _check_header(stream, repr(member.filename), member.file_size)
    with archive.open(member) as stream, strictly():
        array: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def check_npy(path: Path) -> None:
    """Raise a ValueError unless a ``.npy`` file has all that its header promises."""
    with path.open("rb") as stream:
        _check_header(stream, "of the file", path.stat().st_size)


@contextmanager
def strictly() -> Iterator[None]:
    """Make errors of what Python and NumPy warn of in a damaged header."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=UserWarning)  # it was saved by Python 2
        yield


def _check_header(stream: IO[bytes], name: str, size: int) -> None:
    stream = io.BytesIO(stream.read(HEADER_BYTES))  # so that a length that lies allocates nothing
    with strictly():
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        else:  # version 3 differs in the letters of fields' names alone
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    if dtype.hasobject:
        raise ValueError(
            f"the array {name} holds Python objects, which could run any program "
            "(allow_pickle=False); convert it with `.astype`, labels for example to np.int64, and "
            "save it again"
        )
    # an array of empty elements takes no memory, but counts without end
    if min(shape, default=0) < 0 or math.prod(shape) * max(1, dtype.itemsize) > size:
        raise ValueError(f"the array {name} has {size:,} bytes, too few for its shape {shape}")
