"""The entry point of the ``splic-ext`` command; the commands are in `splic_ext.cli.app`."""

from __future__ import annotations

import os
import sys
import warnings

from splic_ext.errors import MissingExtraError
from splic_ext.optional import optional

__all__ = ["main"]


def main() -> None:
    """Run the command line.

    Raises
    ------
    SystemExit
        Always, with the exit code; 1 and a message where the extra ``cli`` is not installed.
    """
    try:
        with optional("`splic-ext`", "cli", "typer", "rich", "PIL"):
            from splic_ext.cli.app import app
            from splic_ext.cli.exits import INTERRUPTED
    except MissingExtraError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    # Pillow's remarks on damaged metadata; what matters is reported with the file's name.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        app(prog_name="splic-ext")
    except SystemExit as end:
        if end.code == INTERRUPTED:
            # The solver's threads cannot be stopped, and a normal exit would wait for them.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        raise
