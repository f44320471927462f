"""Folders and files by path or URL: listed, read, and written so that they appear finished."""

from __future__ import annotations

import errno
import os
import posixpath
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from splic_ext.common.atomic import atomic_path, remove_stale
from splic_ext.common.checks import printable, reason_of, shortened
from splic_ext.common.optional import optional

__all__ = ["Entry", "Place", "WriteError", "place_of"]

#: Temporary files of remote places begin with it.
UNFINISHED = ".splic-unfinished-"

#: Where an object is there as soon as it is whole; the first name of a path is a bucket's, and none
#: is made, since the name may be a slip.
OBJECT_STORES = frozenset(("s3", "s3a", "gs", "gcs"))

#: Seconds after which one of them was left by a run that is no more.
DAY = 86400.0

#: Folders in folders are followed this deep.
MOST_DEEP = 64


class WriteError(OSError):
    """The destination cannot be written: no shard could."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file below a place: its name from there, its bytes, and a stamp that a change changes."""

    name: str
    size: int
    stamp: str


def place_of(text: str | os.PathLike[str]) -> Place:
    """Return the place of a path or URL.

    >>> place_of("/data/train"), place_of("file:///data/train")
    (Place('/data/train'), Place('/data/train'))
    """
    if not isinstance(text, (str, os.PathLike)):
        raise TypeError(
            f"`source` and `dest` must be paths or URLs, got {type(text).__name__}; give a text"
        )
    name = os.fspath(text)
    if name.startswith("file://"):
        return Place(urlsplit(name).path)
    return _Remote(name) if "://" in name else Place(name)


class Place:
    """A folder or file of this machine; names of what is below have forward slashes.

    `local` says whether the path is one of the system, `shared` whether other processes see it.
    """

    local = shared = True

    def __init__(self, text: str) -> None:
        self.text = os.path.abspath(text)  # noqa: PTH100 - Path.absolute() keeps ".."
        self.path = Path(self.text)

    def __repr__(self) -> str:
        return f"Place({self.text!r})"

    def kind(self, name: str = "") -> str | None:
        """Return "file", "folder", or None for what is not there or is neither."""
        path = self.path / name
        return "folder" if path.is_dir() else "file" if path.is_file() else None

    def entry(self, name: str = "") -> Entry:
        """Return size and stamp of a file."""
        status = (self.path / name).stat()
        return Entry(name, status.st_size, str(status.st_mtime_ns))

    def files(self, deep: bool = True) -> Iterator[Entry]:
        """Yield the files below, folder by folder, sorted; not those that are hidden.

        Links to folders are not followed.
        """
        yield from self._walk("", MOST_DEEP if deep else 0)

    def _walk(self, folder: str, deep: int) -> Iterator[Entry]:
        with os.scandir(self.path / folder) as found:
            entries = sorted((e for e in found if not e.name.startswith(".")), key=lambda e: e.name)
        for entry in entries:
            name = f"{folder}{entry.name}"
            if entry.is_dir():
                if deep and not entry.is_symlink():
                    yield from self._walk(f"{name}/", deep - 1)
            elif entry.is_file():  # a pipe would be waited for
                status = entry.stat()
                yield Entry(name, status.st_size, str(status.st_mtime_ns))

    def names(self, folder: str) -> set[str]:
        """Return the names of the files in a folder, hidden or not; none if it is not there."""
        try:
            with os.scandir(self.path / folder) as found:
                return {entry.name for entry in found if not entry.is_dir()}
        except FileNotFoundError:
            return set()

    def open(self, name: str = "") -> IO[bytes]:
        """Open a file to be read."""
        return (self.path / name).open("rb")

    def read(self, name: str = "") -> bytes:
        """Return what a file holds."""
        with self.open(name) as file:
            return file.read()

    @contextmanager
    def writing(self, name: str, durable: bool = False) -> Iterator[Path]:
        """Give a path of this machine to write; it is there under its name when the block ends.

        If `durable`, it survives a power failure.
        """
        target = self.path / name
        with self._telling(), atomic_path(target, overwrite=True, durable=durable) as path:
            yield path

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, which survives a power failure."""
        with self.writing(name, durable=True) as path:
            path.write_bytes(content)

    def append(self, name: str, content: bytes) -> None:
        """Put something at the end of a file, which survives kill -9."""
        with self._telling():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab", buffering=0) as file:
                file.write(content)

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        with self._telling():
            (self.path / name).unlink(missing_ok=True)

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder if it is there."""
        with suppress(OSError):
            (self.path / name).rmdir()

    def clean(self, folders: Iterator[str] | None = None) -> None:
        """Remove what killed runs have left unfinished in these folders."""
        for folder in folders or ():
            remove_stale(self.path / folder)

    def settle(self) -> None:
        """Wait until the disk has what was written."""
        if hasattr(os, "sync"):
            os.sync()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Say of an OSError that it is the destination's."""
        try:
            yield
        except WriteError:
            raise
        except OSError as error:
            raise WriteError(
                f"the destination '{self.text}' cannot be written: "
                f"{error.strerror or reason_of(error)}; make room or name another, and run the "
                "same command again: finished shards are kept"
            ) from error


class _Remote(Place):
    """A place that fsspec reaches."""

    local = False

    def __init__(self, text: str) -> None:
        with optional(f"'{shortened(text)}'", "remote", "fsspec"):
            core: Any = import_module("fsspec.core")
        self.text = text.rstrip("/")
        try:
            self.fs, self.root = core.url_to_fs(text)
        except (ImportError, ValueError) as error:
            raise ValueError(
                f"the URL '{shortened(printable(text))}' cannot be opened by fsspec: "
                f"{reason_of(error)}; install the package that it names"
            ) from error
        self.root = str(self.root).rstrip("/")
        self.shared = "memory" not in self._protocols()
        self._objects = not OBJECT_STORES.isdisjoint(self._protocols())

    def _protocols(self) -> tuple[str, ...]:
        named = self.fs.protocol
        return (named,) if isinstance(named, str) else tuple(named)

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Name the place in errors of a connection or a login, and make each an OSError."""
        try:
            yield
        except Exception as error:  # of any package
            denied = isinstance(error, PermissionError)
            if isinstance(error, (OSError, NotImplementedError, MemoryError)) and not denied:
                raise
            made = (PermissionError if denied else OSError)(
                f"'{self.text}' cannot be reached: {reason_of(error)}; check the URL, the network "
                "and your login"
            )
            made.errno = errno.EACCES if denied else errno.EIO
            raise made from error

    def kind(self, name: str = "") -> str | None:
        """Return "file", "folder", or None."""
        self.fs.invalidate_cache()
        try:
            with self._asking():
                info = self.fs.info(self._at(name))
        except FileNotFoundError:
            return None
        return "file" if info["type"] == "file" else "folder"

    def entry(self, name: str = "") -> Entry:
        """Return size and stamp of a file."""
        self.fs.invalidate_cache()
        with self._asking():
            return _entry(name, self.fs.info(self._at(name)))

    def files(self, deep: bool = True) -> Iterator[Entry]:
        """Yield the files below, sorted; not those that are hidden."""
        self.fs.invalidate_cache()
        with self._asking():
            found = self.fs.find(self.root, maxdepth=None if deep else 1, detail=True)
        below = {str(path)[len(self.root) :].lstrip("/"): info for path, info in found.items()}
        for name in sorted(below, key=lambda name: name.split("/")):
            if not any(part.startswith(".") for part in name.split("/")):
                yield _entry(name, below[name])

    def names(self, folder: str) -> set[str]:
        """Return the names of the files in a folder."""
        self.fs.invalidate_cache()
        try:
            with self._asking():
                found = self.fs.ls(self._at(folder), detail=True)
        except FileNotFoundError:
            return set()
        return {posixpath.basename(info["name"]) for info in found if info["type"] == "file"}

    def open(self, name: str = "") -> IO[bytes]:
        """Open a file to be read."""
        with self._asking():
            opened: IO[bytes] = self.fs.open(self._at(name), "rb")
        return opened

    def read(self, name: str = "") -> bytes:
        """Return what a file holds, by one request."""
        with self._asking():
            content: bytes = self.fs.cat_file(self._at(name))
        return content

    @contextmanager
    def writing(self, name: str, durable: bool = False) -> Iterator[Path]:
        """Give a path of this machine to write; it is there under its name when the block ends."""
        with tempfile.TemporaryDirectory(prefix="splic-") as folder:
            path = Path(folder) / "shard"
            with self._telling():
                path.touch()
                yield path
                with self._asking():
                    self._put(path, self._at(name))

    def _put(self, path: Path, place: str) -> None:
        """Copy a file to a place, where nobody sees half of it."""
        if self._objects:
            self.fs.put_file(str(path), place)
            return
        folder, _, last = place.rpartition("/")
        unfinished = f"{folder}/{UNFINISHED}{secrets.token_hex(8)}-{last}"
        self.fs.makedirs(folder, exist_ok=True)
        self.fs.put_file(str(path), unfinished)
        try:
            with suppress(FileNotFoundError):
                self.fs.rm_file(place)
            self.fs.mv(unfinished, place)
        except BaseException:
            with suppress(Exception):
                self.fs.rm_file(unfinished)
            raise

    def write(self, name: str, content: bytes) -> None:
        """Write a small file."""
        with self.writing(name) as path:
            path.write_bytes(content)

    def settle(self) -> None:
        """Have nothing to wait for: what is there has arrived."""

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        with self._telling(), suppress(FileNotFoundError), self._asking():
            self.fs.rm_file(self._at(name))

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder if it is there."""
        with suppress(OSError, NotImplementedError):
            self.fs.rmdir(self._at(name))

    def clean(self, folders: Iterator[str] | None = None) -> None:
        """Remove what killed runs have left unfinished in these folders for a day or longer.

        Nothing says whether another run, which no lock keeps out, still writes a younger one. Of
        one that is as far ahead the clock was wrong.
        """
        for folder in folders or ():
            for name in self.names(folder):
                below = f"{folder}/{name}" if folder else name
                if name.startswith(UNFINISHED) and abs(self._age(below)) > DAY:
                    self.remove(below)

    def _age(self, name: str) -> float:
        """Return the seconds since a file was written; 0 where the service does not tell."""
        try:
            return time.time() - float(self.fs.modified(self._at(name)).timestamp())
        except (NotImplementedError, OSError):
            return 0.0


def _entry(name: str, info: dict[str, Any]) -> Entry:
    keys = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")
    stamp = next((info[key] for key in keys if info.get(key) is not None), "")
    if isinstance(stamp, datetime):  # some give the one in a list, the other for a file
        stamp = stamp.timestamp()
    if isinstance(stamp, float):
        stamp = f"{stamp:.6f}"
    return Entry(name, int(info.get("size") or 0), str(stamp))
