"""The pipeline from files to files: decode, complete in batches, encode."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from splic_ext.atomic import atomic_path
from splic_ext.backends import get_backend
from splic_ext.checks import check_integer, check_number
from splic_ext.completion import MAX_THREADS, complete, default_threads
from splic_ext.files.arrays import (
    ARRAY_SUFFIXES,
    Progress,
    complete_images,
    complete_npy,
    complete_npz,
    images_per_call,
)
from splic_ext.files.images import (
    ImageFileError,
    Picture,
    encode_picture,
    no_pillow_limit,
    read_picture,
)
from splic_ext.files.plan import Job, is_supported
from splic_ext.options import MAX_SIDE, SolverOptions

__all__ = ["JobSettings", "Reporter", "run_jobs"]

Pixels = npt.NDArray[Any]


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

    def __post_init__(self) -> None:
        check_integer("seed", self.seed, 0, 2**64 - 1)
        check_integer("threads", self.n_threads, 1, MAX_THREADS)
        check_integer("jobs", self.n_jobs, 1, 1024)
        check_integer("quality", self.quality, 1, 100)
        check_integer("max_pixels", self.max_pixels, 1, 2**63 - 1)
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


class Reporter(Protocol):
    """Hears how a run goes, from one thread."""

    def expect(self, images: float) -> None:
        """Expect that many images more; at first, one for each file."""

    def advance(self, images: float) -> None:
        """Count images, or parts of a large one, as done."""

    def note(self, path: Path, text: str) -> None:
        """Tell of a file that was read in an unexpected way."""

    def fail(self, path: Path, reason: str) -> None:
        """Tell of a file that was not completed."""


def run_jobs(jobs: Sequence[Job], settings: JobSettings, reporter: Reporter) -> int:
    """Complete files. A file that fails is reported, and the rest go on.

    The result of a file depends on its content, its index and the options; neither on the files
    around it nor on the number of threads. Every output appears at once, when it is finished.

    Parameters
    ----------
    jobs : sequence of Job
        In the order of their indices.
    settings : JobSettings
        How to complete them.
    reporter : Reporter
        Hears of progress and failures.

    Returns
    -------
    int
        Number of files that failed.

    Raises
    ------
    ValueError, BackendUnavailableError
        The back end is unknown, or cannot run here.
    """
    get_backend(settings.backend, "cpu")
    with no_pillow_limit():
        run = _Run(settings, reporter)
        try:
            run.all(jobs)
        finally:
            run.stop()
    return run.failed


@dataclass
class _Loaded:
    job: Job
    picture: Picture

    @property
    def kind(self) -> tuple[Any, ...]:
        """Equal for pictures that one call of the solver takes."""
        pixels = self.picture.pixels
        return pixels.shape, pixels.dtype, self.picture.data_range


@dataclass
class _Run:
    """One run of the pipeline; its methods are called from the main thread.

    While the solver works on one window of pictures, the next is decoded and the one before is
    encoded. Only the solver's threads run long: the main thread waits for them in a way that
    Ctrl-C can interrupt.
    """

    settings: JobSettings
    reporter: Reporter
    failed: int = 0
    solving: list[tuple[list[_Loaded], Future[list[Pixels | str]]]] = field(default_factory=list)
    writing: list[tuple[Job, Future[None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.files = ThreadPoolExecutor(self.settings.n_jobs, "files")
        self.solver = ThreadPoolExecutor(self.settings.n_threads, "solver")

    def stop(self) -> None:
        """Drop what has not begun; wait for files being written, but not for the solver."""
        self.solver.shutdown(wait=False, cancel_futures=True)
        self.files.shutdown(wait=True, cancel_futures=True)

    def all(self, jobs: Sequence[Job]) -> None:
        window: list[_Loaded] = []
        share = 0.0
        for job, reading in self._read_ahead(jobs):
            if reading is None:
                self._array(job)
                continue
            try:
                picture = reading.result()
            except ImageFileError as error:
                self._fail(job, str(error))
                continue
            if picture.note is not None:
                self.reporter.note(job.source, picture.note)
            if max(picture.pixels.shape[:2]) > MAX_SIDE:
                self._large(_Loaded(job, picture))
                continue
            window.append(_Loaded(job, picture))
            height, width, channels = picture.pixels.shape
            share += 1 / images_per_call(channels, height, width, self.settings.n_threads)
            if share >= 1:
                self._turn(window)
                window, share = [], 0.0
        self._turn(window)
        self._turn([])
        self._turn([])

    def _read_ahead(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Future[Picture] | None]]:
        """Yield the jobs in order, with images being decoded a few files ahead."""
        queue: deque[tuple[Job, Future[Picture] | None]] = deque()
        for job in jobs:
            if not is_supported(job.source):
                self._fail(job, f"unknown suffix {job.source.suffix!r}")
                continue
            array = job.source.suffix.lower() in ARRAY_SUFFIXES
            queue.append((job, None if array else self.files.submit(self._read, job)))
            if len(queue) > 2 * self.settings.n_jobs:
                yield queue.popleft()
        yield from queue

    def _read(self, job: Job) -> Picture:
        settings = self.settings
        return read_picture(
            job.source,
            max_pixels=settings.max_pixels,
            quality=settings.quality,
            data_range=settings.data_range,
        )

    def _turn(self, window: list[_Loaded]) -> None:
        """Wait for the window being solved, start the next, write the former."""
        solved = [(group, future.result()) for group, future in self.solving]
        self.solving = [
            (group, self.solver.submit(self._solve_group, group, threads))
            for group, threads in self._groups(window)
        ]
        for job, write in self.writing:
            self._finish(job, write)
        self.writing = []
        for group, results in solved:
            for loaded, completed in zip(group, results, strict=True):
                if isinstance(completed, str):
                    self._fail(loaded.job, completed)
                else:
                    write = self.files.submit(self._write, loaded, completed)
                    self.writing.append((loaded.job, write))

    def _groups(self, window: list[_Loaded]) -> Iterator[tuple[list[_Loaded], int]]:
        """Split a window into runs of one kind and consecutive indices; share out the threads."""
        groups: list[list[_Loaded]] = []
        for loaded in window:
            last = groups[-1][-1] if groups else None
            if (
                last is not None
                and loaded.job.index == last.job.index + 1
                and loaded.kind == last.kind
            ):
                groups[-1].append(loaded)
            else:
                groups.append([loaded])
        for group in groups:
            yield group, max(1, self.settings.n_threads * len(group) // len(window))

    def _solve_group(self, group: list[_Loaded], threads: int) -> list[Pixels | str]:
        """Complete pictures of one kind; on failure one by one, so that only the culprits fail."""
        picture = group[0].picture
        try:
            batch = np.stack([loaded.picture.pixels for loaded in group])
            completed = self._complete(
                batch,
                first_index=group[0].job.index,
                threads=threads,
                channel_axis=-1,
                data_range=picture.data_range,
            )
            return list(completed)
        except Exception as error:  # whatever it is, the other files go on
            if len(group) == 1:
                return [_reason(error)]
            return [result for one in group for result in self._solve_group([one], threads)]

    def _complete(self, batch: Pixels, **arguments: Any) -> Pixels:
        settings = self.settings
        completed: Pixels = complete(
            batch,
            options=settings.options,
            seed=settings.seed,
            backend=settings.backend,
            **arguments,
        )
        return completed

    def _solve(self, batch: Pixels, first_index: int, *, data_range: float | None) -> Pixels:
        """Complete one piece of a large image or an array, and wait for it."""
        completed = self.solver.submit(
            self._complete,
            np.moveaxis(batch, 1, -1),
            first_index=first_index,
            threads=self.settings.n_threads,
            channel_axis=-1,
            data_range=data_range,
        ).result()
        return np.moveaxis(completed, -1, 1)

    def _large(self, loaded: _Loaded) -> None:
        """Complete an image tile by tile."""
        picture = loaded.picture
        target = np.empty_like(picture.pixels)
        self.reporter.expect(-1)
        with self._tracked(loaded.job) as progress:
            complete_images(
                np.moveaxis(picture.pixels, -1, 0)[None],
                np.moveaxis(target, -1, 0)[None],
                partial(self._solve, data_range=picture.data_range),
                loaded.job.index,
                progress,
                self.settings.n_threads,
            )
            self._write(loaded, target)

    def _array(self, job: Job) -> None:
        """Complete an array file, piece by piece."""
        settings = self.settings
        run = complete_npy if job.source.suffix.lower() == ".npy" else complete_npz
        self.reporter.expect(-1)
        with self._tracked(job) as progress:
            with atomic_path(job.target, overwrite=settings.overwrite) as temporary:
                found = run(
                    job.source,
                    temporary,
                    partial(self._solve, data_range=settings.data_range),
                    first_index=job.index,
                    channel_axis=settings.channel_axis,
                    progress=progress,
                    threads=settings.n_threads,
                )
            for text in found:
                self.reporter.note(job.source, text)

    @contextmanager
    def _tracked(self, job: Job) -> Iterator[Progress]:
        """Pass progress on to the reporter; on failure take it back, and report the file."""
        total = np.zeros(2)

        def progress(found: int, done: float) -> None:
            total[:] += (found, done)
            self.reporter.expect(found)
            self.reporter.advance(done)

        try:
            yield progress
        except Exception as error:  # whatever it is, the other files go on
            self.reporter.expect(1 - float(total[0]))
            self.reporter.advance(-float(total[1]))
            self._fail(job, _reason(error))

    def _write(self, loaded: _Loaded, completed: Pixels) -> None:
        with (
            atomic_path(loaded.job.target, overwrite=self.settings.overwrite) as temporary,
            temporary.open("xb") as stream,
        ):
            encode_picture(loaded.picture, completed, stream)

    def _finish(self, job: Job, write: Future[None]) -> None:
        try:
            write.result()
        except Exception as error:  # whatever it is, the other files go on
            self._fail(job, _reason(error))
        else:
            self.reporter.advance(1)

    def _fail(self, job: Job, reason: str) -> None:
        self.failed += 1
        self.reporter.expect(-1)
        self.reporter.fail(job.source, reason)


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, FileExistsError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
