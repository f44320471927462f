"""A look at a MATLAB 5 file before SciPy reads it, which crashes on a wrong tag."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import IO

__all__ = ["MatlabError", "check_matlab"]

#: Types of elements: type -> bytes of a number.
NUMBERS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
MATRIX, COMPRESSED = 14, 15

#: Classes of arrays that hold numbers: double, single and the integers -> bytes of a number.
CLASSES = {6: 8, 7: 4, 8: 1, 9: 1, 10: 2, 11: 2, 12: 4, 13: 4, 14: 8, 15: 8}
OPAQUE, COMPLEX = 17, 0x800

#: What is read of each variable: its tags, its shape and its name come first.
HEAD = 4096

HDF5 = b"\x89HDF\r\n\x1a\n"


class MatlabError(ValueError):
    """A file that SciPy must not see; the message says why, without the name."""


def check_matlab(path: Path, names: set[str], max_bytes: int) -> set[str]:
    """Check the file up to the last of these variables; return those that are arrays of numbers.

    Raises
    ------
    MatlabError
        Another format, a damaged file, or variables of more than `max_bytes` together.
    """
    found: dict[str, bool] = {}
    with path.open("rb") as file:
        size = path.stat().st_size
        order = _check_header(file.read(128), size)
        at, total = 128, 0
        while at < size and not names <= found.keys():
            file.seek(at)
            kind, length = _tag(file.read(8), order)
            at += 8 + length
            if at > size:
                raise MatlabError(f"it ends {at - size:,} bytes too early")
            if kind == COMPRESSED:
                head, length = _decompressed(file, length, order)
            elif kind == MATRIX:
                head = file.read(min(length, HEAD))
            else:
                raise MatlabError(f"it holds an element of type {kind}, expected a variable")
            total += length
            if total > max_bytes:
                raise MatlabError(
                    f"its {total:,} bytes are more than the limit of {max_bytes:,}; raise it with "
                    "`max_bytes` if the file is meant to be that large"
                )
            name, is_numbers = _variable(head, length, order, names)
            if name in found and name in names:
                raise MatlabError(f"it holds the variable {name!r} twice")
            found[name] = is_numbers
    return {name for name, is_numbers in found.items() if is_numbers}


def _check_header(header: bytes, size: int) -> str:
    """Return the byte order."""
    if HDF5 in header or b"MATLAB 7.3" in header[:116] or header[124:126] in (b"\0\2", b"\2\0"):
        raise MatlabError(
            "it is of MATLAB 7.3 (HDF5), expected MATLAB 5 to 7; save it with `save -v7`"
        )
    order = {b"IM": "<", b"MI": ">"}.get(header[126:128])
    if (
        0 in header[:4]  # MATLAB 4
        or size < 128
        or order is None
        or struct.unpack(order + "H", header[124:126])[0] != 0x0100
    ):
        raise MatlabError("it has no header of MATLAB 5 to 7; save it with `save -v7`")
    return order


def _tag(content: bytes, order: str) -> tuple[int, int]:
    if len(content) < 8:
        raise MatlabError("it ends within a tag")
    kind, length = struct.unpack(order + "II", content[:8])
    return kind, length


def _decompressed(file: IO[bytes], length: int, order: str) -> tuple[bytes, int]:
    """Return the beginning of a compressed variable, and its whole length."""
    try:
        content = zlib.decompressobj().decompress(file.read(min(length, HEAD)), HEAD)
    except zlib.error as error:
        raise MatlabError(f"a variable cannot be unpacked: {error}") from error
    kind, length = _tag(content, order)
    if kind != MATRIX:
        raise MatlabError(f"it holds a packed element of type {kind}, expected a variable")
    return content[8:], length


class _Head:
    """The elements at the beginning of a variable."""

    def __init__(self, content: bytes, length: int, order: str) -> None:
        self._content, self._length, self._order = content, length, order
        self.at = 0

    def tag(self) -> tuple[int, int, int]:
        """Return the type of the next element, where its content begins, and how long it is."""
        kind, length = _tag(self._content[self.at : self.at + 8], self._order)
        begin = self.at + 8
        if kind >> 16:  # up to four bytes of content, within the tag
            kind, length, begin = kind & 0xFFFF, kind >> 16, self.at + 4
            if length > 4:
                raise MatlabError(f"it holds a short element of {length} bytes")
            self.at += 8
        else:
            self.at = begin + length + -length % 8
        if begin + length > self._length:
            raise MatlabError("a variable is longer than it says")
        return kind, begin, length

    def content(self, what: str, kinds: tuple[int, ...]) -> bytes:
        kind, begin, length = self.tag()
        if kind not in kinds:
            raise MatlabError(f"{what} of a variable is of type {kind}")
        if begin + length > len(self._content):
            raise MatlabError(f"{what} of a variable has {length} bytes, or the file is truncated")
        return self._content[begin : begin + length]


def _variable(head: bytes, length: int, order: str, names: set[str]) -> tuple[str, bool]:
    """Check one variable; return its name, and whether it is an array of real numbers."""
    elements = _Head(head, length, order)
    flags = elements.content("the class", (6,))
    if len(flags) != 8 or elements.at != 16:
        raise MatlabError(f"the class of a variable has {len(flags)} bytes")
    word = struct.unpack(order + "I", flags[:4])[0]
    if word & 0xFF == OPAQUE:  # has neither shape nor name
        return "", False
    shape_bytes = elements.content("the shape", (5,))
    if len(shape_bytes) % 4 or not 8 <= len(shape_bytes) <= 128:
        raise MatlabError(f"the shape of a variable has {len(shape_bytes)} bytes")
    shape = struct.unpack(f"{order}{len(shape_bytes) // 4}i", shape_bytes)
    if min(shape) < 0:
        raise MatlabError(f"a variable has the shape {shape}")
    name = elements.content("the name", (1,)).decode("latin-1")
    if name not in names:
        return name, False
    if word & 0xFF not in CLASSES or word & COMPLEX:
        return name, False
    kind, _, data = elements.tag()
    if kind not in NUMBERS:
        raise MatlabError(f"the numbers of {name!r} are of type {kind}")
    if math.prod(shape) * NUMBERS[kind] != data:
        raise MatlabError(f"{name!r} has {data:,} bytes for the shape {shape}")
    return name, True
