"""Fill the holes of one picture: first guess, completion, and what is visible as it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from splic_ext.arrays.dtypes import DTYPES, default_data_range
from splic_ext.common.checks import check_number, told_apart
from splic_ext.completion import complete, resolve_options
from splic_ext.errors import ShapeError
from splic_ext.inpainting.plate import with_surface
from splic_ext.options import MAX_SIDE, SolverOptions

__all__ = ["inpaint", "single_pass"]

T = TypeVar("T", bound=npt.NDArray[Any])

#: Least overlap of the tiles of a large picture, in pixels; across it they fade into each other.
OVERLAP = 128


def inpaint(
    image: T,
    mask: npt.NDArray[np.bool_],
    *,
    options: SolverOptions | str | None = "inpaint",
    backend: str = "auto",
    threads: int | None = None,
    channel_axis: int = -3,
    data_range: float | None = None,
) -> T:
    """Fill the hidden pixels of a picture.

    A smooth surface through the visible pixels, a thin plate under tension, is the first guess; one
    pass of low-rank completion ([1]_, Algorithm 1) with the visible pixels as anchors then brings
    in the structure of the picture.

    Parameters
    ----------
    image : ndarray of shape (H, W) or (C, H, W), or (H, W, C) with ``channel_axis=-1``
        Of uint8, float16, float32 or float64, in [0, `data_range`] where it is visible; hidden
        pixels may hold anything, NaN too. Of any size. Never changed.
    mask : bool ndarray of shape (H, W)
        True = visible, kept; False = hidden, filled. At least one pixel must be visible.
    options : SolverOptions or str, default "inpaint"
        Options of the solver with ``alternate=False`` and ``n_masks=1``, or the name of a preset
        with that: ``"inpaint"``, ``"refine"``, or ``"holes"``, which begins at 0 as in the paper.
        All of these make a fixed number of iterations, whatever the size of the picture.
    backend, threads
        As in :func:`splic_ext.complete`.
    channel_axis : int, default -3
        -1 for pictures of shape (H, W, C).
    data_range : float, optional
        Largest value of the data; default 255 for uint8, else 1.

    Returns
    -------
    ndarray
        Of the shape and dtype of `image`; visible pixels are those of `image`, bit for bit.

    Raises
    ------
    TypeError
        No NumPy array, another dtype, a mask that is not of bool, or a parameter of the wrong kind.
    ValueError
        Nothing visible, NaN or values out of range where the picture is visible, options of two
        passes or of several masks, or a parameter out of range.
    ShapeError
        A `ValueError`: another number of axes, or a mask of another size.
    ArithmeticError
        The iteration diverged: too large a step or weight.
    BackendUnavailableError
        The back end cannot run here.

    Notes
    -----
    Pictures of a side above 512 pixels are completed in tiles that overlap by at least 128 pixels
    and fade into each other; their first guess knows no tiles. Tiles without a hole are left out.
    What is filled depends on the visible pixels alone. *Thread safety*: safe to call from several
    threads.

    References
    ----------
    .. [1] Z. Zhao, H. Wang, H. Sun, Z. He, "Structure-Preserving Progressive Low-rank Image
       Completion for Defending Adversarial Attacks", arXiv:2103.02781, 2021.

    Examples
    --------
    >>> ramp = np.tile(np.linspace(0, 1, 16), (16, 1))
    >>> mask = np.ones((16, 16), bool)
    >>> mask[5:9, 4:10] = False
    >>> filled = inpaint(ramp, mask)
    >>> bool(np.abs(filled - ramp).max() < 0.01), bool((filled == ramp)[mask].all())
    (True, True)
    """
    solver = single_pass(options)
    planes, visible, scale = _checked(image, mask, channel_axis, data_range)
    result: T = image.copy()
    if visible.all():
        return result
    values = np.where(visible, planes, 0).astype(np.float64) / scale
    with_surface(values, visible)
    precision = np.float64 if planes.dtype == np.float64 else np.float32
    guess = values.clip(0.0, 1.0).astype(precision)
    filled = _in_tiles(guess, visible, solver, backend, threads)
    hidden = filled[:, ~visible].astype(np.float64) * scale
    if result.dtype == np.uint8:
        hidden = np.rint(hidden)
    target = _planes(result, channel_axis)
    target[:, ~visible] = hidden.astype(result.dtype)
    return result


def single_pass(options: SolverOptions | str | None) -> SolverOptions:
    """Return the options, or raise unless they are of one pass with one mask."""
    solver = resolve_options(options)
    if solver.alternate or solver.n_masks > 1:
        which = "alternate=True" if solver.alternate else "n_masks > 1"
        raise ValueError(
            f"`options` of inpainting must be of one pass with one mask, got {which}: a second "
            "pass would change visible pixels; use options.replace(alternate=False, n_masks=1), or "
            "the preset 'inpaint'"
        )
    return solver


def _planes(image: npt.NDArray[Any], channel_axis: int) -> npt.NDArray[Any]:
    """Return a view of shape (C, H, W)."""
    return image[None] if image.ndim == 2 else np.moveaxis(image, channel_axis, 0)


def _checked(
    image: Any, mask: Any, channel_axis: Any, data_range: Any
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_], float]:
    """Return planes (C, H, W), mask and data range, or raise unless they go together."""
    for name, array in (("image", image), ("mask", mask)):
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            raise TypeError(
                f"`{name}` must be a NumPy array, got {type(array).__name__}; convert it with "
                "numpy.asarray, or use splic_ext.fills for tensors"
            )
    if image.dtype.name not in DTYPES or not image.dtype.isnative:
        raise TypeError(
            "`image` must be of uint8, float16, float32 or float64 in the byte order of this "
            f"machine, got {image.dtype.str!r}; convert it"
        )
    if isinstance(channel_axis, bool) or channel_axis not in (-3, -1):
        raise ValueError(
            f"`channel_axis` must be -3 (channel first) or -1 (channel last), got {channel_axis!r}"
        )
    if image.ndim not in (2, 3) or 0 in image.shape:
        expected = "(H, W) or (C, H, W)" if channel_axis == -3 else "(H, W) or (H, W, C)"
        raise ShapeError(
            f"`image` must have shape {expected} with at least one pixel, got {image.shape}; "
            "inpaint pictures one by one",
            image.shape,
            expected,
        )
    planes = _planes(image, channel_axis)
    if mask.dtype != np.bool_:
        raise TypeError(
            f"`mask` must be of bool (True = visible, kept), got {mask.dtype}; convert it with "
            "`mask == 0` where white is to be filled"
        )
    if mask.shape != planes.shape[1:]:
        hint = "resize one of them"
        if image.ndim == 3 and channel_axis == -3 and mask.shape == image.shape[:2]:
            hint = "pass `channel_axis=-1` for a picture of shape (H, W, C)"
        raise ShapeError(
            f"`mask` must have the size of the picture, {planes.shape[1:]}, got {mask.shape}; "
            f"{hint}",
            mask.shape,
            str(planes.shape[1:]),
        )
    if not mask.any():
        raise ValueError(
            "`mask` hides every pixel, so that nothing is left to fill them from; True means "
            "visible: pass `~mask` if it was meant the other way round"
        )
    scale = default_data_range(image.dtype.name)
    if data_range is not None:
        scale = check_number("data_range", data_range, 0.0, above=True)
    low, high = (float(bound) for bound in _bounds(planes, mask))
    if not (low >= 0.0 and high <= scale * (1 + 1e-6)):
        raise ValueError(
            f"`image` must be finite and lie in [0, data_range] = [0, {scale:g}] where it is "
            f"visible, got minimum {told_apart(low, 0.0)} and maximum {told_apart(high, scale)}; "
            "rescale it, or pass the right `data_range`"
        )
    return planes, mask, scale


def _bounds(planes: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> tuple[Any, Any]:
    with np.errstate(invalid="ignore"):
        seen = planes[:, mask]
        return seen.min(), seen.max()


def _in_tiles(
    guess: npt.NDArray[Any],
    visible: npt.NDArray[np.bool_],
    solver: SolverOptions,
    backend: str,
    threads: int | None,
) -> npt.NDArray[Any]:
    """Return the completed picture (C, H, W); pixels of tiles without a hole stay as they are."""
    height, width = visible.shape
    total, weights = np.zeros_like(guess), np.zeros((height, width), guess.dtype)
    for rows, down in _spans(height):
        for columns, right in _spans(width):
            seen = visible[rows, columns]
            if seen.all():
                continue
            tile = np.ascontiguousarray(guess[:, rows, columns])
            done = complete(
                tile,
                np.ascontiguousarray(seen),
                options=solver,
                backend=backend,
                threads=threads,
                data_range=1.0,
            )
            weight = np.outer(down, right).astype(guess.dtype)
            total[:, rows, columns] += weight * done
            weights[rows, columns] += weight
    return np.where(weights > 0, total / np.where(weights > 0, weights, 1), guess)


def _spans(length: int) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    """Yield overlapping spans of at most 512 that cover a side, each with the weights it has."""
    size = min(length, MAX_SIDE)
    count = 1 if length <= MAX_SIDE else -(-(length - OVERLAP) // (MAX_SIDE - OVERLAP))
    for start in np.linspace(0, length - size, count).astype(int).tolist():
        edge = np.arange(size)
        # Far from the border of a tile it counts fully; at that of the picture there is no other.
        low = edge + 1 if start > 0 else np.full(size, OVERLAP)
        high = size - edge if start + size < length else np.full(size, OVERLAP)
        yield slice(start, start + size), np.minimum(np.minimum(low, high), OVERLAP) / OVERLAP
