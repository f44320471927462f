"""What a conversion returns; it is imported with the package."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Conversion"]


@dataclass(frozen=True)
class Conversion:
    """What became of a data set.

    Attributes
    ----------
    dest : str
        Where it is.
    images, written, rejected : int
        Images of the source; those of the destination; those that are left out and listed.
    shards, made : int
        Shards of the destination; those that this call made.
    """

    dest: str
    images: int
    written: int
    rejected: int
    shards: int
    made: int
