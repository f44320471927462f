"""The public entry: check a batch, choose a back end, complete."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any, Literal, TypeVar, overload

import numpy as np

from splic_ext.arrays.dtypes import DTYPES, default_data_range, nearest_range
from splic_ext.arrays.memory import Memory
from splic_ext.arrays.views import ArrayView, channel_first, looks_channel_last, view_array
from splic_ext.backends import get_backend
from splic_ext.backends.base import CompletionInfo, Problem
from splic_ext.common.checks import check_integer, check_number
from splic_ext.completion.means import solve
from splic_ext.completion.validate import (
    check_converged,
    check_mask,
    check_out,
    check_sides,
    check_single,
    check_values,
    unrepeated,
)
from splic_ext.options import SolverOptions

__all__ = ["complete", "default_threads"]

T = TypeVar("T")

#: Largest number of threads that may be asked for; no more are started than there is work for.
MAX_THREADS = 2**31 - 1


@overload
def complete(
    batch: T,
    mask: Any = None,
    *,
    options: SolverOptions | str | None = None,
    seed: int = 0,
    first_index: int = 0,
    backend: str = "auto",
    threads: int | None = None,
    channel_axis: int = -3,
    data_range: float | None = None,
    out: T | None = None,
    return_info: Literal[False] = False,
) -> T: ...


@overload
def complete(
    batch: T,
    mask: Any = None,
    *,
    options: SolverOptions | str | None = None,
    seed: int = 0,
    first_index: int = 0,
    backend: str = "auto",
    threads: int | None = None,
    channel_axis: int = -3,
    data_range: float | None = None,
    out: T | None = None,
    return_info: Literal[True],
) -> tuple[T, CompletionInfo]: ...


@overload
def complete(
    batch: T,
    mask: Any = None,
    *,
    options: SolverOptions | str | None = None,
    seed: int = 0,
    first_index: int = 0,
    backend: str = "auto",
    threads: int | None = None,
    channel_axis: int = -3,
    data_range: float | None = None,
    out: T | None = None,
    return_info: bool,
) -> T | tuple[T, CompletionInfo]: ...


def complete(
    batch: Any,
    mask: Any = None,
    *,
    options: SolverOptions | str | None = None,
    seed: int = 0,
    first_index: int = 0,
    backend: str = "auto",
    threads: int | None = None,
    channel_axis: int = -3,
    data_range: float | None = None,
    out: Any = None,
    return_info: bool = False,
) -> Any:
    r"""Remove texture and adversarial noise from images by low-rank completion (SPLIC).

    Keeps a random half of the pixels, the anchors :math:`A = M \odot X`, and re-estimates the
    others by descending on a smoothed rank and a total-variation term,

    .. math:: \min_{\hat X} \; F_\delta(\hat X) + \lambda \, C(\hat X)
              \quad \text{with} \quad M \odot \hat X = A,

    then does the same with the halves swapped ([1]_, eqs. (5) to (10), Algorithm 1).

    Parameters
    ----------
    batch : array of shape (H, W), (C, H, W) or (N, C, H, W)
        Images in [0, `data_range`]: a NumPy array, a torch tensor, a CuPy array or another DLPack
        array, on the CPU or a CUDA device, of uint8, float16, bfloat16, float32 or float64, in any
        memory layout. H and W from 1 to 512. Never changed, unless it is `out` too.
    mask : bool array, optional
        True = anchor pixel, kept; False = target pixel, re-estimated. Shape (H, W) for all
        images, or that of `batch` with C or 1 channels. Default: drawn from `seed` and the index
        of the image, see :func:`splic_ext.masks.bernoulli_masks`. A matrix without one anchor is
        left as it is in that pass, or gets the `empty_value` of the options. With
        ``alternate=False`` and ``start="zero"`` a given mask hides its targets: they may hold
        anything, NaN too, and no bit of the result depends on them, but in a matrix that is left
        as it is.
    options : SolverOptions or str, optional
        Options of the solver, or the name of a preset: ``"paper"`` (the default),
        ``"recommended"``, or for large images ``"photo"``.
    seed : int, default 0
        Of the masks, in [0, 2**64).
    first_index : int, default 0
        Image i of the batch draws the mask of index ``first_index + i``: a data set may be split
        into batches in any way.
    backend : {"auto", "cpu", "numpy", "cuda"}, default "auto"
        ``"auto"`` takes the fastest one for the device of `batch`. Native back ends compute in
        float64 for float64 images and in float32 for others; ``"numpy"`` always in float64.
        ``"cuda"`` takes arrays of the CPU too, which go to the first GPU and come back.
    threads : int, optional
        Most threads of the native CPU back end; default: the environment variable
        ``SPLIC_NUM_THREADS``, else the processors this process may use. Results do not depend
        on it.
    channel_axis : int, default -3
        -1 for channel-last images, (H, W, C) or (N, H, W, C).
    data_range : float, optional
        Largest value of the data, the result is clipped to it; default 255 for uint8, else 1. An
        excess of up to four roundings (of float16, one) is clipped before.
    out : array, optional
        Where to store the result: container, dtype, shape and device of `batch`. May be `batch`.
    return_info : bool, default False
        Also return iterations, residuals, deltas and seconds of each image.

    Returns
    -------
    completed : array
        Container, device, dtype, shape and layout of `batch`.
    info : CompletionInfo
        Only with ``return_info=True``. NumPy arrays: `iterations`, `residual` and `delta` of shape
        (N, P) for N images and P passes (2, or 1 with ``alternate=False``), `seconds` of shape
        (N,). N is 1 for a single image.

    Raises
    ------
    TypeError
        A container, dtype or parameter of the wrong kind.
    ValueError
        NaN, infinity or values out of range (says which image) where they are not hidden (see
        `mask`), or a parameter out of range.
    ShapeError
        A `ValueError`: wrong shape of `batch`, `mask` or `out`.
    ArithmeticError
        The iteration diverged: too large a step or weight. What `out` holds is then undefined.
    BackendUnavailableError
        The back end asked for, by name or by the device of `batch`, cannot run here.
    KeyboardInterrupt
        Ctrl-C, or what another signal handler raises, within 0.2 s on the back ends ``"cpu"`` and
        ``"numpy"``. What `out` holds is then undefined.

    Warns
    -----
    UserWarning
        `batch` looks channel last, but `channel_axis` is not -1.

    Notes
    -----
    *On a CUDA device* the work is put on the current stream of torch or CuPy, and the call returns
    before it is done. With ``return_info=True`` alone it waits for the device, and only then are
    wrong values and divergence errors: otherwise such an image comes out as NaN (0 in uint8). It
    also waits where `mask` is of another library than `batch`.

    *Thread safety*: safe to call from several threads; the native back end releases the GIL.
    The result of an image depends on the image, the mask (or seed and index), the options, the
    back end and its instruction set: not on the batch around it nor on the threads.

    References
    ----------
    .. [1] Z. Zhao, H. Wang, H. Sun, Z. He, "Structure-Preserving Progressive Low-rank Image
       Completion for Defending Adversarial Attacks", arXiv:2103.02781, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> import splic_ext
    >>> batch = np.full((2, 3, 32, 32), 0.5, dtype=np.float32)
    >>> completed = splic_ext.complete(batch)
    >>> completed.shape, completed.dtype
    ((2, 3, 32, 32), dtype('float32'))
    >>> bool(np.abs(completed - 0.5).max() < 0.005)
    True
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.compiler.is_dynamo_compiling():  # leave it out of the graph
        return torch.compiler.disable(complete)(
            batch,
            mask,
            options=options,
            seed=seed,
            first_index=first_index,
            backend=backend,
            threads=threads,
            channel_axis=channel_axis,
            data_range=data_range,
            out=out,
            return_info=return_info,
        )
    source = view_array("batch", batch)
    if source.dtype not in DTYPES:
        raise TypeError(
            f"`batch` must be of {', '.join(DTYPES)}, got {source.dtype}; convert it, for example "
            "to float32 in [0, 1]"
        )
    solver_options = resolve_options(options)
    seed = check_integer("seed", seed, 0, 2**64 - 1)
    first_index = check_integer("first_index", first_index, 0, 2**64 - 1)
    threads = (
        default_threads() if threads is None else check_integer("threads", threads, 1, MAX_THREADS)
    )
    if data_range is None:
        data_range = default_data_range(source.dtype)
    data_range = check_number("data_range", data_range, 0.0, above=True)
    data_range = nearest_range(data_range, source.dtype)
    chosen = get_backend(backend, source.device)
    known = chosen.info().algorithms
    if solver_options.algorithm not in known:
        raise ValueError(
            f"`algorithm` must be {' or '.join(map(repr, known))} for the back end "
            f"{chosen.name!r}, got {solver_options.algorithm!r}; use 'auto', or another `backend`"
        )

    images = channel_first("batch", source.memory(), channel_axis)
    if looks_channel_last(source.shape, channel_axis):
        warnings.warn(
            f"`batch` of shape {source.shape} looks channel last; pass channel_axis=-1",
            stacklevel=2,
        )
    count = images.shape[0]
    result = source.empty_like() if out is None else check_out(out, source)
    given = None if mask is None else check_mask(mask, source, images, channel_axis)
    if given is not None:
        check_single(solver_options)
    info = CompletionInfo.empty(count, 2 if solver_options.alternate else 1)
    if count > 0:
        check_sides(images.shape, source.shape)
        placement = source.placement(return_info)
        read = images.exported()
        target = channel_first("out", result.memory(), channel_axis)
        anchors = None if given is None else _spread(given, source, images, channel_axis)
        excess = placement is None and check_values(
            read,
            source.dtype,
            data_range,
            None if anchors is None else anchors.exported(),
            solver_options,
        )
        if out is not None:
            result.will_change()
            if not images.is_same(target) and images.may_overlap(target):
                read = channel_first("batch", source.copied().memory(), channel_axis).exported()
            if given is not None and anchors is not None and anchors.may_overlap(target):
                anchors = _spread(given.copied(), source, images, channel_axis)
        if excess:
            with np.errstate(invalid="ignore"):
                read = np.broadcast_to(np.clip(unrepeated(read), 0, data_range), read.shape)
        solve(
            chosen,
            Problem.of(
                read,
                source.dtype,
                solver_options,
                data_range,
                target=target.exported(),
                mask=None if anchors is None else anchors.exported(),
                seed=seed,
                first_index=first_index,
                threads=threads,
                info=info,
                placement=placement,
            ),
        )
        if placement is None or placement.reads:
            check_converged(info, solver_options)
        elif given is not None:
            source.wait_for(given)
    completed = source.convert(result) if out is None else out
    return (completed, info) if return_info else completed


def _spread(mask: ArrayView, source: ArrayView, images: Memory, channel_axis: int) -> Memory:
    """Return the memory of a mask in the shape of the images, ready where `source` is."""
    anchors = channel_first("mask", mask.memory(source), channel_axis)
    return anchors.broadcast_to(images.shape)


def default_threads() -> int:
    """Return the number of threads used by default.

    ``SPLIC_NUM_THREADS`` if it is set, else the number of processors this process may use.

    Raises
    ------
    ValueError
        ``SPLIC_NUM_THREADS`` is not a positive integer.
    """
    text = os.environ.get("SPLIC_NUM_THREADS", "").strip()
    if text:
        try:
            value = int(text)
        except ValueError:
            value = 0
        if not 1 <= value <= MAX_THREADS:
            raise ValueError(
                f"the environment variable SPLIC_NUM_THREADS must be a positive integer, got "
                f"{text!r}; unset it to use all processors"
            )
        return value
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_options(options: object) -> SolverOptions:
    if options is None:
        return SolverOptions()
    if isinstance(options, str):
        return SolverOptions.preset(options)
    if isinstance(options, SolverOptions):
        return options
    raise TypeError(
        "`options` must be a SolverOptions or the name of a preset, got "
        f"{type(options).__name__}; build one with splic_ext.SolverOptions(...)"
    )
