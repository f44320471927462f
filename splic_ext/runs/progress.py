"""How far a computation is, and how long it will take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

__all__ = ["Progress", "ProgressBar", "progress_of"]


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

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


class ProgressBar(Progress):
    """Shows itself on a terminal's standard error stream, where Rich is installed."""

    def __init__(self, plan: Mapping[str, int]) -> None:
        super().__init__(plan)
        self._bar: Any = None
        try:
            rich: Any = import_module("rich.progress")
            console = import_module("rich.console").Console(stderr=True)
        except ModuleNotFoundError:
            return
        if not console.is_terminal:
            return
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
        if self._bar is not None:
            left = f"{_clock(self.time_left or 0.0)} left"
            self._bar.update(self._task, completed=self.done, left=left, description=kind)

    def __enter__(self) -> ProgressBar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()


def progress_of(plan: Mapping[str, int], *, shown: bool) -> Progress:
    """Return the progress of a plan, with a bar or without."""
    return ProgressBar(plan) if shown else Progress(plan)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
