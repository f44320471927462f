"""Where the time of a computation goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["Clock"]


class Clock:
    """Measures phases; the rest is what is left of the time since it was made.

    Parameters
    ----------
    device : torch.device
        Waited for at both ends of a phase.

    Examples
    --------
    >>> clock = Clock(torch.device("cpu"))
    >>> with clock.phase("network"):
    ...     time.sleep(0.01)
    >>> clock.phases["network"] >= 0.01, clock.rest < 0.01
    (True, True)
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._began = time.perf_counter()
        self.phases: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the block to a phase."""
        self._wait()
        began = time.perf_counter()
        yield
        self._wait()
        self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - began

    @property
    def rest(self) -> float:
        """Seconds that belong to no phase."""
        return time.perf_counter() - self._began - sum(self.phases.values())

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
