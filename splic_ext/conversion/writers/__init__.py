"""Writers of shards: files that appear when they are finished, with their hashes."""

from __future__ import annotations

from splic_ext.conversion.writers.base import Layout, Made, Writer

__all__ = ["Layout", "Made", "Writer"]
