"""Completions whose targets begin at a mean: of the anchors around them, or of completions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from splic_ext.arrays.dtypes import decode, encode
from splic_ext.backends.base import Backend, CompletionInfo, Problem
from splic_ext.masks import bernoulli_masks
from splic_ext.options import SolverOptions

__all__ = ["complete_from_means", "solve"]

#: Entries of the images that are in work at the same time, at least one image for each thread.
CHUNK_ENTRIES = 1 << 22

Images = TypeVar("Images")


def complete_from_means(
    images: Images,
    options: SolverOptions,
    draw: Callable[[int], Any],
    complete: Callable[[Any, Any, SolverOptions, int], Any],
    where: Callable[[Any, Any, Any], Any],
) -> Images:
    """Return the mean over the masks of images (N, C, H, W), of NumPy or torch.

    `draw` returns the mask of a stream. `complete` makes one pass: of images, mask, options, and
    the number of the pass.
    """
    single = options.replace(n_masks=1, alternate=False, start="image")
    total: Any = None
    mean: Any = None
    for stream in range(options.n_masks):
        mask = draw(stream)
        result: Any = images
        for number, anchors in enumerate((mask, ~mask) if options.alternate else (mask,)):
            if stream == 0:
                begin = _around(result, anchors, options, where)
            else:
                begin = where(anchors, result, mean)
            result = complete(begin, anchors, single, number)
        total = result if total is None else total + result
        mean = total / (stream + 1)
    done: Images = mean
    return done


def _around(images: Any, anchors: Any, options: SolverOptions, where: Any) -> Any:
    """Return images whose targets are the mean of the anchors around them, closer ones more.

    Where there is none, it is that of all anchors of the channel, then of the matrix. What has no
    anchor at all stays.
    """
    seen, weight = where(anchors, images, 0), 1.0 * anchors
    # Along one axis after the other: threads and places in memory change no bit.
    sums, counts = (each.sum(3).sum(2)[..., None, None] for each in (seen, weight))
    far = images
    if options.channels == "stacked":
        far = where(_any(counts), sums.sum(1)[:, None] / _divisor(counts, where), far)
    far = where(counts > 0, sums / where(counts > 0, counts, 1), far)
    near, close = _blurred(seen), _blurred(weight)
    return where(anchors, images, where(close > 0, near / where(close > 0, close, 1), far))


def _any(counts: Any) -> Any:
    return counts.sum(1)[:, None] > 0


def _divisor(counts: Any, where: Any) -> Any:
    return where(_any(counts), counts.sum(1)[:, None], 1)


def _blurred(images: Any) -> Any:
    """Return images (N, C, H, W) times 1, 2, 1 along both axes."""
    rows = 2 * images
    rows[:, :, 1:] += images[:, :, :-1]
    rows[:, :, :-1] += images[:, :, 1:]
    both = 2 * rows
    both[..., 1:] += rows[..., :-1]
    both[..., :-1] += rows[..., 1:]
    return both


def solve(backend: Backend, problem: Problem) -> None:
    """Have the back end solve the problem, pass by pass where the targets begin at a mean."""
    if problem.options.start != "mean":
        backend.solve(problem)
        return
    if problem.placement is not None:
        raise ValueError(
            '`start` must be "zero" or "image" for arrays on a CUDA device, got "mean"; pass an '
            'array of the CPU, which backend="cuda" takes too'
        )
    count, *sides = problem.source.shape
    step = max(problem.threads, CHUNK_ENTRIES // int(np.prod(sides)), 1)
    for start in range(0, count, step):
        _solve_part(backend, problem, slice(start, min(start + step, count)))


def _solve_part(backend: Backend, problem: Problem, part: slice) -> None:
    """Solve some of the images, in floating point from the first pass to the last."""
    options = problem.options
    wide = problem.dtype == "float64" or "float32" not in backend.info().precisions
    dtype: Any = np.float64 if wide else np.float32
    with np.errstate(invalid="ignore"):  # signalling NaN where the mask hides
        images = decode(problem.source[part], problem.dtype).astype(dtype, order="C")
    records = CompletionInfo.empty(len(images), problem.info.iterations.shape[1])

    def draw(stream: int) -> Any:
        if problem.mask is not None:
            return np.asarray(problem.mask[part])
        drawn = bernoulli_masks(
            images.shape,
            anchor_fraction=options.anchor_fraction,
            seed=problem.seed,
            first_index=(problem.first_index + part.start) % 2**64,
            stream=stream,
            channels=options.channels,
        )
        return np.broadcast_to(drawn, images.shape)

    def complete(batch: Any, mask: Any, how: SolverOptions, number: int) -> Any:
        passed = Problem.of(
            np.ascontiguousarray(batch, dtype),
            dtype.__name__,
            how,
            problem.data_range,
            target=np.empty(images.shape, dtype),
            mask=mask,
            seed=problem.seed,
            first_index=problem.first_index,
            threads=problem.threads,
        )
        backend.solve(passed)
        for name in ("iterations", "residual", "delta"):
            known = getattr(records, name)[:, number : number + 1]
            np.maximum(known, getattr(passed.info, name), out=known)
        records.seconds[:] += passed.info.seconds
        return passed.target

    with np.errstate(over="ignore", invalid="ignore"):  # where it diverges
        mean = complete_from_means(images, options, draw, complete, np.where)
        mean = np.minimum(mean, problem.largest).astype(np.float64)
        encode(mean, problem.target[part], problem.dtype)
    for name in ("iterations", "residual", "delta", "seconds"):
        getattr(problem.info, name)[part] = getattr(records, name)
