"""A smooth surface through the visible pixels: a thin plate under tension."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from splic_ext.checks import check_number
from splic_ext.fills.base import Fill
from splic_ext.optional import optional

__all__ = ["ThinPlate"]

Array = npt.NDArray[np.float64]

#: Most hidden pixels of a mask whose surface is kept as a matrix; with more it is solved for.
MOST_DENSE = 1024

#: Bytes of matrices that are kept, the last used ones.
CACHE_BYTES = 256 * 2**20


class ThinPlate(Fill):
    r"""The surface of least bending through the visible pixels, channel by channel.

    Minimises :math:`\sum u_{xx}^2 + 2 u_{xy}^2 + u_{yy}^2 + \alpha |\nabla u|^2` over the image
    with the visible pixels fixed: a thin-plate spline [1]_ on the grid, under tension [2]_. The
    hidden pixels are a linear function of those around them. Its matrix depends on the mask alone,
    and is kept: the second image under a mask costs two small products.

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
        """Return the surface, image by image, since each has a mask of its own."""
        height, width = images.shape[2:]
        flat = images.flatten(2)
        rows = mask.flatten(1).cpu().numpy()
        filled = []
        for image, visible in zip(flat, rows, strict=True):
            count = int(visible.sum())
            if count in (0, len(visible)):
                filled.append(image)
                continue
            if len(visible) - count > MOST_DENSE:
                filled.append(_solved(image, visible, height, width, self.tension))
                continue
            surface = _KEPT.get(visible, height, width, self.tension)
            weights = surface.weights.to(images)
            values = image[:, surface.support.to(image.device)] @ weights
            filled.append(image.index_copy(1, surface.hidden.to(image.device), values))
        return torch.stack(filled).reshape(images.shape)


@dataclass(frozen=True, eq=False)
class _Surface:
    """The hidden pixels as a product of the pixels around them with weights (V, K)."""

    hidden: torch.Tensor
    support: torch.Tensor
    weights: torch.Tensor

    @property
    def size(self) -> int:
        return self.weights.numel() * self.weights.element_size()


class _Kept:
    """The surfaces that were used last, for all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[Any, _Surface] = OrderedDict()
        self._bytes = 0

    def get(
        self, visible: npt.NDArray[np.bool_], height: int, width: int, tension: float
    ) -> _Surface:
        """Return the surface of a mask, made if need be."""
        key = (height, width, tension, np.packbits(visible).tobytes())
        with self._lock:
            known = self._found.get(key)
            if known is not None:
                self._found.move_to_end(key)
                return known
        made = _surface(visible, height, width, tension)
        with self._lock:
            if key not in self._found:
                self._found[key] = made
                self._bytes += made.size
            while self._bytes > CACHE_BYTES and len(self._found) > 1:
                _, old = self._found.popitem(last=False)
                self._bytes -= old.size
        return made

    def __reduce__(self) -> Any:
        return _Kept, ()


_KEPT = _Kept()


def _surface(visible: npt.NDArray[np.bool_], height: int, width: int, tension: float) -> _Surface:
    """Solve for the hidden pixels as a function of the others."""
    hidden, support, entries = _system(visible, height, width, tension)
    inner = np.zeros((len(hidden), len(hidden)))
    outer = np.zeros((len(hidden), len(support)))
    for matrix, (rows, columns, values) in zip((inner, outer), entries, strict=True):
        np.add.at(matrix, (rows, columns), values)
    weights = -np.linalg.solve(inner, outer).T
    return _Surface(
        torch.from_numpy(hidden),
        torch.from_numpy(support),
        torch.from_numpy(np.ascontiguousarray(weights)),
    )


def _system(
    visible: npt.NDArray[np.bool_], height: int, width: int, tension: float
) -> tuple[Any, Any, list[tuple[Any, Any, Array]]]:
    """Return hidden pixels, those that they depend on, and the entries of both parts."""
    rows, columns, values = _energy(height, width, tension)
    chosen = ~visible[rows]
    rows, columns, values = rows[chosen], columns[chosen], values[chosen]
    hidden, seen = np.flatnonzero(~visible), visible[columns]
    support = np.unique(columns[seen])
    rows = np.searchsorted(hidden, rows)
    inner = (rows[~seen], np.searchsorted(hidden, columns[~seen]), values[~seen])
    outer = (rows[seen], np.searchsorted(support, columns[seen]), values[seen])
    return hidden, support, [inner, outer]


@lru_cache(maxsize=16)
def _energy(
    height: int, width: int, tension: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Array]:
    """Return the entries of the quadratic form of the energy: rows, columns, values."""
    pixels = np.arange(height * width).reshape(height, width)
    bent = [(0, 1.0), (1, -2.0), (2, 1.0)]
    slope = [(0, -1.0), (1, 1.0)]
    terms = [
        (1.0, [(d, 0, v) for d, v in bent]),
        (1.0, [(0, d, v) for d, v in bent]),
        (2.0, [(d, e, v * w) for d, v in slope for e, w in slope]),
        (tension, [(d, 0, v) for d, v in slope]),
        (tension, [(0, d, v) for d, v in slope]),
    ]
    found: list[tuple[Any, Any, Any]] = []
    for weight, stencil in terms:
        high = height - max(d for d, _, _ in stencil)
        wide = width - max(e for _, e, _ in stencil)
        if high < 1 or wide < 1:
            continue
        for d, e, v in stencil:
            for f, g, w in stencil:
                rows = pixels[d : d + high, e : e + wide].ravel()
                columns = pixels[f : f + high, g : g + wide].ravel()
                found.append((rows, columns, np.full(rows.size, weight * v * w)))
    if not found:  # a single pixel
        empty = np.empty(0, np.int64)
        return empty, empty, np.empty(0)
    rows, columns, values = (np.concatenate(part) for part in zip(*found, strict=True))
    return rows, columns, values


def _solved(
    image: torch.Tensor, visible: npt.NDArray[np.bool_], height: int, width: int, tension: float
) -> torch.Tensor:
    """Return the image with its many hidden pixels solved for, by a sparse decomposition."""
    with optional("`ThinPlate` with more than 1,024 hidden pixels", "certify", "scipy"):
        sparse: Any = import_module("scipy.sparse")
        linalg: Any = import_module("scipy.sparse.linalg")
    hidden, support, ((r, c, v), (rows, columns, values)) = _system(visible, height, width, tension)
    factor = linalg.splu(sparse.csc_matrix((v, (r, c)), shape=(len(hidden), len(hidden))))
    outer = sparse.csc_matrix((-values, (rows, columns)), shape=(len(hidden), len(support)))
    apply: Any = _Solve.apply
    given = image[:, torch.from_numpy(support).to(image.device)]
    return image.index_copy(
        1, torch.from_numpy(hidden).to(image.device), apply(given, factor, outer)
    )


class _Solve(torch.autograd.Function):
    """Pixels around holes (C, V) to hidden ones (C, K), with a factor of a symmetric matrix."""

    @staticmethod
    def forward(ctx: Any, given: torch.Tensor, factor: Any, outer: Any) -> torch.Tensor:
        """Solve."""
        ctx.factor, ctx.outer = factor, outer
        values = factor.solve(np.ascontiguousarray(outer @ given.detach().cpu().double().numpy().T))
        return torch.from_numpy(np.ascontiguousarray(values.T)).to(given)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        """Solve again: the matrix is symmetric."""
        (grad,) = grads
        back = ctx.factor.solve(np.ascontiguousarray(grad.detach().cpu().double().numpy().T))
        return torch.from_numpy(np.ascontiguousarray((ctx.outer.T @ back).T)).to(grad), None, None
