"""What loaders with workers are given: at module level, so that a spawned one can unpickle it."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path

import torch

from splic_ext import SolverOptions
from splic_ext.transforms.processes import threads_here

QUICK = SolverOptions(max_iterations=7)


class OneImage(torch.utils.data.Dataset):
    """The same image each time, with its number, through a transform."""

    def __init__(self, count, transform=None, shape=(3, 9, 8)):
        values = torch.Generator().manual_seed(0)
        self.image = torch.rand(shape, generator=values)
        self.count, self.transform = count, transform

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if not 0 <= index < self.count:
            raise IndexError(index)
        return (self.image if self.transform is None else self.transform(self.image)), index


class Threads(torch.utils.data.Dataset):
    """How many threads the solver is allowed where the sample is read."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return threads_here(None)


def tasks():
    """Return how many threads this process has."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def counted(collate, samples):
    """Return a batch, and how many threads it took at most beside those that were there."""
    collate(samples[:1])  # what is made in the first call is no part of it
    stop, before, found = threading.Event(), tasks(), []

    def watch():
        while not stop.is_set():
            found.append(tasks())
            time.sleep(1e-3)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        images, _ = collate(samples)
    finally:
        stop.set()
        watcher.join()
    return images, max(found) - before - 1, len(found)


def counting(collate):
    return partial(counted, collate)


def loader(dataset, start, workers=2, **options):
    context = start if workers else None
    return torch.utils.data.DataLoader(
        dataset, num_workers=workers, multiprocessing_context=context, **options
    )
