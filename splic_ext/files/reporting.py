"""How far a run is, and which files have failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from splic_ext.files.arrays import Progress
from splic_ext.files.plan import Job

__all__ = ["OutputError", "Reporter", "Tally", "reason_of"]


class OutputError(Exception):
    """An output that cannot be written: the source is not to blame."""


class Reporter(Protocol):
    """Hears how a run goes, from one thread."""

    def expect(self, images: float) -> None:
        """Expect that many images more; at first, one for each file."""

    def advance(self, images: float) -> None:
        """Count images, or parts of a large one, as done."""

    def note(self, path: Path, text: str) -> None:
        """Tell of a file that was read in an unexpected way."""

    def fail(self, path: Path, reason: str) -> None:
        """Tell of a file that was not completed."""


class Tally:
    """Tells a reporter of each file, and counts those that failed."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter, self.failed = reporter, 0

    def fail(self, job: Job, reason: str | Exception) -> None:
        """Report a file that was not completed, or an output that cannot be written."""
        self.failed += 1
        self.reporter.expect(-1)
        path = job.target if isinstance(reason, OutputError) else job.source
        self.reporter.fail(path, reason if isinstance(reason, str) else reason_of(reason))

    @contextmanager
    def file(self, job: Job) -> Iterator[None]:
        """Count a file as done at the end of the block, or as failed."""
        try:
            yield
        except Exception as error:  # whatever it is, the other files go on
            self.fail(job, error)
        else:
            self.reporter.advance(1)

    @contextmanager
    def pieces(self, job: Job) -> Iterator[Progress]:
        """Count the pieces of a file instead of the file; on failure take them back."""
        found = done = 0.0

        def progress(images: int, parts: float) -> None:
            nonlocal found, done
            found, done = found + images, done + parts
            self.reporter.expect(images)
            self.reporter.advance(parts)

        self.reporter.expect(-1)
        try:
            yield progress
        except Exception as error:  # whatever it is, the other files go on
            self.reporter.expect(1 - found)
            self.reporter.advance(-done)
            self.fail(job, error)


def reason_of(error: Exception) -> str:
    """Return what is said of a file that failed."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, FileExistsError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
