"""What is done to a file, on whatever thread: read it, complete it, write it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.common.atomic import atomic_path
from splic_ext.completion import complete
from splic_ext.files.arrays import images_per_call
from splic_ext.files.images import Picture, encode_picture, read_picture
from splic_ext.files.plan import Job
from splic_ext.files.reporting import OutputError, reason_of
from splic_ext.files.settings import JobSettings
from splic_ext.options import MAX_SIDE

__all__ = [
    "Loaded",
    "Pixels",
    "complete_batch",
    "complete_group",
    "groups_of",
    "output_path",
    "read",
    "write",
]

Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Loaded:
    """A decoded image file."""

    job: Job
    picture: Picture

    @property
    def is_large(self) -> bool:
        """Whether it has to be completed tile by tile."""
        return any(side > MAX_SIDE for side in self.picture.pixels.shape[:2])

    def share(self, threads: int) -> float:
        """Return how much of a call of the solver it takes."""
        height, width, channels = self.picture.pixels.shape
        return 1 / images_per_call(channels, height, width, threads)

    def follows(self, other: Loaded) -> bool:
        """Whether one call of the solver takes both, and draws their masks."""
        return self.job.index == other.job.index + 1 and self._kind() == other._kind()

    def _kind(self) -> tuple[Any, ...]:
        pixels = self.picture.pixels
        return pixels.shape, pixels.dtype, self.picture.data_range


def read(job: Job, settings: JobSettings) -> Picture:
    """Decode an image file."""
    return read_picture(
        job.source,
        max_pixels=settings.max_pixels,
        quality=settings.quality,
        data_range=settings.data_range,
    )


def groups_of(pictures: Sequence[Loaded]) -> list[list[Loaded]]:
    """Split pictures into what one call of the solver takes each."""
    groups: list[list[Loaded]] = []
    for loaded in pictures:
        if groups and loaded.follows(groups[-1][-1]):
            groups[-1].append(loaded)
        else:
            groups.append([loaded])
    return groups


def complete_batch(
    batch: Pixels, first_index: int, threads: int, data_range: float | None, settings: JobSettings
) -> Pixels:
    """Complete a batch of shape (N, H, W, C)."""
    completed: Pixels = complete(
        batch,
        options=settings.options,
        seed=settings.seed,
        first_index=first_index,
        backend=settings.backend,
        threads=threads,
        channel_axis=-1,
        data_range=data_range,
    )
    return completed


def complete_group(
    group: Sequence[Loaded], threads: int, settings: JobSettings
) -> list[Pixels | str]:
    """Complete pictures of one kind; on failure one by one, so that only the culprits fail."""
    first = group[0]
    try:
        batch = np.stack([loaded.picture.pixels for loaded in group])
        return list(
            complete_batch(batch, first.job.index, threads, first.picture.data_range, settings)
        )
    except Exception as error:  # whatever it is, the other files go on
        if len(group) == 1:
            return [reason_of(error)]
        return [result for one in group for result in complete_group([one], threads, settings)]


@contextmanager
def output_path(job: Job, overwrite: bool) -> Iterator[Path]:
    """Give a temporary path for the output; what goes wrong there is said of it."""
    try:
        with atomic_path(job.target, overwrite=overwrite) as temporary:
            yield temporary
    except OSError as error:
        if error.strerror is None:  # a message of our own
            raise
        place = f": '{error.filename}'" if error.filename not in (None, str(job.target)) else ""
        reason = f"{error.strerror}{place} (the output cannot be written)"
        raise OutputError(reason) from error


def write(loaded: Loaded, completed: Pixels, overwrite: bool) -> None:
    """Encode completed pixels into the output of the file."""
    with output_path(loaded.job, overwrite) as temporary, temporary.open("wb") as stream:
        encode_picture(loaded.picture, completed, stream)
