"""What a process is told that works for a training: its threads, and numbers of its own."""

from __future__ import annotations

import multiprocessing
import secrets
import sys

from splic_ext.completion import default_threads

__all__ = ["fresh_seed", "threads_here"]


def threads_here(threads: int | None) -> int:
    """Return how many threads the solver may use in this process.

    Those that were asked for; without such a wish one in a process that `multiprocessing` has
    started, as the workers of a ``DataLoader`` are, and else those of
    :func:`splic_ext.completion.default_threads`.
    """
    if threads is not None:
        return threads
    return default_threads() if multiprocessing.parent_process() is None else 1


def fresh_seed() -> int:
    """Return a seed that was not there before.

    From torch's default CPU generator where torch was imported: it has a state of its own in each
    worker and epoch of a ``DataLoader``. Else from the system, so that no fork repeats it.
    """
    torch = sys.modules.get("torch")
    return secrets.randbits(63) if torch is None else int(torch.randint(2**63 - 1, ()))
