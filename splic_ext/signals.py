"""Signals that end a command: at once where nothing is lost, else by an exception.

Imported before NumPy: started as a command, Python must not show a traceback of its imports.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["Ended", "at_end", "end_now", "exit_code", "told", "watch", "working"]

#: Signals and what is said of each; the exit code is 128 and the number, as shells have it.
WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
_IMPORTS = "<frozen importlib._bootstrap>"

#: Called before the process ends at once; must not raise.
at_end: list[Callable[[], None]] = []


class Ended(KeyboardInterrupt):
    """A signal came; the number is the only argument."""


class _State:
    """What a signal does now: `message` is said, `raising` has it raise, `begun` the end has."""

    message = "nothing was done"
    process = 0
    raising = begun = said = False


def watch() -> None:
    """Have signals end this process, but for those that are ignored, or handled by others."""
    _State.process = os.getpid()
    for name in WORDS:
        number = getattr(signal, name, None)
        if number is None:
            continue
        with suppress(ValueError):  # not in the main thread
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, _come)


@contextmanager
def working(message: str) -> Iterator[None]:
    """Have the first signal raise :class:`Ended`; `message` is said where one ends at once."""
    _State.message, _State.begun, _State.said = message, False, False
    _State.raising = True
    try:
        yield
    finally:
        _State.raising = False


def told(error: KeyboardInterrupt) -> str:
    """Return what is to be said of the signal that came, which counts as said."""
    _State.said = True
    return _line(exit_code(error) - 128, _State.message)


def exit_code(error: KeyboardInterrupt) -> int:
    """Return the exit code after the signal that came."""
    return 128 + int(error.args[0] if isinstance(error, Ended) else signal.SIGINT)


def end_now(code: int) -> None:
    """End without waiting for threads, which may compute for long."""
    for clean in at_end:
        clean()
    os._exit(code)


def _line(number: int, message: str) -> str:
    return f"{WORDS[signal.Signals(number).name]}; {message}"


def _come(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _State.process:  # a child, made by a fork
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    # In the midst of an import an exception gets lost or changed.
    if _State.raising and not _State.begun and not _imports(frame):
        _State.begun = True
        raise Ended(number)
    if not _State.said:
        with suppress(OSError):
            os.write(2, f"{_line(number, _State.message)}\n".encode())
    end_now(128 + number)


def _imports(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != _IMPORTS:
        frame = frame.f_back
    return frame is not None


def _is_command() -> bool:
    """Say whether this process was started as ``splic-ext`` or ``python -m splic_ext.cli``."""
    name = os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else ""  # noqa: PTH119
    if name == "-m":  # until the module has been found
        return any("splic_ext.cli" in text for text in sys.orig_argv)
    return name.startswith("splic-ext")


if _is_command():
    watch()
