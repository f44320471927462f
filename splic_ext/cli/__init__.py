"""The entry point of the ``splic-ext`` command; the commands are in `splic_ext.cli.app`."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import suppress
from typing import Any

from splic_ext.common.optional import optional
from splic_ext.errors import MissingExtraError
from splic_ext.signals import end_now, watch

__all__ = ["main"]

#: Exit codes above this are of signals.
SIGNALLED = 128


def main() -> None:
    """Run the command line.

    Raises
    ------
    SystemExit
        Always, with the exit code; 1 and a message where the extra ``cli`` is not installed, or
        the output cannot be written.
    """
    watch()
    try:
        with optional("`splic-ext`", "cli", "typer", "rich", "PIL"):
            from splic_ext.cli.app import app
    except MissingExtraError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    # Pillow's remarks on damaged metadata; what matters is reported with the file's name.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    code = _run(app)
    if isinstance(code, int) and code > SIGNALLED:
        # The solver's threads cannot be stopped, and a normal exit would wait for them.
        with suppress(OSError):
            sys.stderr.flush()
        end_now(code)
    raise SystemExit(code)


def _run(app: Any) -> Any:
    """Return the exit code of the commands, 1 where the output of one cannot be written."""
    code: Any = 0
    try:
        try:
            app(prog_name="splic-ext")
        except SystemExit as end:
            code = end.code
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        with suppress(OSError, ValueError):
            # What is left in the buffer would be tried again at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not code and not isinstance(error, BrokenPipeError):
            with suppress(OSError):
                print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)
        code = code or 1
    return code
