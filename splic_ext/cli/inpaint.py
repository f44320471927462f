"""``splic-ext inpaint``: holes of pictures, marked by mask files, are filled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from splic_ext.cli.console import ConsoleReporter
from splic_ext.cli.exits import exit_codes
from splic_ext.cli.options import (
    Backend,
    FailuresOnly,
    MaxPixels,
    OptionsFile,
    Overwrite,
    Quality,
    SkipExisting,
    Threads,
)
from splic_ext.cli.solver_flags import resolve_options, solver_flags
from splic_ext.files.holes import check_masks, inpaint_jobs
from splic_ext.files.plan import left_out, plan_jobs
from splic_ext.files.settings import JobSettings
from splic_ext.inpainting.picture import single_pass

__all__ = ["inpaint"]


@solver_flags
def inpaint(
    photo: Annotated[
        str,
        typer.Argument(metavar="PHOTO", help="A picture (PNG, JPEG, WebP, BMP, TIFF) or a folder."),
    ],
    mask: Annotated[
        Path,
        typer.Option(
            "--mask",
            "-m",
            metavar="MASK",
            help="A picture of the same size, white where PHOTO is to be filled; for a folder also "
            "a folder, with a mask for each photo under its name, whatever the suffix.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            help="Output folder, or for one photo an output file of the same format.",
        ),
    ],
    invert: Annotated[
        bool, typer.Option("--invert", help="Fill what is black in the mask, not what is white.")
    ] = False,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="inpaint|refine|holes",
            help="Named solver options of one pass; a flag for an option overrides it. Default: "
            "inpaint.",
        ),
    ] = None,
    options: OptionsFile = None,
    backend: Backend = JobSettings.backend,
    threads: Threads = None,
    data_range: Annotated[
        float | None,
        typer.Option(help="Largest value of floating-point TIFF. Default: 1."),
    ] = None,
    quality: Quality = JobSettings.quality,
    max_pixels: MaxPixels = JobSettings.max_pixels,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    quiet: FailuresOnly = False,
    *,
    overrides: dict[str, Any],
) -> None:
    """Fill the holes of pictures, with the preset "inpaint": a smooth surface, then completion.

    White pixels of the mask are filled, from the others alone; these come back bit for bit, but
    for what a lossy format does to them. Values of at least half of the range count as white. A
    picture keeps its format, mode, metadata and alpha, as in the command complete.

    Files that fail are named, and the others go on. Exit code: 0, 1 if a file failed, 2 for wrong
    usage, 130 after Ctrl-C, 143 and 129 after SIGTERM and SIGHUP. An output appears at once, when
    it is finished.
    """
    resume = "run it again" if overwrite else "--skip-existing does the others"
    interrupted = f"files that are there are complete; {resume}"
    with exit_codes(inpaint, interrupted=interrupted, quiet=quiet):
        default = "inpaint" if preset is None and options is None else preset
        settings = JobSettings(
            options=single_pass(resolve_options(default, options, overrides)),
            backend=backend,
            threads=threads,
            data_range=data_range,
            quality=quality,
            max_pixels=max_pixels,
            overwrite=overwrite,
        )
        check_masks(photo, mask)
        plan = plan_jobs([photo], out, overwrite=overwrite, skip_existing=skip_existing)
        plan.clean()
        with ConsoleReporter(
            len(plan), quiet=quiet, command=inpaint, doing="inpainting", done="inpainted"
        ) as reporter:
            for path, reason in left_out([photo]):
                reporter.note(path, reason)
            failed = inpaint_jobs(plan, Path(photo), mask, settings, reporter, invert=invert)
        reporter.summary(failed)
    if failed:
        raise typer.Exit(1)
