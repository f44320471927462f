"""Readers of whole data sets: any part of them, with all that belongs to an image."""

from __future__ import annotations

from splic_ext.conversion.readers.base import Reader

__all__ = ["Reader"]
