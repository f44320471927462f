"""A smooth surface through the visible pixels: a thin plate under tension."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch.autograd.function import once_differentiable

from splic_ext.common.checks import check_number
from splic_ext.common.optional import optional
from splic_ext.fills.base import Fill
from splic_ext.inpainting.energy import energy

__all__ = ["ThinPlate"]

Pixels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

#: Rows, columns and values of a matrix.
Entries = tuple[Indices, Indices, npt.NDArray[np.float64]]

#: Most hidden pixels of a mask whose surface is kept as a matrix; with more it is solved for.
MOST_DENSE = 1024

#: Bytes of surfaces that are kept, the last used ones.
CACHE_BYTES = 256 * 2**20


class ThinPlate(Fill):
    r"""The surface of least bending through the visible pixels, channel by channel.

    Minimises :math:`\sum u_{xx}^2 + 2 u_{xy}^2 + u_{yy}^2 + \alpha |\nabla u|^2` over the image
    with the visible pixels fixed: a thin-plate spline [1]_ on the grid, under tension [2]_. The
    hidden pixels are a linear function of those around them. Its matrix depends on the mask alone,
    and is kept: the second image under a mask costs one small product. NumPy computes it, so that
    images of a GPU go to the CPU and come back. The derivative is exact, the second one is not
    there.

    Parameters
    ----------
    tension : float, default 0.1
        The weight alpha of the slope, in [1e-4, 1e4]: larger -> flatter, without overshoot.

    Raises
    ------
    TypeError, ValueError
        `tension` of the wrong kind, or out of its range.
    MissingExtraError
        In forward: a mask hides more than 1,024 pixels, and SciPy is not installed.

    References
    ----------
    .. [1] F. L. Bookstein, "Principal Warps: Thin-Plate Splines and the Decomposition of
       Deformations", IEEE TPAMI 1989.
    .. [2] W. H. F. Smith, P. Wessel, "Gridding with continuous curvature splines in tension",
       Geophysics 1990.

    Examples
    --------
    >>> ramp = torch.linspace(0, 1, 9).expand(1, 1, 9, 9)
    >>> mask = torch.ones(9, 9, dtype=torch.bool)
    >>> mask[3:6, 2:5] = False
    >>> bool((ThinPlate()(ramp, mask) - ramp).abs().max() < 1e-5)
    True
    """

    shown: ClassVar[tuple[str, ...]] = ("tension",)

    def __init__(self, tension: float = 0.1) -> None:
        super().__init__()
        self.tension = check_number("tension", tension, 1e-4, 1e4)

    def fill(self, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the surfaces, image by image, since each has a mask of its own."""
        apply: Any = _Fill.apply
        filled: torch.Tensor = apply(images, mask.cpu().numpy()[:, 0], self.tension)
        return filled


class _Fill(torch.autograd.Function):
    """All images by NumPy: with one image at a time its bits do not depend on the batch."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, visible: Mask, tension: float) -> torch.Tensor:
        """Put the surfaces into the hidden pixels."""
        ctx.visible, ctx.tension = visible, tension
        filled = images.detach().cpu().numpy().copy()
        for image, surface in _with_surfaces(filled, visible, tension):
            image[:, surface.hidden] = surface.values(image[:, surface.support])
        return torch.from_numpy(filled).to(images.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        """Hand the gradient of hidden pixels to those that they are made of."""
        (grad,) = grads
        passed = grad.cpu().numpy().copy()
        for part, surface in _with_surfaces(passed, ctx.visible, ctx.tension):
            part[:, surface.support] += surface.gradient(part[:, surface.hidden])
            part[:, surface.hidden] = 0
        return torch.from_numpy(passed).to(grad.device), None, None


def _with_surfaces(
    images: Pixels, visible: Mask, tension: float
) -> Iterator[tuple[Pixels, _Surface]]:
    """Yield a view (C, H W) of each image that has holes and is not all hole, and its surface."""
    count, channels, height, width = images.shape
    flat = images.reshape(count, channels, height * width)
    seen = visible.reshape(count, height * width)
    masks = np.packbits(seen, axis=1)
    for row in np.flatnonzero(seen.any(axis=1) & ~seen.all(axis=1)):
        key = (height, width, tension, images.dtype.char, masks[row].tobytes())
        yield flat[row], _KEPT.get(key, visible[row], tension, images.dtype)


@dataclass(frozen=True, eq=False)
class _Dense:
    """Hidden pixels as a product of the V pixels around them with a matrix (V, K)."""

    hidden: Indices
    support: Indices
    weights: Pixels

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self.weights.nbytes)

    def values(self, given: Pixels) -> Pixels:
        """Return the hidden pixels (C, K) of the pixels around them (C, V)."""
        made: Pixels = given @ self.weights
        return made

    def gradient(self, grad: Pixels) -> Pixels:
        """Return what a gradient (C, K) is to the pixels around, (C, V)."""
        gathered: Pixels = grad @ self.weights.T
        return gathered


@dataclass(frozen=True, eq=False)
class _Sparse:
    """The same with the factor of a symmetric sparse matrix (K, K), and another one (K, V)."""

    hidden: Indices
    support: Indices
    factor: Any
    outer: Any

    @property
    def size(self) -> int:
        """Bytes, about."""
        return 16 * int(self.factor.nnz + self.outer.nnz)

    def values(self, given: Pixels) -> Pixels:
        """Return the hidden pixels (C, K) of the pixels around them (C, V)."""
        solved: Pixels = self.factor.solve(self.outer @ given.T.astype(np.float64)).T
        return solved

    def gradient(self, grad: Pixels) -> Pixels:
        """Return what a gradient (C, K) is to the pixels around, (C, V)."""
        gathered: Pixels = (self.outer.T @ self.factor.solve(grad.T.astype(np.float64))).T
        return gathered


_Surface = _Dense | _Sparse


class _Kept:
    """The surfaces that were used last, for all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[Any, _Surface] = OrderedDict()
        self.bytes = 0

    def get(self, key: Any, visible: Mask, tension: float, dtype: Any) -> _Surface:
        """Return the surface of a mask (H, W), made if need be."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        made = _surface(visible, tension, dtype)  # another thread may do so, too: it is the same
        with self._lock:
            if key not in self._found:
                self._found[key] = made
                self.bytes += made.size
            while self.bytes > CACHE_BYTES:
                _, old = self._found.popitem(last=False)
                self.bytes -= old.size
        return made


_KEPT = _Kept()


def _surface(visible: Mask, tension: float, dtype: Any) -> _Surface:
    """Solve for the hidden pixels as a function of the others; with many, prepare to do so."""
    hidden, support, (inner, outer) = _system(visible, tension)
    if len(hidden) > MOST_DENSE:
        with optional("`ThinPlate` with more than 1,024 hidden pixels", "certify", "scipy"):
            sparse: Any = import_module("scipy.sparse")
            linalg: Any = import_module("scipy.sparse.linalg")
        shapes = (len(hidden), len(hidden)), (len(hidden), len(support))
        matrices = [
            sparse.csc_matrix((values, (rows, columns)), shape=shape)
            for (rows, columns, values), shape in zip((inner, outer), shapes, strict=True)
        ]
        return _Sparse(hidden, support, linalg.splu(matrices[0]), -matrices[1])
    square = _dense(inner, len(hidden), len(hidden))
    weights = -np.linalg.solve(square, _dense(outer, len(hidden), len(support))).T
    return _Dense(hidden, support, np.ascontiguousarray(weights, dtype))


def _dense(entries: Entries, height: int, width: int) -> npt.NDArray[np.float64]:
    """Return the matrix of these entries."""
    rows, columns, values = entries
    matrix = np.zeros((height, width))
    matrix[rows, columns] = values
    return matrix


def _system(visible: Mask, tension: float) -> tuple[Indices, Indices, tuple[Entries, Entries]]:
    """Return hidden pixels, those that they depend on, and the entries of both matrices.

    Where the gradient of the energy in the hidden pixels is 0, the first matrix times the hidden
    pixels is minus the second one times the others.
    """
    height, width = visible.shape
    hidden = np.flatnonzero(~visible)
    found = []
    for (down, right), coefficients in energy(height, width, tension).items():
        values = coefficients.ravel()[hidden]
        rows = np.flatnonzero(values)
        found.append((rows, hidden[rows] + down * width + right, values[rows]))
    rows, columns, values = (np.concatenate(part) for part in zip(*found, strict=True))
    seen = visible.ravel()[columns]
    support = np.unique(columns[seen])
    inner = (rows[~seen], np.searchsorted(hidden, columns[~seen]), values[~seen])
    outer = (rows[seen], np.searchsorted(support, columns[seen]), values[seen])
    return hidden, support, (inner, outer)
