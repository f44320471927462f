"""Files that appear at once, when they are finished."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from splic_ext.signals import at_end

__all__ = ["atomic_path", "held", "remove_stale", "removed", "telling", "write_bytes", "write_text"]

_fcntl: Any = None
with suppress(ImportError):  # Windows
    _fcntl = import_module("fcntl")

#: Names of temporary files.
NAME = re.compile(r"\.splic-[0-9a-f]{16}\.tmp")

#: A temporary file of this age, in seconds, was left by a process that was killed; where files
#: can be locked, one that nobody holds was.
STALE = 3600.0

#: Temporary files of this process, folders that it has looked through, files removed there.
_OWN: set[Path] = set()
_SEEN: set[Path] = set()
_REMOVED: list[Path] = []

#: What is said of results that cannot be written; see :func:`telling`.
RESULTS = (
    "the results cannot be written to '{path}': {reason}; make room or name another folder, and "
    "run it again: what is finished is kept"
)


@contextmanager
def atomic_path(target: Path, *, overwrite: bool = False, durable: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `target`, and move it there once the block has succeeded.

    The folders of the target are made. `durable`: the file is whole after a power failure too; it
    waits for the disk, for milliseconds. FileExistsError is raised before the block and after it.

    What killed processes have left in the folder is removed first; see :func:`remove_stale`.
    """
    if not overwrite and os.path.lexists(target):
        raise _exists(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.parent.absolute() not in _SEEN:
        remove_stale(target.parent)
    with _temporary(target) as temporary:
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        if overwrite:
            with suppress(OSError):  # none is there, or a file system without modes
                shutil.copymode(target, temporary)
            temporary.replace(target)
        else:
            _move_to_free_name(temporary, target)
        if durable:
            _keep_name(target.parent)


@contextmanager
def telling(path: Path, failure: str) -> Iterator[None]:
    """Have an OSError say `failure`, a text with {path} and {reason}."""
    try:
        yield
    except OSError as error:
        raise OSError(failure.format(path=path, reason=error.strerror or error)) from error


def write_bytes(path: Path, content: bytes, failure: str = RESULTS) -> None:
    """Write a file at once and durably, in place of any that is there; see :func:`telling`."""
    with telling(path, failure), atomic_path(path, overwrite=True, durable=True) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str, failure: str = RESULTS) -> None:
    """Write a text in UTF-8 as :func:`write_bytes` does."""
    write_bytes(path, text.encode(), failure)


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a file that stands for a folder, and say whether no other process does.

    It is made, and stays. The system frees it when the process ends, however it does. Where files
    cannot be locked, nobody is kept out.
    """
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        free = True
        if _fcntl is not None:
            try:
                _fcntl.flock(number, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
            except BlockingIOError:
                free = False
            except OSError:  # a file system without locks
                pass
        yield free
    finally:
        os.close(number)


def remove_stale(folder: Path) -> None:
    """Remove temporary files that killed processes have left in a folder; see :func:`removed`.

    One that a process holds stays. Where files cannot be locked, those of an hour or more go.
    """
    _SEEN.add(folder.absolute())
    for path in folder.glob(".splic-*.tmp"):
        if NAME.fullmatch(path.name) and _remove_left(path):
            _REMOVED.append(path)


def removed() -> int:
    """Return how many files have been removed since the last call."""
    count = len(_REMOVED)
    _REMOVED.clear()
    return count


def _remove_left(path: Path) -> bool:
    """Remove a temporary file that nobody writes, and say whether it was one."""
    number, free = -1, False
    try:
        if _fcntl is not None:
            with suppress(OSError):  # one without rights, or a file system without locks
                number = os.open(path, os.O_RDWR)
                try:
                    _fcntl.flock(number, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                free = True
        if not free and time.time() - path.stat().st_mtime <= STALE:
            return False
        path.unlink()
    except OSError:  # another process was faster
        return False
    finally:
        if number >= 0:
            os.close(number)
    return True


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """Create an empty file beside the target, which is locked and then removed."""
    path, number = _create(target)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        _OWN.discard(path)
        if number is not None:
            os.close(number)


def _create(target: Path) -> tuple[Path, int | None]:
    """Return a new file and its descriptor, which holds the lock; None where there are none."""
    while True:
        path = target.with_name(f".splic-{secrets.token_hex(8)}.tmp")
        _OWN.add(path)
        try:
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            _OWN.discard(path)
            raise OSError(error.errno, error.strerror, str(target)) from error
        if _fcntl is None:
            os.close(number)  # Windows moves no open file
            return path, None
        with suppress(OSError):  # a file system without locks
            _fcntl.flock(number, _fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(number), path.stat()):
                return path, number
        # Another process took it for a left one before it was locked.
        os.close(number)
        _OWN.discard(path)


def _remove_own() -> None:
    """Remove what this process has not finished, which is about to end."""
    for path in tuple(_OWN):
        with suppress(OSError):
            path.unlink()


at_end.append(_remove_own)


def _keep_name(folder: Path) -> None:
    """Wait until the disk has the names in a folder, where the system lets us."""
    with suppress(OSError):  # Windows opens no folders
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _move_to_free_name(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # unlike a rename, fails if the name is taken
    except FileExistsError:
        raise _exists(target) from None
    except OSError:  # a file system without links
        if os.path.lexists(target):
            raise _exists(target) from None
        source.replace(target)


def _exists(target: Path) -> FileExistsError:
    return FileExistsError(f"'{target}' exists; give `overwrite=True` to replace it")
