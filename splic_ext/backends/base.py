"""What a back end is: the problem it is handed, and the questions it answers about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.arrays.devices import Placement
from splic_ext.arrays.dtypes import DTYPES, decode, encode, largest_value
from splic_ext.masks import anchor_threshold
from splic_ext.options import SolverOptions

__all__ = ["Backend", "BackendInfo", "CompletionInfo", "Problem", "empty_entry"]

#: A residual beyond this, in units of the data range: the iteration diverges.
DIVERGED = 1e6


@dataclass(frozen=True, eq=False)
class CompletionInfo:
    """How the solver ended, image by image.

    N is the number of images, 1 for a single one; P is 2 passes, or 1 with ``alternate=False``.

    Attributes
    ----------
    iterations : ndarray of shape (N, P), int32
        Iterations of each pass; the most over the matrices and masks of an image.
        0 where every matrix of the pass was left alone for want of an anchor.
    residual : ndarray of shape (N, P), float64
        Last ``||X_t - X_{t-1}||_F / (m n)`` in units of the data range; the largest likewise. A
        back end stops and says infinity where it exceeds 1e6.
    delta : ndarray of shape (N, P), float64
        Last smoothing parameter in units of the data range; the largest likewise.
    seconds : ndarray of shape (N,), float64
        Time spent on the image, by the wall clock; images solved together share theirs evenly.

    Examples
    --------
    >>> import numpy as np
    >>> import splic_ext
    >>> _, info = splic_ext.complete(np.zeros((5, 1, 8, 8)), return_info=True)
    >>> info.iterations.shape, info.seconds.shape
    ((5, 2), (5,))
    """

    iterations: npt.NDArray[np.int32]
    residual: npt.NDArray[np.float64]
    delta: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, count: int, passes: int) -> CompletionInfo:
        """Return zeroed records for `count` images."""
        return cls(
            np.zeros((count, passes), np.int32),
            np.zeros((count, passes)),
            np.zeros((count, passes)),
            np.zeros(count),
        )


@dataclass(frozen=True, eq=False)
class Problem:
    """A validated batch, as handed to :meth:`Backend.solve`.

    `source`, `target` and `mask` are NumPy views of shape (N, C, H, W) and of any strides; the
    target may be the source itself. bfloat16 comes as its bits, in uint16. With a `placement` all
    are :class:`~splic_ext.arrays.memory.Memory`, and the values have not been checked.
    """

    source: Any
    target: Any
    dtype: str  # "uint8", "float16", "bfloat16", "float32" or "float64"
    mask: Any  # of bool; None: to be drawn
    seed: int  # this and the next: in [0, 2**64)
    first_index: int
    options: SolverOptions  # with `rank` resolved to an integer
    data_range: float
    largest: float  # the result is clipped to [0, largest]: data range, or what the dtype can hold
    empty: float | None  # of a matrix without an anchor, as the dtype holds it; None: it stays
    threads: int
    info: CompletionInfo  # to be filled in, unless the placement wants no records
    placement: Placement | None = None  # None on the CPU

    @classmethod
    def of(
        cls, source: Any, dtype: str, options: SolverOptions, data_range: float, **others: Any
    ) -> Problem:
        """Return a problem, with what follows from the rest: rank, largest value, empty records."""
        count, _, height, width = source.shape
        if "info" not in others:
            others["info"] = CompletionInfo.empty(count, 2 if options.alternate else 1)
        return cls(
            source=source,
            dtype=dtype,
            options=options.replace(rank=options.resolve_rank(height, width)),
            data_range=data_range,
            largest=largest_value(dtype, data_range),
            empty=empty_entry(options.empty_value, dtype, data_range),
            **others,
        )

    def native_parameters(self) -> dict[str, Any]:
        """Return the arguments of every compiled solver besides arrays."""
        return {
            "dtype": self.dtype,
            "seed": self.seed,
            "first_index": self.first_index,
            "anchor_threshold": anchor_threshold(self.options.anchor_fraction),
            "options": self.options.to_dict(),
            "data_range": self.data_range,
            "largest": self.largest,
            "empty": -1.0 if self.empty is None else self.empty,
        }

    def native_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments that `solve` of every compiled module takes."""
        arrays = {"source": self.source, "target": self.target, "mask": self.mask}
        return {**arrays, **self.native_parameters(), **vars(self.info)}


def empty_entry(value: float | None, dtype: str, data_range: float) -> float | None:
    """Return ``empty_value`` in the unit of the data, rounded to the element type."""
    if value is None:
        return None
    entry = np.array([min(value * data_range, largest_value(dtype, data_range))])
    bits = np.empty(1, DTYPES[dtype])
    encode(entry, bits, dtype)
    return float(decode(bits, dtype)[0])


@dataclass(frozen=True)
class BackendInfo:
    """What a back end says of itself.

    Attributes
    ----------
    name : str
        The name that :func:`splic_ext.complete` takes as `backend`.
    available : bool
        Whether it can run here.
    reason : str or None
        Why not, where it cannot.
    devices : tuple of str
        Kinds of device whose arrays it takes.
    precisions : tuple of str
        Floating-point types that it computes in.
    details : dict
        Anything else, in values that JSON has: compiler, instruction sets, thread count.
    algorithms : tuple of str
        Values of ``SolverOptions.algorithm`` that it knows.
    """

    name: str
    available: bool
    reason: str | None
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    details: dict[str, Any]
    algorithms: tuple[str, ...] = ("auto",)


class Backend(ABC):
    """One solver. A back end that cannot run still imports, and says why in :meth:`info`."""

    name: str
    #: Whether it has a gradient; complete_differentiable() takes another back end, or torch.
    differentiates: bool = False

    @abstractmethod
    def info(self) -> BackendInfo:
        """Describe the back end; cheap enough to call before every solve."""

    @abstractmethod
    def solve(self, problem: Problem) -> None:
        """Complete the batch into ``problem.target`` and fill in ``problem.info``."""

    def differentiate(self, problem: Problem, cotangent: Any, cut_width: float) -> None:
        """Write the gradient by the images into ``problem.target``.

        The images have been completed with the same arguments, so that they need no check.
        `cotangent` is the gradient by their completion, an array like the target; `cut_width` is 0,
        or the width of a smooth rank cut in the backward pass.
        """
        raise NotImplementedError(self.name)
