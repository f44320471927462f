"""Members of ``.npz`` archives, which may promise more than there is, or unpack without end."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from typing import IO, Any

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_BYTES", "check_unpacked", "read_member", "too_large"]

#: Most bytes that a file unpacks to, if nothing else is said; the largest of SVHN has 1.6e9.
MAX_BYTES = 2**31


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
        _check_shape(stream, member)
    with archive.open(member) as stream:
        array: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _check_shape(stream: IO[bytes], member: zipfile.ZipInfo) -> None:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    else:  # version 3 differs in the letters of fields' names alone
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    size = member.file_size
    if not dtype.hasobject and (
        min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > size
    ):
        raise ValueError(
            f"the array {member.filename!r} has {size:,} bytes, too few for its shape {shape}"
        )
