"""SPLIC: structure-preserving progressive low-rank image completion, a defence by completion.

>>> import numpy as np
>>> import splic_ext
>>> splic_ext.complete(np.zeros((28, 28), dtype=np.uint8)).max()
np.uint8(0)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splic_ext import masks
    from splic_ext.backends import available_backends, backend_info
    from splic_ext.backends.base import BackendInfo, CompletionInfo
    from splic_ext.completion import complete
    from splic_ext.errors import BackendUnavailableError, MissingExtraError, ShapeError
    from splic_ext.options import SolverOptions

__version__ = "0.1.0"

__all__ = [
    "BackendInfo",
    "BackendUnavailableError",
    "CompletionInfo",
    "MissingExtraError",
    "ShapeError",
    "SolverOptions",
    "__version__",
    "available_backends",
    "backend_info",
    "complete",
    "masks",
]

#: Public name -> module that defines it, imported when the name is first used.
_HOMES = {
    "BackendInfo": "splic_ext.backends.base",
    "BackendUnavailableError": "splic_ext.errors",
    "CompletionInfo": "splic_ext.backends.base",
    "MissingExtraError": "splic_ext.errors",
    "ShapeError": "splic_ext.errors",
    "SolverOptions": "splic_ext.options",
    "available_backends": "splic_ext.backends",
    "backend_info": "splic_ext.backends",
    "complete": "splic_ext.completion",
}


def __getattr__(name: str) -> Any:
    if name == "masks":
        return import_module("splic_ext.masks")
    if name not in _HOMES:
        raise AttributeError(f"module 'splic_ext' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
