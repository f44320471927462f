"""Tar archives, read from the front to the end without a step back, with bounds on all sizes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any, NamedTuple

from splic_ext.common.checks import reason_of

__all__ = ["Member", "TarError", "read_tar", "read_tar_file"]

BLOCK = 512

#: Most bytes of a long name or of other metadata of a file in an archive.
MOST_META = 2**16

#: Files that are passed over are read in parts of this size.
PART = 2**20

_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_KINDS = {
    tarfile.LNKTYPE: "a link",
    tarfile.SYMTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


class TarError(ValueError):
    """An archive that cannot be read on; the message says why, without its name."""


class Member(NamedTuple):
    """A file of an archive. `refused` says why it is none that is read; then `read` is empty.

    What belongs to it begins `at` this byte of the archive, unpacked.
    """

    name: str
    at: int
    size: int
    refused: str | None
    read: Callable[[], bytes]


def read_tar(path: Path, max_bytes: int) -> Iterator[Member]:
    """Yield the files of an archive, compressed or not; folders are passed over.

    Each can be read until the next is asked for. `max_bytes` bounds what is unpacked in all of a
    compressed archive, and each file.
    """
    with path.open("rb") as file:
        yield from read_tar_file(file, path.stat().st_size, max_bytes)


def read_tar_file(file: IO[bytes], size: int, max_bytes: int, start: int = 0) -> Iterator[Member]:
    """Yield the files of an open archive of `size` bytes as :func:`read_tar` does.

    `start` is where a file of an archive that is not compressed begins: a `Member.at`.
    """
    unpacked, packed = _unpacked(file)
    with unpacked if packed else nullcontext(unpacked) as opened:
        if start:
            opened.seek(start)
        stream = _Stream(opened, max_bytes if packed else size + PART, max_bytes, start)
        long_name, long_size, sparse, at = None, None, False, start
        while (info := _header(stream)) is not None:
            if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
                text = stream.metadata(info.size)
                if info.type == tarfile.GNUTYPE_LONGNAME:
                    long_name = text.rstrip(b"\0").decode("utf-8", "replace")
                continue
            if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE):
                values = _records(stream.metadata(info.size))
                if info.type != tarfile.XGLTYPE:
                    long_name = values.get("path", long_name)
                    long_size = _size(values["size"]) if "size" in values else long_size
                    sparse = sparse or any(name.startswith("GNU.sparse") for name in values)
                continue
            name = info.name if long_name is None else long_name
            length = info.size if long_size is None else long_size
            kind = "a sparse file" if sparse else _KINDS.get(info.type)
            long_name, long_size, sparse = None, None, False
            if info.type == tarfile.GNUTYPE_SPARSE:
                raise TarError(f"'{name}' is a sparse file; write it without `--sparse`")
            if info.type == tarfile.DIRTYPE:
                stream.skip(length)
                at = stream.at
                continue
            if kind is None and info.type not in _FILES:
                kind = "of an unknown kind"
            data = length if kind is None or kind == "a sparse file" else 0
            yield from _one(stream, name, at, data, None if kind is None else f"it is {kind}")
            at = stream.at


def _one(stream: _Stream, name: str, at: int, size: int, refused: str | None) -> Iterator[Member]:
    """Yield a file, and go to the end of it."""
    left = [size]

    def read() -> bytes:
        content = stream.file(left[0])
        left[0] = 0
        return content

    if refused is None and size > stream.max_bytes:
        refused = f"its {size:,} bytes are more than {stream.max_bytes:,}"
    if refused is None and (name[:1] == "/" or (".." in name and ".." in name.split("/"))):
        refused = "its name leads out of the archive"
    yield Member(name, at, size, refused, read if refused is None else bytes)
    if left[0]:
        stream.skip(left[0])


def _unpacked(file: IO[bytes]) -> tuple[IO[bytes], bool]:
    """Return an open archive, whatever it is compressed with, and say whether it is."""
    magic = file.read(6)
    file.seek(0)
    kinds: dict[bytes, Any] = {b"\x1f\x8b": gzip, b"BZh": bz2, b"\xfd7zXZ\0": lzma}
    kind = next((kind for start, kind in kinds.items() if magic.startswith(start)), None)
    return file if kind is None else kind.open(file), kind is not None


class _Stream:
    """Bytes of an archive, counted, in blocks of 512."""

    def __init__(self, file: IO[bytes], most: int, max_bytes: int, at: int) -> None:
        self._file, self._left, self.max_bytes, self.at = file, most, max_bytes, at

    def read(self, size: int) -> bytes:
        """Read so many bytes, fewer at the end alone."""
        self._left -= size
        self.at += size
        if self._left < 0:
            raise TarError(
                f"it unpacks to more than the limit of {self.max_bytes:,} bytes; raise it with "
                "`max_bytes`"
            )
        try:
            return self._file.read(size)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise TarError(f"it cannot be unpacked: {reason_of(error, 120)}") from error

    def file(self, size: int) -> bytes:
        """Read a file and what fills its last block."""
        content = self.read(size + -size % BLOCK)
        if len(content) < size:
            raise TarError("it ends within a file")
        return content[:size]

    def metadata(self, size: int) -> bytes:
        """Read what describes the next file."""
        if not 0 <= size <= MOST_META:
            raise TarError(f"it has a name or metadata of {size:,} bytes")
        return self.file(size)

    def skip(self, size: int) -> None:
        """Pass over a file."""
        left = size + -size % BLOCK
        while left:
            part = len(self.read(min(left, PART)))
            if part == 0:
                raise TarError("it ends within a file")
            left -= part


class _Plain(NamedTuple):
    """Of a header that has nothing else, what matters."""

    name: str
    size: int
    type: bytes


def _plain(block: bytes) -> _Plain | None:
    """Return a header of a file with a short name; None of any other, which tarfile reads."""
    if len(block) != BLOCK or block[156:157] != tarfile.REGTYPE or block[345]:
        return None
    size, check = block[124:136].rstrip(b"\0 "), block[148:156].rstrip(b"\0 ")
    name = block[:100].partition(b"\0")[0]
    if not (size.isdigit() and check.isdigit() and name.isascii()):
        return None
    others = (block[:148] + block[156:]).translate(None, b"\0")  # few are summed quickly
    try:
        right = int(check, 8) == sum(others) + 8 * 32
        return _Plain(name.decode("ascii"), int(size, 8), tarfile.REGTYPE) if right else None
    except ValueError:  # a digit that is not octal
        return None


def _header(stream: _Stream) -> tarfile.TarInfo | _Plain | None:
    """Return the header of the next file; None at the end."""
    block = stream.read(BLOCK)
    if not block:
        raise TarError("it ends without the mark of its end: it is cut short")
    if block[0] == 0 and not block.strip(b"\0"):
        return None
    plain = _plain(block)
    if plain is not None:
        return plain
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise TarError(f"it has a damaged header: {reason_of(error, 120)}") from None
    if info.size < 0:
        raise TarError("it has a file of negative size")
    return info


def _records(content: bytes) -> dict[str, str]:
    """Return what a header of pax says."""
    values: dict[str, str] = {}
    at = 0
    while at < len(content) and content[at] != 0:
        end = content.find(b" ", at, at + 20)
        length = content[at:end] if end > at else b""
        if not length.isdigit() or int(length) <= end - at + 1 or at + int(length) > len(content):
            raise TarError("it has damaged metadata")
        record = content[end + 1 : at + int(length)].rstrip(b"\n").decode("utf-8", "replace")
        name, _, value = record.partition("=")
        values[name] = value
        at += int(length)
    return values


def _size(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise TarError("it has damaged metadata")
    return int(text)
