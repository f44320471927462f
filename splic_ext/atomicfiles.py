"""Files that appear at once, when they are finished."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["atomic_path"]


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
        if overwrite:
            with suppress(OSError):  # none is there, or a file system without modes
                shutil.copymode(target, temporary)
            temporary.replace(target)
        else:
            _move_to_free_name(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


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
