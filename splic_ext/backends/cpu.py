"""The native CPU back end: ``splic_ext._core``, C++ with SIMD and threads."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from splic_ext.backends.base import Backend, BackendInfo, Problem

__all__ = ["BACKEND", "cuda_reason", "native_module", "refused"]


def refused(error: ImportError) -> str:
    """Return the words of a native module that refuses a subinterpreter, nothing for others."""
    return str(error) if "subinterpreter" in str(error) else ""


_core: Any = None
_REASON: str | None = None
try:
    _core = import_module("splic_ext._core")
except ImportError as error:
    _REASON = refused(error)
    if not _REASON:
        _REASON = (
            f"the native module was not built ({error}); install a C++17 compiler (GCC or Clang) "
            "and"
            if isinstance(error, ModuleNotFoundError) and error.name == "splic_ext._core"
            else f"the native module was built but cannot be loaded ({error});"
        ) + " reinstall with `pip install --no-cache-dir --force-reinstall .`"


def cuda_reason() -> str:
    """Return why the build of this package left the CUDA module out."""
    return "no compiled module was" if _core is None else str(_core.cuda_reason)


def native_module() -> Any:
    """Return ``splic_ext._core``, or None where it was not built or cannot be loaded."""
    return _core


class CPUBackend(Backend):
    """Interleaved SIMD kernels, chosen by the instruction sets of this processor."""

    name = "cpu"
    differentiates = True

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

    def differentiate(self, problem: Problem, cotangent: Any, cut_width: float) -> None:
        """Run the iterations again, keep them, and go back through them."""
        try:
            _core.solve(
                **problem.native_arguments(),
                threads=problem.threads,
                cotangent=cotangent,
                cut_width=cut_width,
            )
        except MemoryError:
            raise MemoryError(
                f"too little memory for a gradient, which keeps all iterations of some images, "
                f"with `max_iterations={problem.options.max_iterations}`; use fewer iterations or "
                "`threads`"
            ) from None


BACKEND = CPUBackend()
