"""Where the time of a computation goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import Any, TypeVar

import torch

__all__ = ["Clock", "Spent"]

Kind = TypeVar("Kind", bound="Spent")


class Clock:
    """Measures phases; the rest is what is left of the time since it was made.

    The time of a phase within another counts for the inner one alone. The device is waited for at
    both ends of a phase.

    >>> clock = Clock(torch.device("cpu"))
    >>> with clock.phase("attack"), clock.phase("defense"):
    ...     time.sleep(0.01)
    >>> clock.phases["defense"] >= 0.01, clock.phases["attack"] + clock.rest < 0.01
    (True, True)
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._began = self._since = time.perf_counter()
        self.open: list[str] = []  # the innermost phase last
        self.phases: dict[str, float] = {}  # without the time of an open one

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the block to a phase."""
        self._credit()
        self.open.append(name)
        try:
            yield
        finally:
            self._credit()
            self.open.pop()

    @property
    def total(self) -> float:
        """Seconds since it was made."""
        return time.perf_counter() - self._began

    @property
    def rest(self) -> float:
        """Seconds that belong to no phase."""
        return self.total - sum(self.phases.values())

    def _credit(self) -> None:
        """Add the time since the last change of phase to the phase that ends or is interrupted."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        if self.open:
            name = self.open[-1]
            self.phases[name] = self.phases.get(name, 0.0) + now - self._since
        self._since = now


@dataclass(frozen=True)
class Spent:
    """Seconds by phase: a subclass has a field for each phase, and one for the rest."""

    @classmethod
    def of(cls: type[Kind], clock: Clock) -> Kind:
        """Return what a clock has measured so far."""
        values: dict[str, Any] = {**clock.phases, "rest": clock.rest}
        return cls(**values)

    @property
    def total(self) -> float:
        """All of it."""
        return reduce(add, (getattr(self, part.name) for part in fields(self)), 0.0)

    def __add__(self: Kind, other: Kind) -> Kind:
        return type(self)(
            *(getattr(self, part.name) + getattr(other, part.name) for part in fields(self))
        )
