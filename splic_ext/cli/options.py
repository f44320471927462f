"""Options that several commands share."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

__all__ = [
    "DATASET_HELP",
    "SPLIT_HELP",
    "AsJson",
    "Backend",
    "BatchSize",
    "Device",
    "Draws",
    "Engine",
    "FailuresOnly",
    "Gpus",
    "Images",
    "MaskSeed",
    "MaxPixels",
    "OptionsFile",
    "Overwrite",
    "Preset",
    "Quality",
    "Quiet",
    "ReportFolder",
    "Root",
    "Seed",
    "SkipExisting",
    "Split",
    "Threads",
    "WorkerThreads",
    "Workers",
    "command_line",
    "images_option",
    "run_option",
]

#: Options in the panels of the help that the commands on networks share.
images_option = partial(typer.Option, rich_help_panel="Images")
run_option = partial(typer.Option, rich_help_panel="Run")

#: Of --dataset and --split, for all commands.
DATASET_HELP = (
    "cifar10, svhn, digits, shapes, or a path: to their files, to a folder of one folder for each "
    "class, or to a .npz, .npy, IDX, Parquet or WebDataset (.tar) file, or a folder of these."
)
SPLIT_HELP = (
    "test or train; for SVHN also extra; of your own folders their names. What has no splits is "
    "read in any case."
)

# Of the solver

Preset: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="paper|recommended",
        help="Named solver options; a flag for an option overrides it. Default: recommended.",
    ),
]
OptionsFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--options",
        metavar="FILE.json",
        help="Solver options as SolverOptions.to_json() writes them, instead of --preset.",
    ),
]
MaskSeed: TypeAlias = Annotated[int, typer.Option(min=0, max=2**64 - 1, help="Seed of the masks.")]
Backend: TypeAlias = Annotated[
    str, typer.Option(metavar="NAME", help="auto, or a back end that `splic-ext info` lists.")
]
Threads: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Most threads of the solver. Default: SPLIC_NUM_THREADS, else OMP_NUM_THREADS, else "
        "all processors. Results do not depend on it.",
    ),
]
Overwrite: TypeAlias = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that exist.")
]
SkipExisting: TypeAlias = Annotated[
    bool, typer.Option("--skip-existing", help="Leave out files whose output exists.")
]
Quality: TypeAlias = Annotated[
    int, typer.Option(min=1, max=100, help="Quality of JPEG and lossy WebP.")
]
MaxPixels: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Image files of more pixels are refused unread.")
]
FailuresOnly: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but failures.")
]

# Of data sets, networks and attacks

Images: TypeAlias = Annotated[str, images_option(metavar="NAME|PATH", help=DATASET_HELP)]
Split: TypeAlias = Annotated[str, images_option(help=SPLIT_HELP)]
Root: TypeAlias = Annotated[
    Path | None,
    images_option(
        metavar="FOLDER",
        help="Folder of the official files. Default: SPLIC_DATA, else ~/.cache/splic_ext.",
    ),
]
Draws: TypeAlias = Annotated[
    int, run_option(min=1, help="Fresh draws of the masks for each finished image.")
]
Seed: TypeAlias = Annotated[
    int, run_option(min=0, max=2**64 - 1, help="Seed of attacks and masks.")
]
BatchSize: TypeAlias = Annotated[int, run_option(min=1, help="Images at a time.")]
Device: TypeAlias = Annotated[
    str | None, run_option(metavar="DEVICE", help="cpu, cuda, cuda:1, ...")
]
Engine: TypeAlias = Annotated[
    str,
    run_option(
        metavar="local|ray",
        help="This process, or Ray: the cluster of RAY_ADDRESS, else one that is started here and "
        "stopped at the end. Records do not depend on it.",
    ),
]
Workers: TypeAlias = Annotated[
    int | None,
    run_option(min=1, help="Batches at a time, of Ray. Default: as many as the cluster holds."),
]
WorkerThreads: TypeAlias = Annotated[
    int | None,
    run_option("--threads", min=1, help="Processors of each worker of Ray. Default: 1."),
]
Gpus: TypeAlias = Annotated[
    float, run_option("--gpus", min=0.0, help="GPUs of each worker of Ray.")
]
Quiet: TypeAlias = Annotated[bool, run_option("--quiet", "-q", help="No progress, no table.")]

# Of reports

ReportFolder: TypeAlias = Annotated[
    Path | None,
    run_option(
        "--out",
        "-o",
        metavar="FOLDER",
        help="Folder for the report and for finished parts, which the same command takes up "
        "again. Default: nothing is written.",
    ),
]
AsJson: TypeAlias = Annotated[bool, run_option("--json", help="Print the report as JSON.")]


def command_line() -> str:
    """Return the command as it was typed, for a report."""
    return shlex.join(["splic-ext", *sys.argv[1:]])
