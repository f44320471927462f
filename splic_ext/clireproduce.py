"""The command ``splic-ext reproduce``: it reads the command line, and leaves the work to others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from splic_ext.cliexit import exit_codes, notes_on_stderr
from splic_ext.clireport import print_message
from splic_ext.clirun import (
    DATA,
    RUN,
    BatchSize,
    Device,
    Draws,
    Quiet,
    Root,
    Seed,
    command_line,
)
from splic_ext.data import load_dataset

__all__ = ["reproduce"]


def reproduce(
    name: Annotated[str, typer.Argument(metavar="NAME", help="table3, table4 or frontier.")],
    cifar10: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|PATH",
            help="CIFAR-10 test images: cifar10, or a path. Repeatable.",
            rich_help_panel=DATA,
        ),
    ] = None,
    cifar10_weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Weights of a ResNet-20.", rich_help_panel=DATA),
    ] = None,
    svhn: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|PATH",
            help="SVHN test images: svhn, or a path. Repeatable.",
            rich_help_panel=DATA,
        ),
    ] = None,
    svhn_weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Weights of the small VGG.", rich_help_panel=DATA),
    ] = None,
    root: Root = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder for NAME.json, NAME.csv, NAME.md, in place of what is there, and, below "
            "work, for finished parts.",
            rich_help_panel=RUN,
        ),
    ] = Path("results"),
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Most images of a data set.", rich_help_panel=RUN),
    ] = None,
    slow_limit: Annotated[
        int,
        typer.Option(
            min=1, help="Most images for attacks of thousands of steps.", rich_help_panel=RUN
        ),
    ] = 500,
    attack: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this attack. Repeatable.", rich_help_panel=RUN),
    ] = None,
    draws: Draws = 10,
    seed: Seed = 0,
    batch_size: BatchSize = 100,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Make a table of the paper anew, its numbers beside the paper's.

    table3 and table4 attack the networks without a defence (gray box); frontier compares SPLIC
    with plain denoising at equal clean accuracy, which the paper does not. Killed or interrupted,
    the same command goes on where it was. Exit codes as for `splic-ext evaluate`.
    """
    with (
        exit_codes(
            "finished parts are kept; the same command goes on", "use a smaller --batch-size"
        ),
        notes_on_stderr(),
    ):
        from splic_ext import evaluation, experiments

        subjects = []
        for kind, network, places, weights in (
            ("cifar10", "resnet20", cifar10, cifar10_weights),
            ("svhn", "svhn_vgg", svhn, svhn_weights),
        ):
            if bool(places) != (weights is not None):
                raise ValueError(f"--{kind} and --{kind}-weights belong together; give both")
            if not places or weights is None:
                continue
            for place in places:
                data = load_dataset(place, "test", root, limit)
                model = evaluation.load_network(network, weights, len(data.classes))
                subjects.append(experiments.Subject(kind, data, model, network))
        result = experiments.reproduce(
            name,
            subjects,
            draws=draws,
            seed=seed,
            limit=limit,
            slow_limit=slow_limit,
            attacks=attack,
            batch_size=batch_size,
            output=out,
            device=device,
            progress=not quiet,
            command=command_line(),
        )
    if not quiet:
        Console().print(Markdown(result.to_markdown()))
        print_message(f"result: {out / name}.json, .csv, .md")
