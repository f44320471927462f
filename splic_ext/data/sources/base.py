"""What every reader of samples is: a stream of images with labels, and a list of what it left."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.common.checks import printable, shortened

__all__ = ["MOST_CLASSES", "MOST_UNREAD", "Sample", "Source", "Unread", "checked_label"]

#: A label is below; a damaged file may hold any integer, and each class takes an output.
MOST_CLASSES = 2**20

#: So many files of a data set may be left out; more are no accident.
MOST_UNREAD = 10_000


@dataclass(frozen=True)
class Sample:
    """An image with its label, as a reader yields it.

    Attributes
    ----------
    key : str
        Where it is in the data set: the path below a folder, the name in an archive, the row.
    image : bytes or ndarray of shape (C, H, W), uint8
        An image file, or its pixels.
    label : int
        Index of its class.
    """

    key: str
    image: bytes | npt.NDArray[np.uint8]
    label: int


@dataclass(frozen=True)
class Unread:
    """A file or sample that was left out.

    Attributes
    ----------
    key : str
        As of :class:`Sample`.
    reason : str
        Why it cannot be read.
    """

    key: str
    reason: str

    def told(self, unit: str = "the file ") -> str:
        """Return both for a message."""
        return f"{unit}'{shortened(printable(self.key), 120)}' ({self.reason})"


class Source(ABC):
    """A data set that is read sample by sample, in memory that does not grow with it.

    It can be read several times, and by one iterator at a time.

    Attributes
    ----------
    place : Path
        Where it is.
    name : str
        Of the data set, with its split where the place has several.
    classes : tuple of str or None
        Names of the classes. None: labels are numbers, and how many is not known before the end.
    count : int or None
        Samples, those that cannot be read included. None: not known before the end.
    unread : list of Unread
        What the last reading left out.
    """

    unit = "the file "  # before the key of a sample, in messages

    def __init__(
        self, place: Path, name: str, classes: tuple[str, ...] | None, count: int | None
    ) -> None:
        self.place, self.name, self.classes, self.count = place, name, classes, count
        self.unread: list[Unread] = []
        self._notes: dict[str, tuple[int, str]] = {}

    def __len__(self) -> int:
        if self.count is None:
            raise TypeError(
                f"the length of '{self.place}' is not known before it is read; "
                "count its samples while you read them"
            )
        return self.count

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Sample]:
        self.unread.clear()
        self._notes.clear()
        return self._samples()

    @abstractmethod
    def _samples(self) -> Iterator[Sample]:
        """Yield the samples in an order that is always the same."""

    @property
    def notes(self) -> list[str]:
        """What else the last reading met, in words: each kind once, with an example."""
        return [
            f"{what}: {count} in '{self.place}', such as {self.unit}'{example}'"
            for what, (count, example) in self._notes.items()
        ]

    def leave_out(self, key: str, reason: str) -> None:
        """Put a sample on the list of those that cannot be read."""
        if len(self.unread) >= MOST_UNREAD:
            raise ValueError(
                f"more than {MOST_UNREAD:,} files of '{self.place}' cannot be read, the first is "
                f"{self.unread[0].told(self.unit)}; mend or remove them"
            )
        self.unread.append(Unread(key, shortened(printable(reason), 200)))

    def note(self, what: str, key: str) -> None:
        """Count something that is no fault, but should be told."""
        count, example = self._notes.get(what, (0, shortened(printable(key), 120)))
        self._notes[what] = count + 1, example


def checked_label(label: Any, classes: int | None) -> int:
    """Return a label that a file holds, or raise a ValueError that says what it is."""
    if isinstance(label, bool) or not isinstance(label, int):
        raise ValueError(f"its label is no integer but {shortened(repr(label))}")
    most = MOST_CLASSES if classes is None else classes
    if not 0 <= label < most:
        raise ValueError(f"its label {shortened(str(label))} is outside [0, {most - 1}]")
    return label
