"""Which writer makes a kind of shards."""

from __future__ import annotations

from typing import Any

from splic_ext.conversion.writers.arrays import Cifar10Writer, NpyWriter
from splic_ext.conversion.writers.files import FolderWriter, TarWriter
from splic_ext.conversion.writers.tables import ParquetWriter

__all__ = ["WRITERS"]

WRITERS: dict[str, type[Any]] = {
    writer.kind: writer
    for writer in (FolderWriter, TarWriter, ParquetWriter, NpyWriter, Cifar10Writer)
}
