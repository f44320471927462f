"""How far a computation is, and how long it will take."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from splic_ext.common.checks import printable

__all__ = ["MINUTE", "Progress", "ProgressBar", "ProgressLines", "progress_of", "tell"]

#: Seconds between two lines in a log.
MINUTE = 60.0


@dataclass
class Progress:
    """Counts images by kind of work, each with a speed of its own, and estimates the time left.

    `plan` is the number of images that each kind of work will see.

    >>> progress = Progress({"attack": 20, "score": 20})
    >>> progress.time_left is None
    True
    >>> progress.advance("attack", 10, 5.0)
    >>> progress.advance("score", 10, 1.0)
    >>> progress.done, progress.total, progress.time_left
    (20, 40, 6.0)
    """

    plan: Mapping[str, int]
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def advance(self, kind: str, images: int, seconds: float) -> None:
        """Count images as done; those of an earlier run with the time that they took then."""
        self.counts[kind] = self.counts.get(kind, 0) + images
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds

    @property
    def total(self) -> int:
        """Number of images, each counted once for every kind of work."""
        return sum(self.plan.values())

    @property
    def done(self) -> int:
        """Number of those done."""
        return sum(self.counts.values())

    @property
    def time_left(self) -> float | None:
        """Seconds to go; a kind that has not begun is taken to be as fast as the others so far."""
        if not self.done:
            return None
        usual = sum(self.seconds.values()) / self.done
        left = 0.0
        for kind, images in self.plan.items():
            count = self.counts.get(kind, 0)
            speed = self.seconds[kind] / count if count else usual
            left += max(0, images - count) * speed
        return left

    def milestone(self, text: str) -> None:
        """Hear of a part that is finished, such as an epoch: a log has a line for it."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


class ProgressLines(Progress):
    """Tells the standard error stream how far it is: a line a minute, and one for a milestone.

    For logs, notebooks and all else that is no terminal. Of the kinds `marked` there are
    milestones alone.
    """

    def __init__(self, plan: Mapping[str, int], marked: Collection[str] = ()) -> None:
        super().__init__(plan)
        self._marked, self._told = marked, time.monotonic()

    def advance(self, kind: str, images: int, seconds: float) -> None:
        """Count images as done, and tell of it if the last line is a minute old."""
        super().advance(kind, images, seconds)
        if kind not in self._marked and time.monotonic() - self._told >= MINUTE:
            left = _clock(self.time_left or 0.0)
            self._tell(f"{kind}: {self.done:,} of {self.total:,} images in all, {left} left")

    def milestone(self, text: str) -> None:
        """Tell of a part that is finished, and of the time left."""
        self._tell(f"{text}, {_clock(self.time_left or 0.0)} left")

    def _tell(self, text: str) -> None:
        self._told = time.monotonic()
        tell(text)


def tell(text: str) -> None:
    """Write a line to the standard error stream."""
    with suppress(OSError, ValueError):  # a log that is full or closed ends no computation
        print(printable(text), file=sys.stderr, flush=True)


class ProgressBar(Progress):
    """A bar on the terminal of a console of Rich."""

    def __init__(self, plan: Mapping[str, int], console: Any) -> None:
        super().__init__(plan)
        rich: Any = import_module("rich.progress")
        self._bar = rich.Progress(
            rich.TextColumn("{task.description}", markup=False),
            rich.BarColumn(),
            rich.TaskProgressColumn(),
            rich.TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._task = self._bar.add_task("", total=self.total, left="")

    def advance(self, kind: str, images: int, seconds: float) -> None:
        """Count images as done, and show it."""
        super().advance(kind, images, seconds)
        left = f"{_clock(self.time_left or 0.0)} left"
        self._bar.update(self._task, completed=self.done, left=left, description=kind)

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()


def progress_of(plan: Mapping[str, int], *, shown: bool, marked: Collection[str] = ()) -> Progress:
    """Return the progress of a plan: silent, a bar on a terminal, or lines where there is none.

    Without Rich there are lines on a terminal, too. `marked` are the kinds that have a line for
    each milestone instead of one a minute.
    """
    if not shown:
        return Progress(plan)
    try:
        console: Any = import_module("rich.console").Console(stderr=True)
    except ModuleNotFoundError:
        console = None
    if console is None or not console.is_terminal:
        return ProgressLines(plan, marked)
    return ProgressBar(plan, console)


def _clock(seconds: float) -> str:
    """Return a time as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
