"""Several masks, each of which begins at the mean of the completions before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from splic_ext.arrays.dtypes import decode, encode
from splic_ext.backends.base import Backend, CompletionInfo, Problem
from splic_ext.masks import bernoulli_masks
from splic_ext.options import SolverOptions

__all__ = ["average_of_masks", "is_warm", "solve"]

#: Entries of the images that are in work at the same time, at least one image for each thread.
CHUNK_ENTRIES = 1 << 22

Images = TypeVar("Images")


def is_warm(options: SolverOptions) -> bool:
    """Say whether a mask begins where those before it ended."""
    return options.warm_iterations is not None and options.n_masks > 1


def average_of_masks(
    images: Images,
    options: SolverOptions,
    draw: Callable[[int], Any],
    complete: Callable[[Any, Any, SolverOptions, int], Images],
    where: Callable[[Any, Any, Any], Any],
) -> Images:
    """Return the mean over the masks, whatever library the images are of.

    `draw` returns the mask of a stream. `complete` takes images, mask, options and the first of the
    passes that it makes.
    """
    alone = options.replace(n_masks=1, warm_iterations=None)
    later = alone.replace(
        alternate=False,
        start="image",
        first_delta=options.warm_delta,
        max_iterations=options.warm_iterations,
    )
    total: Any = complete(images, draw(0), alone, 0)
    mean = total
    for stream in range(1, options.n_masks):
        mask = draw(stream)
        result: Any = complete(where(mask, images, mean), mask, later, 0)
        if options.alternate:
            result = complete(where(mask, mean, result), ~mask, later, 1)
        total = total + result
        mean = total / (stream + 1)
    done: Images = mean
    return done


def solve(backend: Backend, problem: Problem) -> None:
    """Have the back end solve the problem, mask by mask where the options say so."""
    if not is_warm(problem.options):
        backend.solve(problem)
        return
    if problem.placement is not None:
        raise ValueError(
            "`warm_iterations` must be None for arrays on a CUDA device, got "
            f"{problem.options.warm_iterations}; pass an array of the CPU, which backend='cuda' "
            "takes too"
        )
    count, *sides = problem.source.shape
    step = max(problem.threads, CHUNK_ENTRIES // int(np.prod(sides)), 1)
    for start in range(0, count, step):
        _solve_part(backend, problem, slice(start, min(start + step, count)))


def _solve_part(backend: Backend, problem: Problem, part: slice) -> None:
    """Solve some of the images, in floating point from the first mask to the last."""
    options = problem.options
    wide = problem.dtype == "float64" or "float32" not in backend.info().precisions
    dtype: Any = np.float64 if wide else np.float32
    images = decode(problem.source[part], problem.dtype).astype(dtype)
    records = CompletionInfo.empty(len(images), problem.info.iterations.shape[1])

    def draw(stream: int) -> Any:
        drawn = bernoulli_masks(
            images.shape,
            anchor_fraction=options.anchor_fraction,
            seed=problem.seed,
            first_index=(problem.first_index + part.start) % 2**64,
            stream=stream,
            channels=options.channels,
        )
        return np.ascontiguousarray(np.broadcast_to(drawn, images.shape))

    def complete(batch: Any, mask: Any, how: SolverOptions, first: int) -> Any:
        passed = Problem.of(
            batch,
            dtype.__name__,
            how,
            problem.data_range,
            target=np.empty_like(batch),
            mask=mask,
            seed=problem.seed,
            first_index=problem.first_index,
            threads=problem.threads,
        )
        backend.solve(passed)
        passes = slice(first, first + passed.info.iterations.shape[1])
        for name in ("iterations", "residual", "delta"):
            known = getattr(records, name)[:, passes]
            np.maximum(known, getattr(passed.info, name), out=known)
        records.seconds[:] += passed.info.seconds
        return passed.target

    with np.errstate(over="ignore", invalid="ignore"):  # where it diverges
        mean = average_of_masks(images, options, draw, complete, np.where)
        encode(np.minimum(mean, problem.largest).astype(float), problem.target[part], problem.dtype)
    for name in ("iterations", "residual", "delta", "seconds"):
        getattr(problem.info, name)[part] = getattr(records, name)
