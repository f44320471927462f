"""One call of each back end beside its peers: the same images, masks, options and threads."""

from __future__ import annotations

import time

import pytest
from workloads import (
    BACKENDS,
    CASES,
    FULL,
    PEERS,
    QUICK,
    Case,
    check_answer,
    describe,
    find_case,
    images_and_masks,
    ratio,
    record,
    solver,
)


def measure(benchmark, case: Case, method: str, threads: int) -> None:
    """Time one method on one case, check its answer, record its rates."""
    solve = solver(case, method, threads)
    images, masks = images_and_masks(case, case.count(method))
    benchmark.group = f"{case}, {threads} thread{'s' if threads > 1 else ''}"
    benchmark.extra_info.update(describe(case, method, threads))
    solve(images[:threads], masks[:threads])  # warm up: libraries loaded, threads started
    rounds = 1 if QUICK else 5 if method == "cpu" else 3 if FULL or case.size < 224 else 2
    completed, iterations = benchmark.pedantic(solve, args=(images, masks), rounds=rounds)
    benchmark.extra_info.update(check_answer(case, method, completed))
    record(benchmark, len(images), iterations)


@pytest.mark.parametrize("method", BACKENDS + PEERS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_complete(benchmark, case: Case, method: str) -> None:
    measure(benchmark, case, method, threads=1)


# The NumPy back end takes the threads of its BLAS, which are pinned to one.
@pytest.mark.parametrize("method", ["cpu", *PEERS])
@pytest.mark.parametrize("case", [case for case in CASES if case.size == 32], ids=str)
def test_complete_two_threads(benchmark, case: Case, method: str) -> None:
    measure(benchmark, case, method, threads=2)


@pytest.mark.full
@pytest.mark.parametrize(
    "case", [find_case(32, 1), find_case(32, 3), find_case(224, 1), find_case(224, 3)], ids=str
)
def test_speedup(benchmark, case: Case) -> None:
    """Ratios on one core, each from neighbours in time: a peer, the next, the back end, again."""
    names = {
        "torch.linalg.svd": "torch_svd",
        "torch.linalg.eigh": "torch_eigh",
        "torch block iteration": "torch_block",
    }
    solve, peers = solver(case, "cpu"), {name: solver(case, name) for name in names}
    images, masks = images_and_masks(case, case.count("cpu"))
    few = case.count("torch.linalg.svd")
    pace: dict[str, list[float]] = {name: [] for name in peers}

    def time_peers() -> None:
        for name, peer in peers.items():
            start = time.perf_counter()
            completed, iterations = peer(images[:few], masks[:few])
            pace[name].append((time.perf_counter() - start) / iterations)
            check_answer(case, name, completed)

    benchmark.group = f"{case}, ratio to peers, 1 thread"
    benchmark.extra_info.update(describe(case, "cpu", threads=1))
    rounds = 1 if QUICK else 5 if case.size <= 64 else 3
    completed, iterations = benchmark.pedantic(
        solve, args=(images, masks), setup=time_peers, rounds=rounds, warmup_rounds=int(not QUICK)
    )
    benchmark.extra_info.update(check_answer(case, "cpu", completed))
    own = [seconds / iterations for seconds in record(benchmark, len(images), iterations)]
    for name, key in names.items() if own else ():
        benchmark.extra_info[f"speedup_over_{key}"] = ratio(pace[name], own)
