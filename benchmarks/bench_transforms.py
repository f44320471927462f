"""Completion in an input pipeline: what it takes beside `complete` on the same images.

Times are those of processors, not of the clock: of all processes of a loader together. So other
work on the machine, which the clock would count, hardly matters.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import pytest
from workloads import QUICK, check_answer, describe, find_case, load_images, record, require_backend

import splic_ext
from splic_ext.masks import bernoulli_masks
from splic_ext.transforms import Complete

pytestmark = pytest.mark.full

SIZES = (32, 64)
BATCH, BATCHES, WORKERS = 64, (2, 8), 2
#: A transform or a loader may take that much more than the calls of the solver alone.
MOST = 0.05


def _pairs(first: Callable[[], object], second: Callable[[], object], count: int) -> float:
    """Return how much more of the processor the second takes: a median over neighbours in time."""
    ratios = []
    for _ in range(count):
        spent = []
        for call in (first, second):
            began = time.process_time()
            call()
            spent.append(time.process_time() - began)
        ratios.append(spent[1] / spent[0])
    return median(ratios) - 1


@pytest.mark.parametrize("size", SIZES)
def test_transform(benchmark, size: int) -> None:
    case = find_case(size, 3)
    require_backend("cpu")
    images = load_images(case, case.checked_images)
    options, image = case.options, images[0]
    transform = Complete(options, seed=0, threads=1)

    def alone() -> Any:
        return splic_ext.complete(image, options=options, threads=1)

    def wrapped() -> Any:
        return transform(image, index=0)

    assert np.array_equal(alone(), wrapped())
    benchmark.group = "one image, one thread"
    benchmark.extra_info.update(describe(case, "cpu", 1))
    more = _pairs(alone, wrapped, 3 if QUICK else 41)
    benchmark.pedantic(wrapped, rounds=1 if QUICK else 9, warmup_rounds=int(not QUICK))
    answer = np.stack([transform(one, index=i) for i, one in enumerate(images)])
    benchmark.extra_info.update(check_answer(case, "cpu", answer), overhead=more)
    _, info = splic_ext.complete(image, options=options, return_info=True)
    record(benchmark, 1, int(info.iterations.sum()))
    assert QUICK or more < MOST, f"the transform takes {more:.1%} more than complete()"


def _spent() -> float:
    """Return the processor time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.mark.parametrize("size", SIZES)
def test_collate(benchmark, size: int) -> None:
    """With two workers; what their start takes cancels between a short and a long epoch."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from splic_ext.transforms import CompleteCollate

    case = find_case(size, 3)
    require_backend("cpu")
    count = 8 if QUICK else BATCH
    images = torch.from_numpy(load_images(case, count))
    options = case.options

    class Repeated(torch.utils.data.Dataset):
        """The same images in each batch."""

        def __init__(self, batches: int) -> None:
            self.batches = batches

        def __len__(self) -> int:
            return self.batches * count

        def __getitem__(self, index: int) -> Any:
            return images[index % count], index

    def epoch(batches: int) -> float:
        """Return the processor time of an epoch, that of its workers included."""
        loader = torch.utils.data.DataLoader(
            Repeated(batches),
            batch_size=count,
            num_workers=WORKERS,
            multiprocessing_context="fork",
            collate_fn=CompleteCollate(options),
        )
        began, rows = _spent(), 0
        for batch, _ in loader:
            rows += len(batch)
        del loader
        assert rows == batches * count
        return _spent() - began

    few, many = BATCHES

    def plain() -> float:
        began = _spent()
        for number in range(many - few):
            splic_ext.complete(images, options=options, seed=number, threads=1)
        return _spent() - began

    ratios = []

    def both() -> None:
        short, long, alone = epoch(few), epoch(many), plain()
        ratios.append((long - short) / alone)

    benchmark.group = f"batches, {WORKERS} workers"
    benchmark.extra_info.update(describe(case, "cpu", WORKERS))
    benchmark.pedantic(both, rounds=1 if QUICK else 5, warmup_rounds=int(not QUICK))
    more = median(ratios) - 1
    few_images = images[: case.checked_images].numpy()
    masks = bernoulli_masks(few_images.shape, channels=case.mode)
    answer, info = splic_ext.complete(few_images, masks, options=options, return_info=True)
    benchmark.extra_info.update(check_answer(case, "cpu", answer), overhead=more)
    share = info.iterations.sum() / len(few_images)
    record(benchmark, (few + many) * count, round(share * (few + many) * count))
    assert QUICK or more < MOST, f"the loader takes {more:.1%} more than complete()"
