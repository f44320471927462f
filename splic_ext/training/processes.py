"""Several processes that share each batch, as ``torchrun`` starts them."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

__all__ = [
    "Processes",
    "is_first_process",
    "join_processes",
    "limited_threads",
    "local_device",
]

#: Longer than any process may have to wait for another, which may be defending a data set.
PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Processes:
    """One process among those that train together; number 0 writes the files.

    >>> Processes().part(3, 10), Processes(1, 2).part(3, 10)
    (slice(3, 10, None), slice(6, 10, None))
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def part(self, start: int, stop: int) -> slice:
        """Return this process's part of a range; sizes differ by one at most."""
        size = stop - start
        begin, end = (start + size * (self.rank + k) // self.count for k in (0, 1))
        return slice(begin, end)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            distributed.barrier()

    def add(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace tensors by their sums over the processes.

        One exchange for each dtype, of all its tensors in their order: what a sum is rounded to
        depends on nothing else, so that a training that was resumed comes to the same bits.
        """
        self._exchange(tensors, distributed.all_reduce)

    def spread(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace tensors by those of the first process."""
        self._exchange(tensors, lambda flat: distributed.broadcast(flat, 0))

    def _exchange(self, tensors: Iterable[torch.Tensor], exchange: Any) -> None:
        if self.count == 1:
            return
        kinds: dict[torch.dtype, list[torch.Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault(tensor.dtype, []).append(tensor.detach())
        for parts in kinds.values():
            flat: Any = torch.cat([part.reshape(-1) for part in parts])
            exchange(flat)
            for part, found in zip(parts, flat.split([p.numel() for p in parts]), strict=True):
                part.copy_(found.view_as(part))


def is_first_process() -> bool:
    """Say whether this process is the only one, or the first of those that torchrun started."""
    return int(os.environ.get("RANK", "0")) == 0


def local_device(device: Any) -> Any:
    """Return the device of this process: of several GPUs the one with its local rank."""
    if device is not None and str(device) == "cuda" and "LOCAL_RANK" in os.environ:
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return device


def join_processes(device: torch.device) -> Processes:
    """Return the processes of ``torchrun``, after joining them, or this one alone.

    They stay together for further trainings, until this process ends.
    """
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    if not (distributed.is_available() and distributed.is_initialized()):
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return Processes()
        both = torch.cuda.is_available() and distributed.is_nccl_available()
        distributed.init_process_group("cpu:gloo,cuda:nccl" if both else "gloo", timeout=PATIENCE)
        atexit.register(distributed.destroy_process_group)
    return Processes(distributed.get_rank(), distributed.get_world_size())


@contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Let torch and the solver use at most that many threads, for a while, in this process.

    None leaves all as it is; but each of several processes gets its share of the processors for
    the solver, as torchrun sees to it for torch.
    """
    before, name = torch.get_num_threads(), "SPLIC_NUM_THREADS"
    solver = os.environ.get(name)
    try:
        if threads is not None:
            torch.set_num_threads(threads)
            os.environ[name] = str(threads)
        elif solver is None and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
            share = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
            os.environ[name] = str(max(1, share // int(os.environ["LOCAL_WORLD_SIZE"])))
        yield
    finally:
        torch.set_num_threads(before)
        if solver is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = solver
