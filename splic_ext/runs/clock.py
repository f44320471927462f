"""Where the time of a computation goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["Clock"]


class Clock:
    """Measures phases; the rest is what is left of the time since it was made.

    The time of a phase within another counts for the inner one alone.

    Parameters
    ----------
    device : torch.device
        Waited for at both ends of a phase.

    Attributes
    ----------
    phases : dict
        Name -> seconds so far, without those of an open phase.
    open : list of str
        Phases that are open, the innermost last.

    Examples
    --------
    >>> clock = Clock(torch.device("cpu"))
    >>> with clock.phase("attack"), clock.phase("defense"):
    ...     time.sleep(0.01)
    >>> clock.phases["defense"] >= 0.01, clock.phases["attack"] + clock.rest < 0.01
    (True, True)
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._began = self._since = time.perf_counter()
        self.open: list[str] = []
        self.phases: dict[str, float] = {}

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
