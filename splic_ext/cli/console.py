"""What the commands show: progress, messages and tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from splic_ext.cli.demo import DemoResult
from splic_ext.cli.flags import with_flags
from splic_ext.cli.layout import markdown_parts, tables
from splic_ext.common.checks import printable

__all__ = [
    "ConsoleReporter",
    "demo_tables",
    "installation_tables",
    "print_markdown",
    "print_message",
    "print_tables",
    "printable",
]


#: Seconds between two lines in a log.
MINUTE = 60.0


def print_message(message: str) -> None:
    """Print one line on the standard error stream, unwrapped and unstyled."""
    print(printable(message), file=sys.stderr, flush=True)


def print_tables(*tables: Table) -> None:
    """Print tables whose texts have been made printable."""
    Console().print(*tables, sep="\n")


def print_markdown(text: str) -> None:
    """Print a text in Markdown, of several lines."""
    console = Console()
    for part in markdown_parts("\n".join(map(printable, text.split("\n"))), console.width):
        console.print(Markdown(part) if isinstance(part, str) else part)


class _SpeedColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("- images/s" if speed is None else f"{speed:.3g} images/s")


class ConsoleReporter:
    """A progress bar on a terminal's standard error stream, else a line a minute; messages.

    If `quiet`, no bar, lines, notes or summary; failures are told all the same, with the flags of
    `command`.
    """

    def __init__(
        self,
        total: int,
        *,
        quiet: bool = False,
        command: Callable[..., Any] | None = None,
        doing: str = "completing",
        done: str = "completed",
    ) -> None:
        console = Console(stderr=True)
        self._quiet, self._command, self._verb = quiet, command, done
        self._progress = Progress(
            TextColumn(doing),
            BarColumn(),
            MofNCompleteColumn(),
            _SpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total)
        self._total = float(total)
        self._done = 0.0
        self._began = self._told = time.monotonic()

    def __enter__(self) -> ConsoleReporter:
        if not self._progress.disable:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._progress.disable:
            self._progress.stop()

    def expect(self, images: float) -> None:
        """Expect that many images more."""
        self._total += images
        self._progress.update(self._task, total=self._total)

    def advance(self, images: float) -> None:
        """Count images, or parts of a large one, as done."""
        self._done += images
        self._progress.update(self._task, completed=self._done)
        now = time.monotonic()
        if self._progress.disable and not self._quiet and now - self._told >= MINUTE:
            self._told = now
            self._tell_how_far(now - self._began)

    def note(self, path: Path, text: str) -> None:
        """Tell of a file that was read in an unexpected way, if not quiet."""
        if not self._quiet:
            self._say(f"note: {path}: {text}")

    def fail(self, path: Path, reason: str) -> None:
        """Tell of a file that was not completed."""
        self._say(f"error: {path}: {reason}")

    def summary(self, failed: int) -> None:
        """Print how many images were completed, and how fast."""
        if not self._quiet:
            seconds = time.monotonic() - self._began
            count = round(self._done)
            speed = count / seconds if seconds > 0 else 0.0
            more = f", {failed} {'file' if failed == 1 else 'files'} failed" if failed else ""
            print_message(
                f"{self._verb} {count} {'image' if count == 1 else 'images'} in {seconds:.1f} s "
                f"({speed:.3g} images/s){more}"
            )

    def _tell_how_far(self, seconds: float) -> None:
        """Print one line for a log."""
        left = seconds * (self._total - self._done) / self._done if self._done > 0 else 0.0
        print_message(
            f"completing: {int(self._done):,} of {round(self._total):,} images, "
            f"{timedelta(seconds=round(left))} left"
        )

    def _say(self, message: str) -> None:
        message = with_flags(message, self._command)
        if self._progress.disable:
            print_message(message)
        else:  # above the bar
            self._progress.console.print(Text(printable(message)), soft_wrap=True)


def installation_tables(info: dict[str, Any]) -> tuple[Table, ...]:
    """Lay out what :func:`splic_ext.diagnostics.describe_installation` returned."""
    general = [[name, info[name]] for name in ("python", "numpy", "platform")]
    features = info["cpu_features"]
    known = "unknown" if features is None else " ".join(features) or "none known"
    general += [["CPU features", known], ["default threads", str(info["default_threads"])]]
    backends = []
    for name, backend in info["backends"].items():
        details = [f"{key}: {_words(value)}" for key, value in backend["details"].items()]
        if backend["reason"] is not None:
            details.append(backend["reason"])
        available = "yes" if backend["available"] else "no"
        backends.append([name, available, "\n".join(map(printable, details))])
    packages = [
        [name, version or "not installed", ", ".join(info["extras"][name])]
        for name, version in info["packages"].items()
    ]
    width = Console().width
    return (
        *tables(["splic_ext", info["version"]], general, width),
        *tables(["back end", "available", "details"], backends, width),
        *tables(["optional package", "version", "extra"], packages, width),
    )


def demo_tables(result: DemoResult) -> tuple[Table, ...]:
    """Lay out the scores of the demonstration."""
    rows = [
        [row.name, *(f"{score.psnr:.2f} / {score.ssim:.3f}" for score in row.scores)]
        for row in (*result.rows, result.mean())
    ]
    return tuple(
        tables(
            ["photo", "noisy", "completed (noisy)", "completed (clean)"],
            rows,
            Console().width,
            justify=["left", "right", "right", "right"],
            ends=[len(rows) - 2],
            title=f"PSNR in dB / SSIM against the clean photo, noise sigma {result.sigma:g}",
            caption=f"{result.speed:.3g} images/s on a batch of {result.batch} crops of 32 x 32",
        )
    )


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
