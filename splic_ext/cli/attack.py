"""The command ``splic-ext attack``: it reads the command line, and leaves the work to others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from splic_ext.cli.console import print_markdown, print_message
from splic_ext.cli.exits import exit_codes, notes_on_stderr
from splic_ext.cli.groups import reading_flags
from splic_ext.cli.networks import (
    Classes,
    Mean,
    Model,
    Std,
    Surrogate,
    SurrogateWeights,
    Weights,
    load,
    load_surrogate,
)
from splic_ext.cli.options import (
    BatchSize,
    Device,
    Draws,
    Engine,
    Gpus,
    Images,
    Quiet,
    Root,
    Seed,
    Split,
    Workers,
    WorkerThreads,
    command_line,
    images_option,
    run_option,
)
from splic_ext.common.optional import needed
from splic_ext.data import load_dataset

if TYPE_CHECKING:
    from splic_ext.experiments import ExperimentResult

__all__ = ["attack", "show_protocol"]


@reading_flags
def attack(
    *,
    dataset: Images,
    model: Model,
    defense: Annotated[
        str,
        run_option(
            metavar="SPEC",
            help="The defence, such as splic (preset paper), splic:recommended, tv:weight=0.1 or "
            "your own as file.py:Class:option=value; a+b is b after a.",
        ),
    ],
    out: Annotated[
        Path,
        run_option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder for adaptive.json, .csv and .md, in place of what is there, and, below "
            "work, for finished parts, which the same command takes up again.",
        ),
    ],
    weights: Weights = None,
    mean: Mean = None,
    std: Std = None,
    size: Annotated[
        str,
        run_option(
            metavar="smoke|small|full",
            help="Images, steps, draws. smoke: a minute, numbers mean nothing; small is for two "
            "cores, full for a GPU.",
        ),
    ] = "small",
    other: Annotated[
        list[str] | None,
        run_option(
            "--attack",
            metavar="SPEC",
            help="One more attack on the defended network, such as that of another library as "
            "file.py:function:epsilon=8/255. Repeatable.",
        ),
    ] = None,
    section: Annotated[
        list[str] | None,
        run_option(
            metavar="NAME",
            help="Only this section: gradients, still, draws, losses, steps, radius, queries, "
            "transfer, surrogates, others, parts, broken. Repeatable.",
        ),
    ] = None,
    root: Root = None,
    split: Split = "test",
    limit: Annotated[int | None, images_option(min=1, help="Attack the first images only.")] = None,
    reading: dict[str, Any],
    classes: Classes = None,
    surrogate: Surrogate = None,
    surrogate_weights: SurrogateWeights = None,
    draws: Draws = 10,
    seed: Seed = 0,
    batch_size: BatchSize = 100,
    device: Device = None,
    engine: Engine = "local",
    workers: Workers = None,
    threads: WorkerThreads = None,
    gpus: Gpus = 0.0,
    as_json: Annotated[bool, run_option("--json", help="Print the result as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Attack a network behind a defence by all that an attacker may know who knows the defence.

    All gradients that the defence has, masks held still, draws, losses, steps, radii, queries,
    transfer. What the defence has no use for is left out, and the notes say why. The last note is
    the verdict: the gradient and the attack that fool most. The defence may be your own.

    After a crash or Ctrl-C the same command goes on where it was. Exit codes are those of
    `splic-ext evaluate`.
    """
    with (
        exit_codes(
            attack,
            interrupted="finished parts are kept; the same command goes on",
            memory="use a smaller --batch-size",
            quiet=quiet,
        ),
        notes_on_stderr(),
    ):
        needed("`splic-ext attack`", "attack", "torch", "foolbox")
        from splic_ext.experiments import evaluate_adaptively

        data = load_dataset(dataset, split, root, limit, **reading)
        replaced = load_surrogate(surrogate, surrogate_weights, data, classes)
        result = evaluate_adaptively(
            load(model, weights, data, classes, mean, std),
            data,
            defense=defense,
            size=size,
            sections=section or None,
            surrogates=None if surrogate is None else {surrogate: replaced},
            attacks=other or (),
            score_draws=draws,
            seed=seed,
            batch_size=batch_size,
            output=out,
            device=device,
            progress=not quiet,
            model_name=model,
            command=command_line(),
            engine=engine,
            workers=workers,
            threads=threads,
            gpus=gpus,
        )
    show_protocol(result, out, as_json=as_json, quiet=quiet)


def show_protocol(result: ExperimentResult, out: Path, *, as_json: bool, quiet: bool) -> None:
    """Print a result of the protocol."""
    if as_json:
        typer.echo(result.to_json())
    elif not quiet:
        print_markdown(result.to_markdown())
        print_message(f"result: {out}/{result.name}.json, .csv, .md")
