"""How files are completed."""

from __future__ import annotations

import os
from dataclasses import dataclass

from splic_ext.common.checks import check_integer, check_number
from splic_ext.completion import MAX_THREADS, default_threads
from splic_ext.data.npz import MAX_BYTES
from splic_ext.options import SolverOptions

__all__ = ["JobSettings"]


@dataclass(frozen=True)
class JobSettings:
    """How files are completed.

    Parameters
    ----------
    options : SolverOptions
        Of the solver.
    seed : int, default 0
        Of the masks.
    backend : str, default "auto"
        As in :func:`splic_ext.complete`.
    threads : int, optional
        Most threads of the solver; default :func:`splic_ext.completion.default_threads`.
    jobs : int, optional
        Threads that read and write files; default: one for each processor, at most 8.
    channel_axis, data_range
        Of array files, as in :func:`splic_ext.complete`; the data range of floating-point
        images too.
    quality : int, default 95
        Of JPEG and lossy WebP files, 1 to 100.
    max_pixels : int, default 64 million
        Larger image files are refused.
    overwrite : bool, default False
        Whether outputs may exist.
    max_bytes : int, default 2**31
        Archives of arrays that unpack to more are refused.

    Raises
    ------
    TypeError, ValueError
        A value of the wrong kind or out of its range.
    """

    options: SolverOptions
    seed: int = 0
    backend: str = "auto"
    threads: int | None = None
    jobs: int | None = None
    channel_axis: int = -3
    data_range: float | None = None
    quality: int = 95
    max_pixels: int = 64_000_000
    overwrite: bool = False
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        check_integer("seed", self.seed, 0, 2**64 - 1)
        check_integer("threads", self.n_threads, 1, MAX_THREADS)
        check_integer("jobs", self.n_jobs, 1, 1024)
        check_integer("quality", self.quality, 1, 100)
        check_integer("max_pixels", self.max_pixels, 1, 2**63 - 1)
        check_integer("max_bytes", self.max_bytes, 1, 2**63 - 1)
        if self.channel_axis not in (-3, -1):
            raise ValueError(
                "`channel_axis` must be -3 (channel first) or -1 (channel last), got "
                f"{self.channel_axis!r}"
            )
        if self.data_range is not None:
            check_number("data_range", self.data_range, 0.0, above=True)

    @property
    def n_threads(self) -> int:
        """Most threads of the solver."""
        return default_threads() if self.threads is None else self.threads

    @property
    def n_jobs(self) -> int:
        """Threads that read and write files."""
        return min(8, os.cpu_count() or 1) if self.jobs is None else self.jobs
