"""Signals that end a command: at once where nothing is lost, else by an exception.

Imported before all else, and importing next to nothing: started as a command, Python must not show
a traceback of its imports.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the module of C: `signal` takes milliseconds
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["Ended", "at_end", "end_now", "exit_code", "told", "watch", "working"]

#: What is said of each signal; the exit code is 128 and its number, as shells have it.
WORDS = {
    getattr(signal, name): word
    for name, word in (("SIGINT", "interrupted"), ("SIGTERM", "terminated"), ("SIGHUP", "hung up"))
    if hasattr(signal, name)
}
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
    for number in WORDS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            try:
                signal.signal(number, _come)
            except ValueError:  # not in the main thread
                return


class working:  # noqa: N801 - used as a function; contextlib would be one more import
    """Have the first signal raise :class:`Ended`; `message` is said where one ends at once."""

    def __init__(self, message: str) -> None:
        self._message = message

    def __enter__(self) -> None:
        _State.message, _State.begun, _State.said = self._message, False, False
        _State.raising = True

    def __exit__(self, *_: object) -> None:
        """Have signals end the process at once again."""
        _State.raising = False


def told(error: KeyboardInterrupt) -> str:
    """Return what is to be said of the signal that came, which counts as said."""
    _State.said = True
    return _line(exit_code(error) - 128)


def exit_code(error: KeyboardInterrupt) -> int:
    """Return the exit code after the signal that came."""
    return 128 + int(error.args[0] if isinstance(error, Ended) else signal.SIGINT)


def end_now(code: int) -> None:
    """End without waiting for threads, which may compute for long."""
    for clean in at_end:
        clean()
    os._exit(code)


def _line(number: int) -> str:
    return f"{WORDS[number]}; {_State.message}"


def _come(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _State.process:  # a child, made by a fork
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    # In the midst of an import an exception gets lost or changed.
    if _State.raising and not _State.begun and not _imports(frame):
        _State.begun = True
        raise Ended(number)
    if not _State.said:
        try:  # noqa: SIM105 - contextlib would be one more import
            os.write(2, f"{_line(number)}\n".encode())
        except OSError:  # the terminal may be gone
            pass
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
