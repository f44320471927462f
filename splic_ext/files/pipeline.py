"""The pipeline from files to files: decode, complete in batches, encode."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from splic_ext.backends import get_backend
from splic_ext.files.arrays import (
    ARRAY_SUFFIXES,
    Calls,
    Progress,
    complete_images,
    complete_npy,
    complete_npz,
)
from splic_ext.files.images import ImageFileError, Picture, no_pillow_limit
from splic_ext.files.plan import Job, is_supported
from splic_ext.files.reporting import Reporter, Tally
from splic_ext.files.settings import JobSettings
from splic_ext.files.work import (
    Loaded,
    Pixels,
    complete_batch,
    complete_group,
    groups_of,
    output_path,
    read,
    write,
)

__all__ = ["run_jobs"]


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
    tally = Tally(reporter)
    with no_pillow_limit():
        pipeline = _Pipeline(settings, tally)
        try:
            for window in pipeline.windows(jobs):
                pipeline.turn(window)
            pipeline.turn([])
            pipeline.turn([])
        finally:
            pipeline.stop()
    return tally.failed


class _Pipeline:
    """The files that are on their way; its methods are called from the main thread.

    While the solver works on one window of pictures, the next is decoded and the one before is
    encoded. Only the solver's threads run long: the main thread waits for them in a way that
    Ctrl-C can interrupt.
    """

    def __init__(self, settings: JobSettings, tally: Tally) -> None:
        self.settings, self.tally = settings, tally
        self.files = ThreadPoolExecutor(settings.n_jobs, "files")
        self.solver = ThreadPoolExecutor(settings.n_threads, "solver")
        self.solving: list[tuple[list[Loaded], Future[list[Pixels | str]]]] = []
        self.writing: list[tuple[Job, Future[None]]] = []

    def stop(self) -> None:
        """Drop what has not begun; wait for files being written, but not for the solver."""
        self.solver.shutdown(wait=False, cancel_futures=True)
        self.files.shutdown(wait=True, cancel_futures=True)

    def windows(self, jobs: Sequence[Job]) -> Iterator[list[Loaded]]:
        """Yield pictures, as many as keep the solver busy; do large files on the way."""
        window: list[Loaded] = []
        share = 0.0
        for job, reading in self._read_ahead(jobs):
            if reading is None:
                self._array(job)
                continue
            try:
                loaded = Loaded(job, reading.result())
            except ImageFileError as error:
                self.tally.fail(job, str(error))
                continue
            if loaded.picture.note is not None:
                self.tally.reporter.note(job.source, loaded.picture.note)
            if loaded.is_large:
                self._large(loaded)
                continue
            window.append(loaded)
            share += loaded.share(self.settings.n_threads)
            if share >= 1:
                yield window
                window, share = [], 0.0
        yield window

    def turn(self, window: list[Loaded]) -> None:
        """Wait for the window being solved, start the next, write the former."""
        solved = [(group, future.result()) for group, future in self.solving]
        self.solving = []
        for group in groups_of(window):
            threads = max(1, self.settings.n_threads * len(group) // len(window))
            future = self.solver.submit(complete_group, group, threads, self.settings)
            self.solving.append((group, future))
        for job, writing in self.writing:
            with self.tally.file(job):
                writing.result()
        self.writing = []
        for group, results in solved:
            for loaded, completed in zip(group, results, strict=True):
                if isinstance(completed, str):
                    self.tally.fail(loaded.job, completed)
                else:
                    done = self.files.submit(write, loaded, completed, self.settings.overwrite)
                    self.writing.append((loaded.job, done))

    def _read_ahead(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Future[Picture] | None]]:
        """Yield the jobs in order, with images being decoded a few files ahead."""
        queue: deque[tuple[Job, Future[Picture] | None]] = deque()
        for job in jobs:
            if not is_supported(job.source):
                self.tally.fail(job, f"unknown suffix {job.source.suffix!r}")
                continue
            array = job.source.suffix.lower() in ARRAY_SUFFIXES
            queue.append((job, None if array else self.files.submit(read, job, self.settings)))
            if len(queue) > 2 * self.settings.n_jobs:
                yield queue.popleft()
        yield from queue

    def _large(self, loaded: Loaded) -> None:
        """Complete an image tile by tile."""
        picture = loaded.picture
        target = np.empty_like(picture.pixels)
        planes, into = (np.moveaxis(p, -1, 0)[None] for p in (picture.pixels, target))
        with self.tally.pieces(loaded.job) as progress:
            complete_images(planes, into, self._calls(loaded.job, picture.data_range, progress))
            write(loaded, target, self.settings.overwrite)

    def _array(self, job: Job) -> None:
        """Complete an array file, piece by piece."""
        settings = self.settings
        with self.tally.pieces(job) as progress:
            calls = self._calls(job, settings.data_range, progress)
            with output_path(job, settings.overwrite) as temporary:
                files, axis = (job.source, temporary), settings.channel_axis
                if job.source.suffix.lower() == ".npy":
                    notes = complete_npy(*files, calls, axis)
                else:
                    notes = complete_npz(*files, calls, axis, settings.max_bytes)
            for text in notes:
                self.tally.reporter.note(job.source, text)

    def _calls(self, job: Job, data_range: float | None, progress: Progress) -> Calls:
        """Return how the pieces of a file are completed: one after the other, each waited for."""
        threads = self.settings.n_threads

        def solve(batch: Pixels, first_index: int) -> Pixels:
            last = np.moveaxis(batch, 1, -1)
            future = self.solver.submit(
                complete_batch, last, first_index, threads, data_range, self.settings
            )
            return np.moveaxis(future.result(), -1, 1)

        return Calls(solve, job.index, progress, threads)
