"""The gradient of a completion, beside the completion alone and beside unrolled torch."""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import pytest
from workloads import (
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

pytestmark = pytest.mark.full

CASES = (find_case(32, 1), find_case(32, 3), find_case(224, 3))


@pytest.mark.parametrize("gradient", ["exact", "surrogate"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient(benchmark, case: Case, gradient: str) -> None:
    """Forward and backward, in units of neighbouring calls of forward alone."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from splic_ext.autograd import complete_differentiable

    images, masks = images_and_masks(case, case.count("cpu"))
    cotangent = torch.from_numpy(
        np.random.default_rng(0).standard_normal(images.shape).astype(images.dtype)
    )

    def differentiate(backend: str, dtype: torch.dtype, count: int) -> torch.Tensor:
        leaf = torch.from_numpy(images[:count]).to(dtype).requires_grad_()
        complete_differentiable(
            leaf,
            torch.from_numpy(masks[:count]),
            options=case.options,
            gradient=gradient,
            backend=backend,
            threads=1,
        ).backward(cotangent[:count].to(dtype))
        return leaf.grad

    forward = solver(case, "cpu", threads=1)
    few = 1 if case.size > 64 else 2
    forward_seconds: list[float] = []
    torch_seconds: list[float] = []

    def time_others() -> None:
        start = time.perf_counter()
        forward(images, masks)
        forward_seconds.append(time.perf_counter() - start)

    benchmark.group = f"{case}, gradient, 1 thread"
    benchmark.extra_info.update(describe(case, "cpu", threads=1))
    found = benchmark.pedantic(
        differentiate,
        args=("cpu", torch.float32, len(images)),
        setup=time_others,
        rounds=1 if QUICK else 7,
        warmup_rounds=int(not QUICK),
    )
    completed, iterations = forward(images, masks)
    benchmark.extra_info.update(check_answer(case, "cpu", completed))
    if case.size <= 64:
        for _ in range(1 if QUICK else 2):
            start = time.perf_counter()
            expected = differentiate("torch", torch.float64, few)
            torch_seconds.append(time.perf_counter() - start)
        error = (found[:few] - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
        # A singular value next to the cut makes single images sensitive to rounding.
        assert error.min() < 1e-3
        benchmark.extra_info["gradient_error"] = error.median().item()
    own = record(benchmark, len(images), iterations)
    if own:
        benchmark.extra_info["over_forward"] = 1 / ratio(forward_seconds, own)
    if own and torch_seconds:
        per_image = min(torch_seconds) / few
        benchmark.extra_info["speedup_over_torch"] = per_image / (median(own) / len(images))
