"""Pictures with holes that mask files mark: read, inpainted, written, one after the other."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.files.images import IMAGE_SUFFIXES, ImageFileError, no_pillow_limit, read_picture
from splic_ext.files.plan import Job, PlanError
from splic_ext.files.reporting import Reporter, Tally
from splic_ext.files.settings import JobSettings
from splic_ext.files.work import Loaded, output_path, read, write
from splic_ext.inpainting.picture import inpaint, single_pass

__all__ = ["check_masks", "inpaint_jobs"]

#: Values nearer to black or white than this share of the range are meant as such.
CLEAR = 0.1


def check_masks(photo: str, masks: Path) -> None:
    """Raise unless the masks go with the photos: a file with any, a folder with a folder."""
    if not masks.exists():
        raise PlanError(f"the mask '{masks}' does not exist; check its path")
    if masks.is_dir() and not Path(photo).is_dir():
        raise PlanError(
            f"the masks '{masks}' are a folder, but the photo {photo!r} is not; name the mask of "
            "the photo, or a folder of photos"
        )


def inpaint_jobs(
    jobs: Sequence[Job],
    photos: Path,
    masks: Path,
    settings: JobSettings,
    reporter: Reporter,
    *,
    invert: bool = False,
) -> int:
    """Inpaint pictures. One that fails is reported, and the rest go on.

    Parameters
    ----------
    jobs : sequence of Job
        The pictures and their outputs.
    photos, masks : Path
        A file and its mask; a folder and one mask for all; or two folders, in which a picture and
        its mask have the same inner path, but for the suffix.
    settings : JobSettings
        How to do it; options of one pass.
    reporter : Reporter
        Hears of progress and failures.
    invert : bool, default False
        Fill what is black in the masks, not what is white.

    Returns
    -------
    int
        Number of files that failed.

    Raises
    ------
    ValueError, BackendUnavailableError
        Options of two passes, or a back end that cannot run here.
    """
    single_pass(settings.options)
    tally = Tally(reporter)
    with no_pillow_limit():
        for job in jobs:
            with tally.file(job):
                _inpaint(job, _mask_of(job.source, photos, masks), settings, reporter, invert)
    return tally.failed


def _mask_of(source: Path, photos: Path, masks: Path) -> Path | None:
    """Return the mask of a picture; None if there is none."""
    if not masks.is_dir():
        return masks
    same = masks / source.relative_to(photos)
    others = [same.with_suffix(suffix) for suffix in IMAGE_SUFFIXES]
    return next((path for path in (same, *others) if path.is_file()), None)


def _inpaint(
    job: Job, mask: Path | None, settings: JobSettings, reporter: Reporter, invert: bool
) -> None:
    """Inpaint one picture, or raise."""
    if job.source.suffix.lower() not in IMAGE_SUFFIXES:
        raise ImageFileError("is no image; inpaint arrays with splic_ext.inpaint in Python")
    if mask is None:
        raise ImageFileError("has no mask of its name in the folder of the masks")
    picture = read(job, settings)
    if picture.note is not None:
        reporter.note(job.source, picture.note)
    white, gray = _white(mask, settings)
    visible = white if invert else ~white
    sides = picture.pixels.shape[:2]
    if visible.shape != sides:
        raise ImageFileError(
            f"its mask '{mask}' is {visible.shape[1]} x {visible.shape[0]} pixels, expected the "
            f"size of the photo, {sides[1]} x {sides[0]}; resize one of them"
        )
    if not visible.any():
        raise ImageFileError(
            f"its mask '{mask}' hides every pixel, so that nothing is left to fill them from; "
            "`invert=True` fills what is black"
        )
    if gray:
        reporter.note(mask, "has gray values: those of at least half count as white")
    if visible.all():
        reporter.note(job.source, f"its mask '{mask}' marks nothing to fill; the file is copied")
        with output_path(job, settings.overwrite) as temporary:
            shutil.copyfile(job.source, temporary)
        return
    if picture.format == "JPEG" or picture.save_options.get("lossless") is False:
        text = f"{picture.format} is lossy: visible pixels change a little when it is written"
        reporter.note(job.source, text)
    filled = inpaint(
        picture.pixels,
        visible,
        options=settings.options,
        backend=settings.backend,
        threads=settings.n_threads,
        channel_axis=-1,
        data_range=picture.data_range,
    )
    write(Loaded(job, picture), filled, settings.overwrite)


def _white(mask: Path, settings: JobSettings) -> tuple[npt.NDArray[np.bool_], bool]:
    """Return where a mask is white, and whether it has values between black and white."""
    try:
        picture = read_picture(mask, max_pixels=settings.max_pixels)
    except ImageFileError as error:
        raise ImageFileError(f"its mask '{mask}' cannot be used: {error}") from error
    values: npt.NDArray[Any] = picture.pixels.mean(axis=-1, dtype=np.float64)
    if picture.mode == "CMYK":
        values = 255 - values
    values /= 255 if picture.pixels.dtype == np.uint8 else 1
    between = (values > CLEAR) & (values < 1 - CLEAR)
    return values >= 0.5, bool(between.any())
