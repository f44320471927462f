"""``splic-ext convert``: whole data sets, completed or defended shard by shard."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from splic_ext.cli.console import ConsoleReporter, print_message
from splic_ext.cli.exits import exit_codes
from splic_ext.cli.options import (
    Backend,
    FailuresOnly,
    MaskSeed,
    MaxPixels,
    OptionsFile,
    Preset,
    Quality,
    run_option,
)
from splic_ext.cli.solver_flags import resolve_options, solver_flags

__all__ = ["convert"]


@solver_flags
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder of images, of WebDataset (.tar), Parquet or .npy files, or one of "
            "these; files of CIFAR-10, SVHN or MNIST; or cifar10, svhn, digits, shapes. A path or "
            "a URL, such as s3://bucket/train.",
        ),
    ],
    dest: Annotated[
        str,
        typer.Argument(metavar="DEST", help="A folder or URL; an unfinished conversion goes on."),
    ],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="folder|tar|parquet|npy|cifar10",
            help="What to write. Default: what the source is, of files of arrays npy.",
        ),
    ] = None,
    shard_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Images of a shard. Default: the shards of the source, else 10,000."
        ),
    ] = None,
    defense: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="A defence, such as tv:weight=0.1. Default: SPLIC with the solver options.",
        ),
    ] = None,
    preset: Preset = None,
    options: OptionsFile = None,
    seed: MaskSeed = 0,
    backend: Backend = "auto",
    encode: Annotated[
        str,
        typer.Option(
            metavar="keep|png", help="Whether image files keep their format, or become PNG."
        ),
    ] = "keep",
    quality: Quality = 95,
    max_pixels: MaxPixels = 64_000_000,
    max_bytes: Annotated[
        int,
        typer.Option(
            min=1,
            help="Most bytes of a file in memory, of what a compressed archive unpacks to, and of "
            "a row group of Parquet.",
        ),
    ] = 2**31,
    engine: Annotated[
        str,
        run_option(
            metavar="local|ray",
            help="Processes of this machine, or Ray: the cluster of RAY_ADDRESS, else one that is "
            "started here and stopped at the end.",
        ),
    ] = "local",
    workers: Annotated[
        int | None,
        run_option(min=0, help="Processes. Default: one for each processor. 0: no other process."),
    ] = None,
    threads: Annotated[
        int | None,
        run_option(min=1, help="Threads of the solver in each. Results do not depend on it."),
    ] = None,
    gpus: Annotated[float, run_option(min=0.0, help="GPUs of each worker of Ray.")] = 0.0,
    strict: Annotated[
        bool,
        run_option("--strict", help="End at the first image that cannot be converted."),
    ] = False,
    skip_unreadable: Annotated[
        bool,
        run_option(
            "--skip-unreadable",
            help="List images of a disk that fails, too, and finish their shards without them.",
        ),
    ] = False,
    verify: Annotated[
        bool,
        run_option(
            "--verify", help="Compare DEST with its manifest after that; alone if it is finished."
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        run_option(
            "--overwrite", help="Begin anew where DEST holds another conversion or other files."
        ),
    ] = False,
    quiet: FailuresOnly = False,
    *,
    overrides: dict[str, Any],
) -> None:
    """Complete a data set of any size, shard by shard, with the preset "recommended" or a defence.

    Image number i of SOURCE draws the mask of index i, whatever the shards and workers. A shard
    appears when it is finished: after any end, kill -9 too, the same command goes on, to the same
    bits. What belongs to an image goes along: the other files of its sample, the other columns.

    DEST gets manifest.json, with the SHA-256 of all inputs and outputs, and rejects.jsonl, a line
    for each image that cannot be converted. Exit code: 0 if all shards are there, whatever was
    rejected; 1 if a shard or DEST failed, an image with --strict, or --verify found a difference; 2
    for wrong usage; 130 after Ctrl-C, 143 and 129 after SIGTERM and SIGHUP.
    """
    problems: list[str] = []
    with exit_codes(
        convert,
        interrupted="finished shards are kept; the same command goes on",
        memory="use fewer --workers, or a smaller --shard-size",
        quiet=quiet,
    ):
        from splic_ext.conversion import convert as convert_data
        from splic_ext.conversion import verify as problems_of

        if defense is not None and (overrides or preset or options):
            raise ValueError(
                "--defense and the options of the solver contradict each other; give them in the "
                "SPEC, as splic:recommended:tv_weight=0.05"
            )
        solver = resolve_options(preset, options, overrides)
        with ConsoleReporter(0, quiet=quiet, command=convert, doing="converting") as reporter:
            done = convert_data(
                source,
                dest,
                to=to,
                shard_size=shard_size,
                defense=defense,
                options=solver,
                seed=seed,
                backend=backend,
                encode=encode,
                quality=quality,
                max_pixels=max_pixels,
                max_bytes=max_bytes,
                strict=strict,
                skip_unreadable=skip_unreadable,
                overwrite=overwrite,
                engine=engine,
                workers=workers,
                threads=threads,
                gpus=gpus,
                reporter=reporter,
            )
        if not quiet:
            kept = done.shards - done.made
            print_message(
                f"converted {done.written:,} of {done.images:,} images in {done.shards:,} shards"
                f"{f', {kept:,} of them before' if kept else ''}: {done.dest}"
            )
            if done.rejected:
                print_message(f"{done.rejected:,} images were left out; see rejects.jsonl")
        if verify:
            problems = problems_of(dest)
            for problem in problems:
                print_message(f"error: {problem}")
            if not problems and not quiet:
                print_message("all files are as the manifest says")
    if problems:
        raise typer.Exit(1)
