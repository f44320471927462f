"""The command ``splic-ext reproduce``: it reads the command line, and leaves the work to others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from splic_ext.cli.console import print_markdown, print_message
from splic_ext.cli.exits import exit_codes, notes_on_stderr
from splic_ext.cli.options import (
    BatchSize,
    Device,
    Quiet,
    Root,
    Seed,
    command_line,
    images_option,
    run_option,
)
from splic_ext.data import DATASETS, load_dataset

if TYPE_CHECKING:
    from splic_ext.experiments import ExperimentResult, Subject

__all__ = ["reproduce"]

#: Kind of images -> the network that --KIND-weights are of.
USUAL = {"cifar10": "resnet20", "svhn": "svhn_vgg"}


def reproduce(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="table1 to table4, figure3 to figure12, frontier, hypotheses, ranking, or all.",
        ),
    ],
    cifar10: Annotated[
        list[str] | None,
        images_option(
            metavar="NAME|PATH",
            help="CIFAR-10 test images: cifar10, or a path. Repeatable.",
        ),
    ] = None,
    cifar10_weights: Annotated[
        Path | None,
        images_option(
            metavar="FILE",
            help="Weights of a ResNet-20 that never saw a completed image. Default: a network is "
            "trained.",
        ),
    ] = None,
    cifar10_model: Annotated[
        str | None,
        images_option(
            metavar="PLACE",
            help="Your own network in place of the ResNet-20: file.py:function or "
            "package.module:function, with --cifar10-weights if it needs them.",
        ),
    ] = None,
    cifar10_train: Annotated[
        str | None,
        images_option(
            metavar="NAME|PATH",
            help="CIFAR-10 training images. Default: those of the same name as the test images.",
        ),
    ] = None,
    svhn: Annotated[
        list[str] | None,
        images_option(metavar="NAME|PATH", help="SVHN test images: svhn, or a path. Repeatable."),
    ] = None,
    svhn_weights: Annotated[
        Path | None, images_option(metavar="FILE", help="Weights of a small VGG, likewise.")
    ] = None,
    svhn_model: Annotated[
        str | None, images_option(metavar="PLACE", help="Your own network, likewise.")
    ] = None,
    svhn_train: Annotated[
        str | None, images_option(metavar="NAME|PATH", help="SVHN training images, likewise.")
    ] = None,
    digits: Annotated[
        bool,
        images_option(
            "--digits",
            help="scikit-learn's digits, which need no file.",
        ),
    ] = False,
    shapes: Annotated[
        bool,
        images_option(
            "--shapes",
            help="Drawn figures, which need no file. Default: for --budget smoke.",
        ),
    ] = False,
    root: Root = None,
    budget: Annotated[
        str | None,
        run_option(
            metavar="smoke|cpu|gpu",
            help="How much is run. smoke: minutes, without data, numbers mean nothing; cpu: hours "
            "on two cores; gpu: the paper's sizes. Default: cpu, and for table3, table4 and "
            "frontier all images.",
        ),
    ] = None,
    out: Annotated[
        Path,
        run_option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder for NAME.json, NAME.csv, NAME.md, NAME.png, in place of what is there, "
            "and, below work, for finished parts and networks.",
        ),
    ] = Path("results"),
    limit: Annotated[
        int | None,
        run_option(min=1, help="Most images of a data set. Default: as the budget says."),
    ] = None,
    slow_limit: Annotated[
        int | None,
        run_option(
            min=1,
            help="Most images for attacks of thousands of steps. Default: as the budget says, "
            "else 500.",
        ),
    ] = None,
    attack: Annotated[
        list[str] | None, run_option(metavar="NAME", help="Only this attack. Repeatable.")
    ] = None,
    draws: Annotated[
        int | None,
        run_option(
            min=1,
            help="Fresh draws of the masks for each finished image. Default: as the budget says, "
            "else 10.",
        ),
    ] = None,
    seed: Seed = 0,
    batch_size: BatchSize = 100,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Make a table or a figure of the paper anew, its numbers beside the paper's, or all of them.

    Networks are trained where they are needed. Three experiments are not in the paper. frontier
    compares SPLIC with plain denoising at equal clean accuracy; ranking does the same with a
    network trained on each; hypotheses looks for what explains the distance to the paper.

    After a crash or Ctrl-C the same command goes on where it was. Exit codes are those of
    `splic-ext evaluate`.
    """
    with (
        exit_codes(
            reproduce,
            interrupted="finished parts are kept; the same command goes on",
            memory="use a smaller --batch-size",
            quiet=quiet,
        ),
        notes_on_stderr(),
    ):
        from splic_ext import experiments

        if name == "all" and attack:
            raise ValueError("--attack is for a single experiment; leave it out")
        chosen = experiments.EXPERIMENTS.get(name)
        trains = name == "all" or (chosen is not None and chosen.trains)
        subjects = [
            subject
            for kind, own, places, weights, training in (
                ("cifar10", cifar10_model, cifar10, cifar10_weights, cifar10_train),
                ("svhn", svhn_model, svhn, svhn_weights, svhn_train),
            )
            for subject in _subjects(
                kind, own, places or [], weights, training, root, limit, trains
            )
        ]
        if digits:
            subjects.append(experiments.digits_subject(limit))
        if shapes:
            subjects.append(experiments.shapes_subject(limit))
        given: dict[str, Any] = {
            "budget": budget,
            "draws": draws,
            "seed": seed,
            "limit": limit,
            "slow_limit": slow_limit,
            "batch_size": batch_size,
            "output": out,
            "device": device,
            "progress": not quiet,
            "command": command_line(),
        }
        found = subjects if subjects or budget != "smoke" else None
        if name == "all":
            given["budget"] = budget or "cpu"
            for result in experiments.reproduce_all(found, **given):
                _tell(result, out, quiet)
            return
        result = experiments.reproduce(name, found, attacks=attack, **given)
    if not quiet:
        print_markdown(result.to_markdown())
    _tell(result, out, quiet)


def _subjects(
    kind: str,
    own: str | None,
    places: list[str],
    weights: Path | None,
    training: str | None,
    root: Path | None,
    limit: int | None,
    trains: bool,
) -> Iterator[Subject]:
    """Yield the images of a kind with their network, or with images to train one on."""
    if not places and (weights or training or own):
        raise ValueError(
            f"--{kind}-weights, --{kind}-model and --{kind}-train belong to --{kind}, the test "
            "images; give them"
        )
    from splic_ext.evaluation import load_network
    from splic_ext.experiments import Subject

    network, given = own or USUAL[kind], weights is not None or own is not None
    for place in places:
        source = training or (place if place in DATASETS else None)
        if source is None and (trains or not given):
            raise ValueError(
                f"--{kind} {place} must come with --{kind}-train, images to train networks on"
                f"{'' if trains else f', or with --{kind}-weights'}; give it"
            )
        data = load_dataset(place, "test", root, limit)
        model = load_network(network, weights, dataset=data) if given else None
        learned = None
        if source is not None and (trains or model is None):
            learned = load_dataset(source, "train", root)
        yield Subject(kind, data, model, None if model is None else network, learned)


def _tell(result: ExperimentResult, folder: Path, quiet: bool) -> None:
    if not quiet:
        first, *others = result.files
        rest = ", ".join(name.removeprefix(result.name) for name in others)
        print_message(f"result: {folder / first}, {rest}")
