"""The commands of ``splic-ext``: they read the command line, and leave the work to others."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from splic_ext import __version__
from splic_ext.cli.attack import attack
from splic_ext.cli.certify import certify
from splic_ext.cli.console import (
    ConsoleReporter,
    demo_tables,
    installation_tables,
    print_tables,
    printable,
)
from splic_ext.cli.convert import convert
from splic_ext.cli.defend import defend
from splic_ext.cli.demo import run_demo, save_picture
from splic_ext.cli.evaluate import evaluate
from splic_ext.cli.exits import exit_codes
from splic_ext.cli.inpaint import inpaint
from splic_ext.cli.options import (
    Backend,
    FailuresOnly,
    MaskSeed,
    MaxPixels,
    OptionsFile,
    Overwrite,
    Preset,
    Quality,
    SkipExisting,
    Threads,
)
from splic_ext.cli.report import report
from splic_ext.cli.reproduce import reproduce
from splic_ext.cli.solver_flags import resolve_options, solver_flags
from splic_ext.cli.train import train
from splic_ext.diagnostics import describe_installation
from splic_ext.files.pipeline import run_jobs
from splic_ext.files.plan import left_out, plan_jobs
from splic_ext.files.settings import JobSettings

__all__ = ["app"]

app = typer.Typer(
    name="splic-ext",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"splic-ext {__version__}")
        raise typer.Exit


@app.callback()
def splic_ext(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Clean images of texture and adversarial noise by low-rank completion (SPLIC)."""


@app.command()
@solver_flags
def complete(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Files (PNG, JPEG, WebP, BMP, TIFF, .npy, .npz), folders, or quoted glob "
            "patterns of files.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            help="Output folder: a file keeps its name there, a folder its inner paths. For one "
            "input file also an output file of the same format.",
        ),
    ],
    preset: Preset = None,
    options: OptionsFile = None,
    seed: MaskSeed = JobSettings.seed,
    backend: Backend = JobSettings.backend,
    threads: Threads = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="Threads that read and write files. Default: one for each processor, at most 8.",
        ),
    ] = None,
    channel_axis: Annotated[
        int, typer.Option(help="Channel axis of arrays of 3 or 4 axes: -3 (first) or -1 (last).")
    ] = JobSettings.channel_axis,
    data_range: Annotated[
        float | None,
        typer.Option(
            help="Largest value of arrays and floating-point TIFF. Default: 255 for uint8, else 1."
        ),
    ] = None,
    quality: Quality = JobSettings.quality,
    max_pixels: MaxPixels = JobSettings.max_pixels,
    max_bytes: Annotated[
        int, typer.Option(min=1, help="Archives (.npz) that unpack to more are refused unread.")
    ] = JobSettings.max_bytes,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    quiet: FailuresOnly = False,
    *,
    overrides: dict[str, Any],
) -> None:
    """Complete image and array files, with the preset "recommended" unless told otherwise.

    An image keeps its format, mode, EXIF, colour profile and resolution; JPEG and WebP also keep
    XMP. Alpha passes through untouched, and palette images become RGB. Arrays are what
    splic_ext.complete takes: (H, W), (C, H, W) or (N, C, H, W). In a .npz archive the arrays of 3
    or 4 axes of uint8, float16, float32 or float64 are completed, and others copied.

    All inputs are sorted by output path, and file number i draws the mask of first_index=i: the
    same command gives the same result. The images of an array, and the tiles of a large image,
    count on from there.

    The solver takes sides of 1 to 512 pixels: larger images are cut into near-equal tiles of at
    most 512, without overlap, and completed tile by tile.

    Files that fail are named, and the others go on. Exit code: 0, 1 if a file failed, 2 for wrong
    usage, 130 after Ctrl-C, 143 and 129 after SIGTERM and SIGHUP. An output appears at once, when
    it is finished; what killed runs have left unfinished beside it is removed.
    """
    resume = "run it again" if overwrite else "--skip-existing completes the others"
    interrupted = f"files that are there are complete; {resume}"
    with exit_codes(complete, interrupted=interrupted, quiet=quiet):
        settings = JobSettings(
            options=resolve_options(preset, options, overrides),
            seed=seed,
            backend=backend,
            threads=threads,
            jobs=jobs,
            channel_axis=channel_axis,
            data_range=data_range,
            quality=quality,
            max_pixels=max_pixels,
            max_bytes=max_bytes,
            overwrite=overwrite,
        )
        plan = plan_jobs(inputs, out, overwrite=overwrite, skip_existing=skip_existing)
        plan.clean()
        with ConsoleReporter(len(plan), quiet=quiet, command=complete) as reporter:
            for path, reason in left_out(inputs):
                reporter.note(path, reason)
            failed = run_jobs(plan, settings, reporter)
        reporter.summary(failed)
    if failed:
        raise typer.Exit(1)


@app.command()
def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show versions, back ends and what this processor can do."""
    with exit_codes():
        description = describe_installation(__version__)
    if as_json:
        typer.echo(json.dumps(description, indent=2))
    else:
        print_tables(*installation_tables(description))


demos = typer.Typer(invoke_without_command=True, rich_markup_mode="rich")


@demos.callback()
@solver_flags
def demo(
    context: typer.Context,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The picture to write.")
    ] = Path("demo.png"),
    size: Annotated[int, typer.Option(min=32, max=512, help="Side of the photos in pixels.")] = 224,
    noise: Annotated[
        float, typer.Option(min=0.0, help="Standard deviation of the noise, on a scale of [0, 1].")
    ] = 0.1,
    preset: Preset = None,
    options: OptionsFile = None,
    seed: MaskSeed = 0,
    backend: Backend = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    *,
    overrides: dict[str, Any],
) -> None:
    """Complete noisy photographs, with the preset "recommended" unless told otherwise.

    A picture shows them before and after; scores are printed. The photographs come with
    scikit-image; nothing is downloaded.

    `splic-ext demo defend` is another demonstration, with options of its own.
    """
    if context.invoked_subcommand is not None:
        _only_after(context)
        return
    with exit_codes(demo, interrupted="no picture was written"):
        solver = resolve_options(preset, options, overrides)
        with save_picture(out, overwrite=overwrite) as save:
            result = run_demo(
                solver, size=size, sigma=noise, seed=seed, backend=backend, threads=threads
            )
            save(result.picture)
    print_tables(*demo_tables(result))
    typer.echo(printable(f"before and after: {out}"))


def _only_after(context: typer.Context) -> None:
    """End with a message if options stand before the name of the other demonstration."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            command = context.invoked_subcommand
            context.fail(f"`{name}` is of `demo` alone; give options of `{command}` after its name")


demos.command()(defend)
app.add_typer(demos, name="demo")
app.command()(convert)
app.command()(attack)
app.command()(inpaint)
app.command()(certify)
app.command()(evaluate)
app.command()(reproduce)
app.command()(report)
app.command()(train)

for _command in (*app.registered_commands, *demos.registered_commands):
    # Lines of a paragraph flow into each other, whatever the width of the terminal.
    _paragraphs = (inspect.getdoc(_command.callback) or "").split("\n\n")
    _command.help = "\n\n".join(" ".join(text.split()) for text in _paragraphs)
