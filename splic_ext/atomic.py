"""Files that appear at once, when they are finished."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["atomic_path", "remove_stale", "telling", "write_bytes", "write_text"]

#: A temporary file of this age, in seconds, was left by a process that was killed.
STALE = 3600.0

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
    """
    if not overwrite and os.path.lexists(target):
        raise _exists(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".splic-{secrets.token_hex(8)}.tmp")
    try:
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
    finally:
        temporary.unlink(missing_ok=True)


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


def remove_stale(folder: Path) -> None:
    """Remove temporary files that killed processes left in a folder an hour ago or more."""
    for path in folder.glob(".splic-*.tmp"):
        with suppress(OSError):  # another process may have been faster
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink()


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
