"""The command ``splic-ext certify``: it reads the command line, and leaves the work to others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from splic_ext.cli.console import print_markdown, print_message
from splic_ext.cli.exits import exit_codes, notes_on_stderr
from splic_ext.cli.flags import RENAMED
from splic_ext.cli.groups import reading_flags
from splic_ext.cli.networks import Classes, Mean, Model, Std, Weights, load
from splic_ext.cli.options import (
    AsJson,
    Device,
    Images,
    Quiet,
    ReportFolder,
    Root,
    Split,
    command_line,
    images_option,
    run_option,
)
from splic_ext.data import load_dataset

__all__ = ["certify"]

patch_option = partial(typer.Option, rich_help_panel="Against patches")
pixel_option = partial(typer.Option, rich_help_panel="Against changed pixels")


@reading_flags
def certify(
    *,
    dataset: Images,
    model: Model,
    weights: Weights = None,
    mean: Mean = None,
    std: Std = None,
    patch: Annotated[
        list[str] | None,
        patch_option(
            metavar="SIZE",
            help="What the attacker may place, in pixels: 5 for a square, 3x8 for a height and "
            "width, 3x8,8x3 for one of two shapes. Repeatable.",
        ),
    ] = None,
    fill: Annotated[
        list[str] | None,
        patch_option(
            metavar="SPEC",
            help="What hidden pixels are filled with, such as splic, splic:rank=12 or gray. "
            "Repeatable. Default: splic.",
        ),
    ] = None,
    masks: Annotated[
        int | None,
        patch_option(
            min=2, help="Masks along each axis: more are smaller, and cost more. Default: 6."
        ),
    ] = None,
    patches: Annotated[
        int | None,
        patch_option(min=1, max=2, help="Patches that may be placed. Default: 1."),
    ] = None,
    kept: Annotated[
        list[str] | None,
        pixel_option(
            metavar="SHARE|COUNT",
            help="Pixels that a random mask keeps: 0.1 is a probability, 100 a number. Repeatable.",
        ),
    ] = None,
    encoding: Annotated[
        list[str] | None,
        pixel_option(
            metavar="SPEC",
            help="What the network sees of hidden pixels, such as splic, mean, or null, which "
            "doubles its input channels. Repeatable. Default: splic.",
        ),
    ] = None,
    selection: Annotated[
        int | None, pixel_option(min=1, help="Draws that select the class. Default: 100.")
    ] = None,
    draws: Annotated[
        int | None,
        pixel_option(
            min=1, help="Draws that estimate its probability: more prove more. Default: 1000."
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        pixel_option(help="Probability of error of each certificate. Default: 0.001."),
    ] = None,
    seed: Annotated[
        int | None, pixel_option(min=0, max=2**64 - 1, help="Seed of the masks. Default: 0.")
    ] = None,
    out: ReportFolder = None,
    root: Root = None,
    split: Split = "test",
    limit: Annotated[
        int | None, images_option(min=1, help="Certify the first images only.")
    ] = None,
    reading: dict[str, Any],
    classes: Classes = None,
    batch_size: Annotated[
        int | None,
        run_option(
            min=1,
            help="Filled images at a time. Default: 128 for --patch, 256 for --kept.",
        ),
    ] = None,
    device: Device = None,
    overwrite: Annotated[
        bool, run_option("--overwrite", help="Replace another report in --out.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Prove for each image that no attack of a kind can turn the answer, or that there is no proof.

    Against patches, with --patch: masks hide every place of a patch, what they hide is filled, and
    the network is asked under all pairs of masks. An image is certified if it is right under each.
    Against changes of a few pixels, wherever they are, with --kept: random masks hide all but a few
    pixels, and the network is asked under many of them. The table has the accuracy of the vote on
    clean images, and the share that is certified, with 95 % intervals.

    After a crash or Ctrl-C the same command with the same --out goes on where it was. Exit code:
    0, 1 if data, weights or a package are missing, 2 for wrong usage, 130 after Ctrl-C.
    """
    saved = "finished parts are kept" if out else "nothing was kept without --out"
    with (
        exit_codes(
            certify,
            interrupted=f"{saved}; the same command goes on",
            memory="use a smaller --batch-size",
            quiet=quiet,
        ),
        notes_on_stderr(),
    ):
        from splic_ext.certify.pixel_tables import pixels_to_markdown
        from splic_ext.certify.tables import to_markdown
        from splic_ext.runs.inputs import check_dataset

        against_patches = {"fills": fill, "masks": masks, "patches": patches}
        against_pixels = {
            "encodings": encoding,
            "selection": selection,
            "draws": draws,
            "alpha": alpha,
            "seed": seed,
        }
        evaluate, options = _chosen(patch, kept, against_patches, against_pixels)
        if batch_size is not None:
            options["batch_size"] = batch_size
        data = load_dataset(dataset, split, root, limit, **reading)
        check_dataset(data)  # of no classes there is no network
        channels = None if patch else _channels(encoding or ["splic"], data.images.shape[1])
        report = evaluate(
            load(model, weights, data, classes, mean, std, channels),
            data,
            **options,
            output=out,
            overwrite=overwrite,
            device=device,
            progress=not quiet,
            model_name=model,
            command=command_line(),
        )
    if as_json:
        typer.echo(report.to_json())
    elif not quiet:
        print_markdown(to_markdown(report) if patch else pixels_to_markdown(report))
        if out is not None:
            print_message(f"report: {out / ('certificates.json' if patch else 'pixels.json')}")


def _chosen(
    patch: list[str] | None,
    kept: list[str] | None,
    against_patches: dict[str, Any],
    against_pixels: dict[str, Any],
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return what certifies, and the options that were given to it, or raise."""
    from splic_ext.certify import evaluate_patches, evaluate_pixels

    if bool(patch) == bool(kept):
        raise ValueError(
            f"give --patch or --kept, got {'both' if patch else 'none of them'}; --patch certifies "
            "against patches, --kept against changes of a few pixels"
        )
    others = against_pixels if patch else against_patches
    wrong = [RENAMED.get(name, name) for name, value in others.items() if value is not None]
    if wrong:
        which = ("--kept", "--patch") if patch else ("--patch", "--kept")
        raise ValueError(f"--{wrong[0]} goes with {which[0]}, got it with {which[1]}; leave it out")
    values = {"patch": patch, **against_patches} if patch else {"kept": kept, **against_pixels}
    options = {name: value for name, value in values.items() if value is not None}
    return (evaluate_patches if patch else evaluate_pixels), options


def _channels(encodings: list[str], channels: int) -> int | None:
    """Return the input channels of a network for encoded images; None if those of the images."""
    from splic_ext.certify.requests import named_encodings

    outputs = {name: fill.outputs for name, fill in named_encodings(encodings).items()}
    if len(set(outputs.values())) > 1:
        told = ", ".join(f"{name} {count * channels}" for name, count in outputs.items())
        raise ValueError(
            f"`encodings` must all make images of as many channels for one network, got {told}; "
            "certify them one by one, each with its network"
        )
    (count,) = set(outputs.values())
    return None if count == 1 else count * channels
