"""The command ``splic-ext reproduce``: it reads the command line, and leaves the work to others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from splic_ext.cli.console import print_markdown, print_message
from splic_ext.cli.exits import exit_codes, notes_on_stderr
from splic_ext.cli.networks import MODELS, Mean, Std, constants, network_option
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
from splic_ext.common.optional import needed
from splic_ext.common.outside import split_place
from splic_ext.data import DATASETS, load_dataset

if TYPE_CHECKING:
    from splic_ext.experiments import ExperimentResult, Subject

__all__ = ["reproduce"]

#: Kind of images -> the network that --KIND-weights are of.
USUAL = {
    "cifar10": "resnet20",
    "svhn": "svhn_vgg",
    "digits": "digits_cnn",
    "shapes": "shapes_cnn",
}


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
    model: Annotated[
        str | None,
        network_option(
            metavar="NAME|PLACE",
            help=f"With images of one kind: a network in place of the one that is trained: "
            f"{MODELS}",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        network_option(metavar="FILE", help="Weights of --model; your own may go without."),
    ] = None,
    mean: Mean = None,
    std: Std = None,
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
    defense: Annotated[
        list[str] | None,
        run_option(
            metavar="SPEC",
            help="One more defence, a row beside those of table1 to table4, figure7, frontier and "
            "ranking: your own as file.py:Class:option=value, or one such as jpeg:quality=75. "
            "Repeatable.",
        ),
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
    network trained on each; hypotheses looks for what explains the distance to the paper. Your own
    defence stands beside the paper's with --defense.

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
        needed("`splic-ext reproduce`", "attack", "torch", "foolbox")
        from splic_ext import experiments

        if name == "all" and attack:
            raise ValueError("--attack is for a single experiment; leave it out")
        chosen = experiments.EXPERIMENTS.get(name)
        trains = name == "all" or (chosen is not None and chosen.trains)
        kinds = {
            "cifar10": _Kind(cifar10_model, cifar10_weights, cifar10_train, tuple(cifar10 or ())),
            "svhn": _Kind(svhn_model, svhn_weights, svhn_train, tuple(svhn or ())),
            "digits": _Kind(places=("digits",) if digits else ()),
            "shapes": _Kind(places=("shapes",) if shapes else ()),
        }
        subjects = [
            subject
            for kind, asked in _with_network(kinds, model, weights, mean, std).items()
            for subject in _subjects(kind, asked, root, limit, trains)
        ]
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
            "defenses": defense or (),
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


@dataclass(frozen=True)
class _Kind:
    """What the command line says of images of a kind: their places, a network, how to train one."""

    model: str | None = None
    weights: Path | None = None
    training: str | None = None
    places: tuple[str, ...] = ()
    #: Of a network of one's own; none: it normalises itself.
    mean: list[float] | None = None
    std: list[float] | None = None


def _with_network(
    kinds: dict[str, _Kind], model: str | None, weights: Path | None, mean: Any, std: Any
) -> dict[str, _Kind]:
    """Return the kinds with the network of --model, and --mean and --std for those of one's own."""
    kinds = dict(kinds)
    if model is not None or weights is not None:
        given = [kind for kind, asked in kinds.items() if asked.places]
        if len(given) != 1:
            raise ValueError(
                "--model and --weights are for images of one kind, got "
                f"{' and '.join(given) or 'none'}; give one of --cifar10, --svhn, --digits, "
                "--shapes, or use --cifar10-model and the like"
            )
        (kind,) = given
        if kinds[kind].model is not None or kinds[kind].weights is not None:
            raise ValueError(
                f"--model and --weights contradict --{kind}-model and --{kind}-weights; give the "
                "one or the other"
            )
        kinds[kind] = replace(kinds[kind], model=model, weights=weights)
    if mean is None and std is None:
        return kinds
    own = [kind for kind, asked in kinds.items() if split_place(asked.model or "") is not None]
    if not own:
        raise ValueError(
            "--mean and --std are for a network of your own; give it by --model, --cifar10-model "
            "or --svhn-model, or leave them out"
        )
    means, stds = constants("mean", mean), constants("std", std)
    return kinds | {kind: replace(kinds[kind], mean=means, std=stds) for kind in own}


def _subjects(
    kind: str, asked: _Kind, root: Path | None, limit: int | None, trains: bool
) -> Iterator[Subject]:
    """Yield the images of a kind with their network, or with images to train one on."""
    given = asked.weights is not None or asked.model is not None
    if not asked.places and (given or asked.training):
        raise ValueError(
            f"--{kind}-weights, --{kind}-model and --{kind}-train belong to --{kind}, the test "
            "images; give them"
        )
    from splic_ext.evaluation import load_network
    from splic_ext.experiments import Subject

    network = asked.model or USUAL[kind]
    for place in asked.places:
        source = asked.training or (place if place in DATASETS else None)
        if source is None and (trains or not given):
            raise ValueError(
                f"--{kind} {place} must come with --{kind}-train, images to train networks on"
                f"{'' if trains else f', or with --{kind}-weights'}; give it"
            )
        data = load_dataset(place, "test", root, limit)
        model = None
        if given:
            model = load_network(
                network, asked.weights, mean=asked.mean, std=asked.std, dataset=data
            )
        learned = None
        if source is not None and (trains or model is None):
            learned = load_dataset(source, "train", root)
        yield Subject(kind, data, model, None if model is None else network, learned)


def _tell(result: ExperimentResult, folder: Path, quiet: bool) -> None:
    if not quiet:
        first, *others = result.files
        rest = ", ".join(name.removeprefix(result.name) for name in others)
        print_message(f"result: {folder / first}, {rest}")
