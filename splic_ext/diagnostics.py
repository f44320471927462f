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

#: Distributions that are not required, with the extras that bring them.
OPTIONAL_PACKAGES: dict[str, tuple[str, ...]] = {
    "typer": ("cli",),
    "rich": ("cli",),
    "pillow": ("cli", "data", "parquet", "remote"),
    "scikit-image": ("demo", "certify"),
    "torch": ("torch",),
    "safetensors": ("torch",),
    "scipy": ("data", "certify"),
    "scikit-learn": ("data",),
    "pooch": ("data",),
    "pyarrow": ("parquet",),
    "fsspec": ("remote",),
    "ray": ("ray",),
    "foolbox": ("attack",),
    "adversarial-robustness-toolbox": ("attack",),
    "opencv-python-headless": ("certify",),
    "filelock": ("train",),
    "tensorboard": ("train",),
    "jinja2": ("report",),
    "matplotlib": ("report",),
    "cuda-pathfinder": ("cuda12", "cuda13"),
    "cupy-cuda12x": ("cuda12",),
    "nvidia-cusolver-cu12": ("cuda12",),
    "cupy-cuda13x": ("cuda13",),
    "nvidia-cusolver": ("cuda13",),
}

#: Instruction sets worth telling of, in the order of their age; names of Linux.
_FEATURES = (
    *("sse2", "ssse3", "sse4_1", "sse4_2", "avx", "f16c", "fma", "avx2"),
    *("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_fp16", "amx_tile"),
    *("asimd", "asimdhp", "sve", "sve2"),
)


def _cpuinfo() -> list[tuple[str, str]]:
    """Return what Linux tells of all processors; nothing elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    parts = (line.partition(":") for line in text.splitlines())
    return [(name.strip(), value.strip()) for name, _, value in parts]


def cpu_features() -> list[str] | None:
    """Return the vector instruction sets of this processor; None where Linux does not tell."""
    found = _cpuinfo()
    flags = {
        flag for name, value in found if name in ("flags", "Features") for flag in value.split()
    }
    return [name for name in _FEATURES if name in flags] if found else None


def cpu_name() -> str:
    """Return the model name of the processor; family and model too, where Linux tells them."""
    found = dict(reversed(_cpuinfo()))  # of the first
    if not found:
        return platform.processor() or platform.machine()
    name = found.get("model name", platform.machine())
    if "cpu family" in found:
        name += f" (family {found['cpu family']}, model {found['model']})"
    return name


def describe_installation(version: str) -> dict[str, Any]:
    """Collect what ``splic-ext info`` shows; made of dicts, lists, strings, numbers and None."""
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
        "extras": {name: list(extras) for name, extras in OPTIONAL_PACKAGES.items()},
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
