"""The command ``splic-ext evaluate``: it reads the command line, and leaves the work to others."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from splic_ext.cli.attack import show_protocol
from splic_ext.cli.console import print_message, print_tables
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
    AsJson,
    BatchSize,
    Device,
    Draws,
    Engine,
    Gpus,
    Images,
    Quiet,
    ReportFolder,
    Root,
    Seed,
    Split,
    Workers,
    WorkerThreads,
    command_line,
    images_option,
    run_option,
)
from splic_ext.cli.results import evaluation_table
from splic_ext.data import load_dataset

__all__ = ["evaluate"]


@reading_flags
def evaluate(
    *,
    dataset: Images,
    model: Model,
    defense: Annotated[
        list[str],
        run_option(
            metavar="SPEC",
            help="A defence, such as splic (preset paper), splic:recommended or tv:weight=0.1; a+b "
            "is b after a. Repeatable; identity is none.",
        ),
    ],
    weights: Weights = None,
    mean: Mean = None,
    std: Std = None,
    attack: Annotated[
        list[str] | None,
        run_option(
            metavar="SPEC",
            help="An attack, such as pgd:steps=40,step_size=1/255. Repeatable; clean images are "
            "scored in any case.",
        ),
    ] = None,
    scenario: Annotated[
        str,
        run_option(
            metavar="gray|black|white",
            help="Attack the network without its defence, a surrogate, or the defended network.",
        ),
    ] = "gray",
    protocol: Annotated[
        str | None,
        run_option(
            metavar="adaptive",
            help="The old form of `splic-ext attack`, which goes with the next release.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        run_option(
            metavar="smoke|small|full",
            help="Of the protocol; see `splic-ext attack`.",
        ),
    ] = None,
    section: Annotated[
        list[str] | None,
        run_option(
            metavar="NAME",
            help="Of the protocol; see `splic-ext attack`.",
        ),
    ] = None,
    out: ReportFolder = None,
    root: Root = None,
    split: Split = "test",
    limit: Annotated[
        int | None, images_option(min=1, help="Evaluate the first images only.")
    ] = None,
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
    overwrite: Annotated[
        bool, run_option("--overwrite", help="Replace the report of another evaluation in --out.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure the accuracy of a network behind defences, clean and under attack.

    Finished adversarial images are defended and classified --draws times with fresh masks. The
    table has the mean over the draws, the share of images that are right in all of them, and the
    vote, each with its 95 % interval.

    After a crash or Ctrl-C the same command with the same --out goes on where it was. Exit code:
    0, 1 if data, weights or a package are missing or an attack failed, 2 for wrong usage, 130
    after Ctrl-C.
    """
    kept = "finished parts are kept" if out else "nothing was kept without --out"
    with (
        exit_codes(
            evaluate,
            interrupted=f"{kept}; the same command goes on",
            memory="use a smaller --batch-size",
            quiet=quiet,
        ),
        notes_on_stderr(),
    ):
        if protocol is None and (size is not None or section):
            raise ValueError(
                "--size and --section are those of --protocol adaptive; add it, or leave them out"
            )
        if protocol is not None and (
            (protocol, scenario, len(defense)) != ("adaptive", "gray", 1) or attack or out is None
        ):
            raise ValueError(
                "--protocol must be adaptive, and goes with one --defense and --out, without "
                "--attack and --scenario"
            )
        from splic_ext import evaluation

        data = load_dataset(dataset, split, root, limit, **reading)
        other = load_surrogate(surrogate, surrogate_weights, data, classes)
        network = load(model, weights, data, classes, mean, std)
        given: dict[str, Any] = {
            "seed": seed,
            "batch_size": batch_size,
            "output": out,
            "device": device,
            "progress": not quiet,
            "model_name": model,
            "command": command_line(),
            "engine": engine,
            "workers": workers,
            "threads": threads,
            "gpus": gpus,
        }
        adaptive = None
        if protocol is not None:
            from splic_ext.experiments import evaluate_adaptively

            adaptive = evaluate_adaptively(
                network,
                data,
                defense=defense[0],
                size="small" if size is None else size,
                sections=section or None,
                surrogates=None if surrogate is None else {surrogate: other},
                score_draws=draws,
                **given,
            )
        else:
            report = evaluation.evaluate(
                network,
                data,
                defenses=defense,
                attacks=attack or (),
                scenario=scenario,
                surrogate=other,
                draws=draws,
                overwrite=overwrite,
                surrogate_name=surrogate,
                **given,
            )
    if adaptive is not None and out is not None:
        show_protocol(adaptive, out, as_json=as_json, quiet=quiet)
        if not quiet:
            print_message(
                "note: `evaluate --protocol adaptive` is now `splic-ext attack`, with the same "
                "flags; the old form goes with the next release"
            )
        return
    if as_json:
        typer.echo(report.to_json())
    elif not quiet:
        print_tables(evaluation_table(report))
        if out is not None:
            print_message(f"report: {out / 'report.json'}")
