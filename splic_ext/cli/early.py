"""Ctrl-C before a command has begun: while its modules are imported."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["INTERRUPTED", "begun", "ending_at_once"]

#: Exit code after Ctrl-C, as shells have it.
INTERRUPTED = 130


def _end(_signal: int, _frame: FrameType | None) -> None:
    # Nothing has been done, and an exception in the midst of an import gets lost or changed.
    os._exit(INTERRUPTED)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """End the process on Ctrl-C, until a command has begun."""
    usual = signal.getsignal(signal.SIGINT)
    try:
        if usual is signal.default_int_handler:  # not where Ctrl-C is ignored
            signal.signal(signal.SIGINT, _end)
    except ValueError:  # not in the main thread
        pass
    try:
        yield
    finally:
        begun()


def begun() -> None:
    """Let Ctrl-C be a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
