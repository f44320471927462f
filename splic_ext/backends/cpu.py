"""The native CPU back end: ``splic_ext._core``, C++ with SIMD and threads."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from splic_ext.backends.base import BackendInfo, Problem

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


BACKEND = CPUBackend()
