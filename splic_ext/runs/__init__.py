"""What long computations share: fingerprints, finished parts, progress, machine, plain values."""

from __future__ import annotations

from splic_ext.common.optional import optional

with optional("`splic_ext.runs`", "torch", "torch"):
    import torch as _torch  # noqa: F401

from splic_ext.runs.records import DatasetInfo, Machine, NetworkInfo, Provenance

__all__ = ["DatasetInfo", "Machine", "NetworkInfo", "Provenance"]
