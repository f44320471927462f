"""How much of the adaptive protocol is run, by the name of a size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["SIZES", "SMOKE", "Size", "resolve_size"]


@dataclass(frozen=True)
class Size:
    """How much of the protocol is run.

    Attributes
    ----------
    images : int
        The first ones of the data set.
    steps, eot, restarts : int
        Of the main attacks: steps of 1/255, draws for each gradient, runs.
    sweep_eot : int
        Draws for each gradient where a parameter is varied.
    draws : tuple of int
        Draws for each gradient, as a curve.
    epsilons : tuple of float
        Radii, as a curve, times 255.
    queries, query_eot : int
        Of the square attack: squares, and draws for each.
    walk : int
        Iterations of the attack by labels alone.
    """

    images: int
    steps: int
    eot: int
    restarts: int
    sweep_eot: int
    draws: tuple[int, ...]
    epsilons: tuple[float, ...]
    queries: int
    query_eot: int
    walk: int


#: "smoke" shows that all of it runs, "small" is for two cores, "full" for a GPU.
SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "smoke": Size(2, 2, 2, 2, 1, (1,), (4,), 3, 1, 1),
        "small": Size(100, 50, 10, 2, 4, (1, 4), (2, 4, 16, 32), 500, 4, 8),
        "full": Size(1000, 200, 40, 5, 10, (1, 10, 20, 80), (1, 2, 4, 16, 32, 64), 5000, 10, 32),
    }
)


#: What a result of that size says.
SMOKE = "size smoke: it shows that all of it runs; its numbers mean nothing"


def resolve_size(size: str | Size) -> Size:
    """Return the size of that name, or the one that was given."""
    if isinstance(size, Size):
        return size
    if not isinstance(size, str) or size not in SIZES:
        raise ValueError(
            f"`size` must be one of {', '.join(SIZES)}, or a Size, got {size!r}; choose one"
        )
    return SIZES[size]
