"""What long computations share: fingerprints, finished parts, progress, machine, plain values."""

from __future__ import annotations

from splic_ext.errors import MissingExtraError

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise MissingExtraError("`splic_ext.runs`", "torch", "torch") from None

from splic_ext.runs.records import DatasetInfo, Machine, NetworkInfo, Provenance

__all__ = ["DatasetInfo", "Machine", "NetworkInfo", "Provenance"]
