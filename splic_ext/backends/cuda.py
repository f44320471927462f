"""The CUDA back end: ``splic_ext._cuda``, one fused kernel, a thread block for each matrix."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from typing import Any

from splic_ext.backends.base import BackendInfo, Problem

__all__ = ["BACKEND", "workspace_bytes"]

#: Device memory that chunks may take, in MB, unless SPLIC_CUDA_WORKSPACE_MB says otherwise.
DEFAULT_WORKSPACE_MB = 512
MAX_WORKSPACE_MB = 1 << 20

_cuda: Any = None
_REASON = ""
try:
    _cuda = import_module("splic_ext._cuda")
except ImportError as error:
    _REASON = (
        "the CUDA module was not built; put nvcc on the PATH and"
        if isinstance(error, ModuleNotFoundError) and error.name == "splic_ext._cuda"
        else f"the CUDA module was built but cannot be loaded ({error});"
    ) + " reinstall with `pip install --no-cache-dir --force-reinstall .`"


def workspace_bytes() -> int:
    """Return the device memory that chunks may take, in bytes.

    Raises
    ------
    ValueError
        ``SPLIC_CUDA_WORKSPACE_MB`` is not a positive integer.

    Examples
    --------
    >>> workspace_bytes() > 0
    True
    """
    text = os.environ.get("SPLIC_CUDA_WORKSPACE_MB", "").strip() or str(DEFAULT_WORKSPACE_MB)
    value = int(text) if text.isdecimal() else 0
    if not 1 <= value <= MAX_WORKSPACE_MB:
        raise ValueError(
            f"the environment variable SPLIC_CUDA_WORKSPACE_MB must be an integer in "
            f"[1, {MAX_WORKSPACE_MB}], got {text!r}; unset it to use {DEFAULT_WORKSPACE_MB}"
        )
    return value << 20


@cache
def _status() -> dict[str, Any]:
    return dict(_cuda.status())


class CUDABackend:
    """Completes arrays of the CPU on a CUDA device, copies and work overlapping."""

    name = "cuda"

    def info(self) -> BackendInfo:
        """Describe the back end: devices, or why there is none."""
        details: dict[str, Any] = {}
        reason: str | None = _REASON
        if _cuda is not None:
            details = dict(_status())
            reason = details.pop("reason") or None
        return BackendInfo(
            self.name, reason is None, reason, ("cpu",), ("float32", "float64"), details
        )

    def solve(self, problem: Problem) -> None:
        """Complete the batch on the first device, without the GIL."""
        _cuda.solve(**problem.native_arguments(), device=0, workspace=workspace_bytes())


BACKEND = CUDABackend()
