"""One call on a GPU beside its peers there: images and masks on the device, which is waited for.

The CUDA back end on arrays of the CPU (copies included), on arrays of the GPU with the kernel that
it chooses, the general kernel and cuSOLVER; and the same algorithm on the GPU around the
decompositions of torch and CuPy. A call has as many images as it takes for a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import pytest
from workloads import (
    QUICK,
    Case,
    check_answer,
    describe,
    find_case,
    images_and_masks,
    load_images,
    of_dtype,
    record,
    require_backend,
)

import splic_ext
from splic_ext import SolverOptions

#: Images in a call, by side: where it starts, and at most.
COUNTS = {32: (64, 16384), 64: (16, 4096), 112: (4, 1024), 224: (1, 256)}
ENOUGH = 0.1  #: seconds that a call has to take
MOST_SECONDS = 0.8  #: for the repetitions of a call
KEYS = ((32, 1), (32, 3), (32, 3, "separate"), (64, 3), (112, 3), (224, 3))
CASES = [find_case(*key) for key in KEYS]
COLOUR = [case for case in CASES if case.channels == 3]
#: Images of CIFAR-10.
MANY = 60_000
HOST, ARRAYS, CUSOLVER = "cuda", "cuda, arrays on the GPU", "cuda, cuSOLVER"
#: Of rank 9 in place of 8, since the kernel of one warp a matrix has no such rank.
GENERAL, GENERAL_RANK = "cuda, general kernel", 9
NATIVE = (HOST, ARRAYS, GENERAL, CUSOLVER)
BLOCK = "torch block iteration on the GPU"
ONE_BY_ONE = ("torch.linalg.eigh on the GPU", "torch.linalg.svd on the GPU", "cupy.linalg.svd")


class Library(NamedTuple):
    """A library of arrays on a GPU: its name, to and from there, and how to wait for it."""

    name: str
    put: Callable[[np.ndarray], Any]
    get: Callable[[Any], np.ndarray]
    wait: Callable[[], None]


@cache
def library(name: str) -> Library | None:
    """Return torch or CuPy if it has a GPU."""
    if find_spec(name) is None:
        return None
    module = import_module(name)
    if name == "torch":
        if not module.cuda.is_available():
            return None
        return Library(
            name,
            lambda array: module.from_numpy(array).cuda(),
            lambda array: array.cpu().numpy(),
            module.cuda.synchronize,
        )
    wait = module.cuda.get_current_stream().synchronize
    return Library(name, module.asarray, lambda array: array.get(), wait)


def any_library() -> Library:
    """Return torch or else CuPy; skip the benchmark where neither has a GPU."""
    found = library("torch") or library("cupy")
    if found is None:
        pytest.skip("neither torch nor CuPy has arrays on a GPU here")
    return found


class Call(NamedTuple):
    """What to time, and then its completed images and the iterations of all its matrices."""

    solve: Callable[[], None]
    answer: Callable[[], tuple[np.ndarray, int]]


def native(
    options: SolverOptions, method: str, images: np.ndarray, masks: np.ndarray | None
) -> Call:
    """Prepare a call of the CUDA back end."""
    last: list[Any] = []
    matrices = images.shape[1] if options.channels == "separate" else 1

    def iterations() -> int:
        given = {"options": options, "backend": "cuda", "return_info": True}
        _, info = splic_ext.complete(images, masks, **given)
        return int(info.iterations.sum()) * matrices

    if method == HOST:

        def solve() -> None:
            last[:] = [splic_ext.complete(images, masks, options=options, backend="cuda")]

        return Call(solve, lambda: (last[0], iterations()))
    its = any_library()
    batch, anchors = its.put(images), None if masks is None else its.put(masks)

    def solve() -> None:
        last[:] = [splic_ext.complete(batch, anchors, options=options)]
        its.wait()

    return Call(solve, lambda: (its.get(last[0]), iterations()))


def peer(options: SolverOptions, method: str, images: np.ndarray, masks: np.ndarray) -> Call:
    """Prepare the same algorithm around a decomposition of torch or CuPy."""
    last: list[Any] = []
    name = "cupy" if method.startswith("cupy") else "torch"
    its = library(name)
    if its is None:
        pytest.skip(f"{name} has no GPU here")
    pytest.importorskip("torch")
    import peers

    arrays = its.put(images), its.put(masks)

    def solve() -> None:
        if name == "cupy":
            last[:] = peers.complete_arrays(import_module("cupy"), *arrays, options)
        else:
            decompose = peers.DECOMPOSITIONS[method.removesuffix(" on the GPU")]
            last[:] = peers.complete_tensors(decompose, *arrays, options)
        its.wait()

    return Call(solve, lambda: (its.get(last[0]), last[1]))


def options_of(case: Case, method: str, preset: str = "paper") -> SolverOptions:
    options = SolverOptions.preset(preset).replace(channels=case.mode)
    if QUICK:
        options = options.replace(max_iterations=2)
    if method == GENERAL:
        options = options.replace(rank=GENERAL_RANK)
    return options.replace(algorithm="cusolver" if method == CUSOLVER else "fused")


def measure(
    benchmark: Any, case: Case, method: str, preset: str = "paper", dtype: str = "float32"
) -> None:
    """Find the number of images, time a call of so many, and check its answer."""
    options = options_of(case, method, preset)
    count, most = (1, 1) if QUICK else COUNTS[case.size]
    while True:
        images, masks = images_and_masks(case, count)
        given = (
            options,
            method,
            of_dtype(images, dtype),
            masks if options.n_masks == 1 else None,
        )
        call = native(*given) if method in NATIVE else peer(*given)
        call.solve()  # warm up: kernels and libraries loaded, memory taken
        start = perf_counter()
        call.solve()
        seconds = perf_counter() - start
        if count >= most or seconds > ENOUGH:
            break
        count = min(4 * count, most)
    rounds = 1 if QUICK else max(1, min(5, int(MOST_SECONDS / seconds)))
    benchmark.group = f"{case}, on a GPU"
    benchmark.extra_info.update(describe(case, method, threads=1), preset=preset, dtype=dtype)
    benchmark.pedantic(call.solve, rounds=rounds)
    completed, iterations = call.answer()
    benchmark.extra_info.update(check_answer(case, method, completed, options, dtype))
    record(benchmark, len(images), iterations)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "float16"])
def test_cuda_many(benchmark, dtype: str) -> None:
    """As many images as CIFAR-10 has, from the CPU and back."""
    require_backend("cuda")
    case = find_case(32, 3)
    images, options = (
        of_dtype(load_images(case, 2 if QUICK else MANY), dtype),
        options_of(case, HOST),
    )
    benchmark.group = f"{case}, {MANY:,} images"
    benchmark.extra_info.update(
        describe(case, HOST, threads=1), batch=len(images), preset="paper", dtype=dtype
    )

    def solve() -> np.ndarray:
        return splic_ext.complete(images, options=options, backend="cuda")

    completed = benchmark.pedantic(solve, rounds=1 if QUICK else 3, warmup_rounds=1)
    benchmark.extra_info.update(check_answer(case, HOST, completed, options, dtype))
    benchmark.extra_info.update(bytes_in=images.nbytes, bytes_out=completed.nbytes)
    _, info = splic_ext.complete(images, options=options, backend="cuda", return_info=True)
    record(benchmark, len(images), int(info.iterations.sum()))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("method", [*NATIVE, BLOCK, *ONE_BY_ONE])
def test_cuda(benchmark, case: Case, method: str) -> None:
    require_backend("cuda")
    if method == GENERAL and case.size != 32:
        pytest.skip("the general kernel is the one that is chosen")
    measure(benchmark, case, method)


@pytest.mark.parametrize("case", COLOUR, ids=str)
@pytest.mark.parametrize("preset_dtype", ["recommended-float32", "paper-float16"])
@pytest.mark.parametrize("method", [ARRAYS, HOST])
def test_cuda_options(benchmark, case: Case, preset_dtype: str, method: str) -> None:
    """Other options and pixels than those of all benchmarks."""
    require_backend("cuda")
    measure(benchmark, case, method, *preset_dtype.split("-"))
