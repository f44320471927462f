"""cuSOLVER at run time: where it is, and why it cannot be used."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

__all__ = ["candidates", "load"]

#: What the library is called in CUDA 13 and 12. The system finds it by these names in toolkits, and
#: where another library, such as torch, has loaded it already.
NAMES = ("libcusolver.so.12", "libcusolver.so.11")


def candidates() -> tuple[str, ...]:
    """Return the files to try, best first.

    ``cuda-pathfinder`` knows the wheels of PyPI, conda and the toolkits, and loads what the
    library needs; without it the names are left to the system.
    """
    try:
        pathfinder = import_module("cuda.pathfinder")
    except ImportError:
        return NAMES
    try:
        path = pathfinder.load_nvidia_dynamic_lib("cusolver").abs_path
    except RuntimeError:  # it has found none
        return NAMES
    return (path, *NAMES) if path else NAMES


@cache
def load(native: Any) -> dict[str, str]:
    """Load the library into the compiled module, once; return its path and its version."""
    return dict(native.load_cusolver(list(candidates())))
