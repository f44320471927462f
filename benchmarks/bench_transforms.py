"""Completion in an input pipeline: what is added to `complete` on the same images.

What a transform or a loader adds is a small part of the time of the solver, and would drown in the
noise of a difference. So it is measured with the solver left out: its function hands the images
back. Times are those of processors, of all processes of a loader together, which other work on the
machine hardly changes.
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
from splic_ext.transforms import Complete, batch, image

pytestmark = pytest.mark.full

SIZES = (32, 64)
BATCH, BATCHES, WORKERS = 128, (4, 40), 2
#: A transform or a loader may add that much to the calls of the solver.
MOST = 0.05


def _median(call: Callable[[], object], count: int) -> float:
    """Return the median of the processor time of a call."""
    spent = []
    for _ in range(1 if QUICK else count):
        began = time.process_time()
        call()
        spent.append(time.process_time() - began)
    return median(spent)


def _handed_back(images: Any, **options: Any) -> Any:
    return images


@pytest.mark.parametrize("size", SIZES)
def test_transform(benchmark, monkeypatch, size: int) -> None:
    case = find_case(size, 3)
    require_backend("cpu")
    images = load_images(case, case.checked_images)
    transform = Complete(case.options, seed=0, threads=1)
    answer = np.stack([transform(one, index=i) for i, one in enumerate(images)])
    benchmark.group = "one image, one thread"
    benchmark.extra_info.update(describe(case, "cpu", 1), **check_answer(case, "cpu", answer))

    def wrapped() -> Any:
        return transform(images[0], index=0)

    benchmark.pedantic(wrapped, rounds=1 if QUICK else 9, warmup_rounds=int(not QUICK))
    options = {"options": case.options, "threads": 1}
    alone = _median(lambda: splic_ext.complete(images[0], **options), 9)
    _, info = splic_ext.complete(images[0], return_info=True, **options)
    record(benchmark, 1, int(info.iterations.sum()))
    monkeypatch.setattr(image, "complete", _handed_back)
    added = _median(wrapped, 1001) / alone
    benchmark.extra_info["overhead"] = added
    assert QUICK or added < MOST, f"the transform adds {added:.1%} to complete()"


def _spent() -> float:
    """Return the processor time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.mark.parametrize("size", SIZES)
def test_collate(benchmark, monkeypatch, size: int) -> None:
    """With two workers; what their start takes cancels between a short and a long epoch."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from splic_ext.transforms import CompleteCollate

    case = find_case(size, 3)
    require_backend("cpu")
    count = 8 if QUICK else BATCH
    images = torch.from_numpy(load_images(case, count))
    collate = CompleteCollate(case.options, threads=1)
    monkeypatch.setattr(batch, "fresh_seed", lambda: 0)
    answer = collate(list(images[: case.checked_images])).numpy()
    benchmark.group = f"batches, {WORKERS} workers"
    benchmark.extra_info.update(describe(case, "cpu", WORKERS), **check_answer(case, "cpu", answer))

    def epoch(batches: int) -> float:
        """Return the processor time of an epoch, that of its workers included."""
        data = torch.utils.data.TensorDataset(images)
        loader = torch.utils.data.DataLoader(
            data,
            count,
            sampler=list(range(count)) * batches,
            num_workers=WORKERS,
            multiprocessing_context="fork",
            collate_fn=collate,
        )
        began = _spent()
        assert sum(len(found) for (found,) in loader) == batches * count
        del loader
        return _spent() - began

    few, many = BATCHES
    benchmark.pedantic(lambda: epoch(few), rounds=1 if QUICK else 3)
    options = {"options": case.options, "threads": 1}
    alone = _median(lambda: splic_ext.complete(images, **options), 3)
    _, info = splic_ext.complete(images, return_info=True, **options)
    record(benchmark, few * count, few * int(info.iterations.sum()))
    monkeypatch.setattr(batch, "complete", _handed_back)
    rounds = 1 if QUICK else 5
    added = median((epoch(many) - epoch(few)) / (many - few) for _ in range(rounds)) / alone
    benchmark.extra_info["overhead"] = added
    assert QUICK or added < MOST, f"the loader adds {added:.1%} to complete()"
