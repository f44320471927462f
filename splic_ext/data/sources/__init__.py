"""Readers of data sets, one sample at a time: folders, archives, tables.

Each is a :class:`Source`: it knows its classes, yields samples in memory that does not grow with
the data set, and lists what it cannot read. :func:`splic_ext.data.open_source` finds the right one.
"""

from __future__ import annotations

from splic_ext.data.sources.base import Sample, Source, Unread

__all__ = ["Sample", "Source", "Unread"]
