"""Files that appear at once, when they are finished."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["atomic_path", "remove_stale"]

#: A temporary file of this age, in seconds, was left by a process that was killed.
STALE = 3600.0


@contextmanager
def atomic_path(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `target`, and move it there once the block has succeeded.

    Parameters
    ----------
    target : Path
        The file to make; its folders are made too.
    overwrite : bool, default False
        Whether a file may be there already.

    Raises
    ------
    FileExistsError
        A file is there; checked again when the block ends.
    """
    if not overwrite and os.path.lexists(target):
        raise _exists(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".splic-{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        _sync(temporary)
        if overwrite:
            with suppress(OSError):  # none is there, or a file system without modes
                shutil.copymode(target, temporary)
            temporary.replace(target)
        else:
            _move_to_free_name(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Have the content on the disk before its name is: after a power failure both or neither."""
    with suppress(OSError), path.open("rb+") as file:  # a file system that cannot
        os.fsync(file.fileno())


def remove_stale(folder: Path) -> None:
    """Remove temporary files that killed processes left in a folder an hour ago or more.

    Parameters
    ----------
    folder : Path
        Need not exist.
    """
    for path in folder.glob(".splic-*.tmp"):
        with suppress(OSError):  # another process may have been faster
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink()


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
    return FileExistsError(f"'{target}' exists; give --overwrite to replace it")
