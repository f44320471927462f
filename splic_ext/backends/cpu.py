"""The native CPU back end: ``splic_ext._core``, C++ with SIMD and threads."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.arrays.dtypes import nearest_range
from splic_ext.backends.base import BackendInfo, CompletionInfo, Problem
from splic_ext.options import SolverOptions

__all__ = ["BACKEND"]

_core: Any = None
_REASON: str | None = None
try:
    _core = import_module("splic_ext._core")
except ImportError as error:
    _REASON = (
        f"the native module was not built ({error}); install a C++17 compiler (GCC or Clang) and"
        if isinstance(error, ModuleNotFoundError) and error.name == "splic_ext._core"
        else f"the native module was built but cannot be loaded ({error});"
    ) + " reinstall with `pip install --no-cache-dir --force-reinstall .`"


class CPUBackend:
    """Interleaved SIMD kernels, chosen by the instruction sets of this processor."""

    name = "cpu"

    def info(self) -> BackendInfo:
        """Describe the back end, and say whether the native module was built."""
        details: dict[str, Any] = {}
        if _core is not None:
            try:
                details = dict(_core.build_info())
            except ValueError as error:  # a wrong SPLIC_SIMD, which solve() will refuse
                details = {"error": str(error)}
        return BackendInfo(
            self.name, _core is not None, _REASON, ("cpu",), ("float32", "float64"), details
        )

    def solve(self, problem: Problem) -> None:
        """Complete the batch in native code, without the GIL."""
        _core.solve(**problem.native_arguments(), threads=problem.threads)

    def differentiate(
        self,
        images: npt.NDArray[Any],
        cotangent: npt.NDArray[Any],
        mask: npt.NDArray[np.bool_] | None,
        *,
        options: SolverOptions,
        seed: int,
        first_index: int,
        data_range: float,
        threads: int,
        cut_width: float,
    ) -> npt.NDArray[Any]:
        """Return the gradient by the images, given that by their completion.

        Parameters
        ----------
        images, cotangent : ndarray of shape (N, C, H, W), float32 or float64
            The images have been completed with the same arguments, so that they need no check.
        mask : ndarray of shape (N, C, H, W), bool, or None
            None: drawn from `seed` and `first_index`.
        options, seed, first_index, data_range, threads
            As in :func:`splic_ext.complete`.
        cut_width : float
            0, or the width of a smooth rank cut in the backward pass.

        Returns
        -------
        ndarray of shape (N, C, H, W)
            Of the dtype of the images.
        """
        gradient = np.empty(images.shape, images.dtype)
        if gradient.size == 0:
            return gradient
        height, width = images.shape[2:]
        data_range = nearest_range(data_range, str(images.dtype))
        problem = Problem(
            source=images,
            target=gradient,
            dtype=str(images.dtype),
            mask=mask,
            seed=seed,
            first_index=first_index,
            options=options.replace(rank=options.resolve_rank(height, width)),
            data_range=data_range,
            largest=data_range,
            threads=threads,
            info=CompletionInfo.empty(len(images), 2 if options.alternate else 1),
        )
        try:
            _core.solve(
                **problem.native_arguments(),
                threads=threads,
                cotangent=cotangent.astype(images.dtype, copy=False),
                cut_width=cut_width,
            )
        except MemoryError:
            raise MemoryError(
                f"too little memory for a gradient, which keeps all iterations of some images, "
                f"with `max_iterations={options.max_iterations}`; use fewer iterations or `threads`"
            ) from None
        return gradient


BACKEND = CPUBackend()
