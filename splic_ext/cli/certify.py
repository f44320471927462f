"""The command ``splic-ext certify``: it reads the command line, and leaves the work to others."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from splic_ext.cli.console import print_markdown, print_message
from splic_ext.cli.exits import exit_codes, notes_on_stderr
from splic_ext.cli.options import (
    Device,
    Download,
    Quiet,
    Root,
    command_line,
    images_option,
    run_option,
)
from splic_ext.data import load_dataset

__all__ = ["certify"]

network_option = partial(typer.Option, rich_help_panel="Networks")


def certify(
    dataset: Annotated[
        str,
        images_option(
            metavar="NAME|PATH",
            help="cifar10, svhn, digits, or a path to their files or to a .npz archive.",
        ),
    ],
    model: Annotated[
        str,
        network_option(
            metavar="NAME",
            help="Network that is certified: resnet20, resnet56, resnet18, svhn_vgg, digits_cnn.",
        ),
    ],
    weights: Annotated[Path, network_option(metavar="FILE", help="Weights of --model.")],
    patch: Annotated[
        list[str],
        run_option(
            metavar="SIZE",
            help="What the attacker may place, in pixels: 5 for a square, 3x8 for a height and "
            "width, 3x8,8x3 for one of two shapes. Repeatable.",
        ),
    ],
    fill: Annotated[
        list[str] | None,
        run_option(
            metavar="SPEC",
            help="What hidden pixels are filled with, such as splic, splic:rank=12 or gray. "
            "Repeatable. Default: splic.",
        ),
    ] = None,
    masks: Annotated[
        int, run_option(min=2, help="Masks along each axis: more are smaller, and cost more.")
    ] = 6,
    patches: Annotated[int, run_option(min=1, max=2, help="Patches that may be placed.")] = 1,
    out: Annotated[
        Path | None,
        run_option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder for the report and for finished parts, which the same command takes up "
            "again. Default: nothing is written.",
        ),
    ] = None,
    root: Root = None,
    split: Annotated[
        str,
        images_option(
            help="test or train; for SVHN also extra. A .npz or .mat file is one split: it is read "
            "in any case.",
        ),
    ] = "test",
    limit: Annotated[
        int | None, images_option(min=1, help="Certify the first images only.")
    ] = None,
    download: Download = False,
    classes: Annotated[
        int | None,
        network_option(
            min=1,
            help="Outputs of the network. Default: the classes of the data set.",
        ),
    ] = None,
    batch_size: Annotated[int, run_option(min=1, help="Filled images at a time.")] = 128,
    device: Device = None,
    overwrite: Annotated[
        bool, run_option("--overwrite", help="Replace another report in --out.")
    ] = False,
    as_json: Annotated[bool, run_option("--json", help="Print the report as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Prove for each image that no patch can turn the answer, or say that there is no proof.

    Masks hide every place of a patch, what they hide is filled, and the network is asked under all
    pairs of masks. An image is certified if it is right under each. The table has the accuracy of
    the vote on clean images, and the share that is certified, with 95 % intervals.

    After a crash or Ctrl-C the same command with the same --out goes on where it was. Exit code:
    0, 1 if data, weights or a package are missing, 2 for wrong usage, 130 after Ctrl-C.
    """
    kept = "finished parts are kept" if out else "nothing was kept without --out"
    with (
        exit_codes(
            certify,
            interrupted=f"{kept}; the same command goes on",
            memory="use a smaller --batch-size",
            quiet=quiet,
        ),
        notes_on_stderr(),
    ):
        from splic_ext.certify import evaluate_patches
        from splic_ext.certify.tables import to_markdown
        from splic_ext.evaluation import load_network
        from splic_ext.runs.inputs import check_dataset

        data = load_dataset(dataset, split, root, limit, download=download)
        check_dataset(data)  # of no classes there is no network
        outputs = len(data.classes) if classes is None else classes
        sizes: Any = list(patch)
        report = evaluate_patches(
            load_network(model, weights, outputs),
            data,
            fills=fill or ["splic"],
            patch=sizes,
            masks=masks,
            patches=patches,
            batch_size=batch_size,
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
        print_markdown(to_markdown(report))
        if out is not None:
            print_message(f"report: {out / 'certificates.json'}")
