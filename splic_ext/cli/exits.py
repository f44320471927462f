"""How the commands end: with a message and an exit code."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer

from splic_ext.cli.console import print_message
from splic_ext.cli.flags import with_flags, with_hint
from splic_ext.common.atomic import removed
from splic_ext.errors import (
    AttackError,
    BackendUnavailableError,
    ConversionError,
    MissingExtraError,
)
from splic_ext.signals import exit_code, told, working

__all__ = ["exit_codes", "notes_on_stderr"]

_FAILURES = (
    ArithmeticError,
    AttackError,
    BackendUnavailableError,
    ConversionError,
    MissingExtraError,
    OSError,
)


@contextmanager
def exit_codes(
    command: Callable[..., Any] | None = None,
    *,
    interrupted: str = "nothing was written",
    memory: str = "use smaller images, fewer --threads or fewer --jobs",
    quiet: bool = False,
) -> Iterator[None]:
    """End with a message and an exit code, not with a traceback, on what a user can mend.

    Code 1 is for what failed, 2 for wrong usage, 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
    Messages name the flags of `command`; `interrupted` is said after a signal, `memory` after too
    little memory. Not if `quiet`, it is told what was removed of killed runs.
    """

    def tell(error: object) -> None:
        print_message(f"error: {with_flags(with_hint(str(error)), command)}")

    removed()  # those of other work in this process
    try:
        with working(interrupted):
            yield
    except KeyboardInterrupt as error:
        with suppress(OSError):  # the terminal may be gone
            print_message(told(error))
        raise typer.Exit(exit_code(error)) from None
    except _FAILURES as error:
        tell(error)
        raise typer.Exit(1) from None
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        # A message that says what to do is one of this package.
        known = isinstance(error, MemoryError) and "; " in str(error)
        tell(error if known else f"out of memory; {memory}")
        raise typer.Exit(1) from None
    except (TypeError, ValueError) as error:
        tell(error)
        raise typer.Exit(2) from None
    finally:
        count = removed()
        if count and not quiet:
            files = "1 unfinished file" if count == 1 else f"{count} unfinished files"
            with suppress(OSError):
                print_message(f"removed {files} of an earlier run")


def _out_of_memory(error: BaseException) -> bool:
    """Say whether an error tells of too little memory: torch's are RuntimeErrors, on the CPU bare.

    They are known by name and words, since most commands do without torch.
    """
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "DefaultCPUAllocator: " in str(error)
    )


@contextmanager
def notes_on_stderr() -> Iterator[None]:
    """Tell of warnings in one line each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("default", category=UserWarning)
        warnings.showwarning = lambda message, *_, **__: print_message(f"note: {message}")
        yield
