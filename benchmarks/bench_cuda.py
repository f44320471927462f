"""One call on a GPU beside its peers there: images and masks on the device, which is waited for.

The CUDA back end on arrays of the CPU (copies included), on tensors of the GPU with the fused
kernel and with cuSOLVER; and the same algorithm on the GPU around the decompositions of torch and
CuPy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    record,
    require_backend,
)

import splic_ext

#: Images in a call, and in one of the peers that decompose one matrix at a time.
COUNTS = {(32, 1): (8192, 64), (32, 3): (4096, 16), (64, 3): (1024, 4), (224, 3): (64, 1)}
CASES = [find_case(*key) for key in COUNTS]
#: Images of CIFAR-10.
MANY = 60_000
NATIVE = ("cuda", "cuda, arrays on the GPU", "cuda, cuSOLVER")
BLOCK = "torch block iteration on the GPU"
ONE_BY_ONE = ("torch.linalg.eigh on the GPU", "torch.linalg.svd on the GPU", "cupy.linalg.svd")

#: A call: (completed images on the CPU, iterations summed over the matrices) after the last one.
Call = tuple[Callable[[], Any], Callable[[], tuple[np.ndarray, int]]]


def prepare(case: Case, method: str, images: np.ndarray, masks: np.ndarray) -> Call:
    """Put the arrays where the method wants them; return what to time, and its answer."""
    options = case.options.replace(algorithm="cusolver" if "cuSOLVER" in method else "fused")
    last: list[Any] = []

    def iterations() -> int:
        _, info = splic_ext.complete(
            images, masks, options=options, backend="cuda", return_info=True
        )
        return int(info.iterations.sum()) * case.matrices_per_image

    if method == "cuda":

        def solve() -> None:
            last[:] = [splic_ext.complete(images, masks, options=options, backend="cuda")]

        return solve, lambda: (last[0], iterations())
    if method == "cupy.linalg.svd":
        cupy = pytest.importorskip("cupy")
        import peers

        arrays = cupy.asarray(images), cupy.asarray(masks)

        def solve() -> None:
            last[:] = peers.complete_arrays(cupy, *arrays, options)
            cupy.cuda.get_current_stream().synchronize()

        return solve, lambda: (last[0].get(), last[1])
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch has no CUDA device")
    batch, anchors = torch.from_numpy(images).cuda(), torch.from_numpy(masks).cuda()
    if method in NATIVE:

        def solve() -> None:
            last[:] = [splic_ext.complete(batch, anchors, options=options)]
            torch.cuda.synchronize()

        return solve, lambda: (last[0].cpu().numpy(), iterations())
    import peers

    decompose = peers.DECOMPOSITIONS[method.removesuffix(" on the GPU")]

    def solve() -> None:
        last[:] = peers.complete_tensors(decompose, batch, anchors, options)
        torch.cuda.synchronize()

    return solve, lambda: (last[0].cpu().numpy(), last[1])


def test_cuda_many(benchmark) -> None:
    """As many images as CIFAR-10 has, from the CPU and back."""
    require_backend("cuda")
    case = find_case(32, 3)
    images = load_images(case, 64 if QUICK else MANY)
    benchmark.group = f"{case}, {MANY:,} images"
    benchmark.extra_info.update(describe(case, "cuda", threads=1), batch=len(images))

    def solve() -> np.ndarray:
        return splic_ext.complete(images, options=case.options, backend="cuda")

    completed = benchmark.pedantic(solve, rounds=1 if QUICK else 5, warmup_rounds=1)
    benchmark.extra_info.update(check_answer(case, "cuda", completed))
    _, info = splic_ext.complete(images, options=case.options, backend="cuda", return_info=True)
    record(benchmark, len(images), int(info.iterations.sum()))


@pytest.mark.parametrize("method", [*NATIVE, BLOCK, *ONE_BY_ONE])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_cuda(benchmark, case: Case, method: str) -> None:
    require_backend("cuda")
    count = COUNTS[case.size, case.channels][method in ONE_BY_ONE]
    images, masks = images_and_masks(case, min(count, 2) if QUICK else count)
    solve, answer = prepare(case, method, images, masks)
    benchmark.group = f"{case}, on a GPU"
    benchmark.extra_info.update(describe(case, method, threads=1))
    solve()  # warm up: kernels and libraries loaded, memory taken
    benchmark.pedantic(solve, rounds=1 if QUICK else 5 if method in NATIVE else 2)
    completed, iterations = answer()
    benchmark.extra_info.update(check_answer(case, method, completed))
    record(benchmark, len(images), iterations)
