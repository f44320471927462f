"""Options that the commands on networks share."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

__all__ = [
    "DATA",
    "RUN",
    "BatchSize",
    "Device",
    "Draws",
    "Quiet",
    "Root",
    "Seed",
    "command_line",
]

#: Panels of the help.
DATA, RUN = "Images", "Run"

Root: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder of the official files. Default: SPLIC_DATA, else ~/.cache/splic_ext.",
        rich_help_panel=DATA,
    ),
]
Draws: TypeAlias = Annotated[
    int,
    typer.Option(
        min=1, help="Fresh draws of the masks for each finished image.", rich_help_panel=RUN
    ),
]
Seed: TypeAlias = Annotated[
    int,
    typer.Option(min=0, max=2**64 - 1, help="Seed of attacks and masks.", rich_help_panel=RUN),
]
BatchSize: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Images at a time.", rich_help_panel=RUN)
]
Device: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:1, ...", rich_help_panel=RUN),
]
Quiet: TypeAlias = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No progress bar, no table.", rich_help_panel=RUN),
]


def command_line() -> str:
    """Return the command as it was typed, for a report."""
    return shlex.join(["splic-ext", *sys.argv[1:]])
