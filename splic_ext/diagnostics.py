"""What this installation is and can do, as plain values."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from splic_ext.backends import backend_info
from splic_ext.completion import default_threads

__all__ = ["cpu_features", "cpu_name", "describe_installation"]

#: Distributions that are not required, with the extra or the use that they are for.
OPTIONAL_PACKAGES = {
    "typer": "cli",
    "rich": "cli",
    "pillow": "cli",
    "scikit-image": "demo",
    "torch": "tensors in and out",
}

#: Instruction sets worth telling of, in the order of their age; names of Linux.
_FEATURES = (
    *("sse2", "ssse3", "sse4_1", "sse4_2", "avx", "f16c", "fma", "avx2"),
    *("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_fp16", "amx_tile"),
    *("asimd", "asimdhp", "sve", "sve2"),
)


def cpu_features() -> list[str] | None:
    """Return the vector instruction sets of this processor; None where Linux does not tell.

    Examples
    --------
    >>> features = cpu_features()
    >>> features is None or all(isinstance(name, str) for name in features)
    True
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    flags: set[str] = set()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            flags.update(value.split())
    return [name for name in _FEATURES if name in flags]


def cpu_name() -> str:
    """Return the model name of the processor; family and model too, where Linux tells them.

    Examples
    --------
    >>> isinstance(cpu_name(), str)
    True
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    name = found.get("model name", platform.machine())
    if "cpu family" in found:
        name += f" (family {found['cpu family']}, model {found['model']})"
    return name


def describe_installation(version: str) -> dict[str, Any]:
    """Collect what ``splic-ext info`` shows; made of dicts, lists, strings, numbers and None.

    Parameters
    ----------
    version : str
        Of the package.

    Raises
    ------
    ValueError
        ``SPLIC_NUM_THREADS`` is not a positive integer.
    """
    return {
        "version": version,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu_features": cpu_features(),
        "default_threads": default_threads(),
        "backends": {
            name: {
                "available": info.available,
                "reason": info.reason,
                "devices": list(info.devices),
                "precisions": list(info.precisions),
                "details": info.details,
            }
            for name, info in backend_info().items()
        },
        "packages": {name: _version(name) for name in OPTIONAL_PACKAGES},
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
