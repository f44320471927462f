"""The command ``splic-ext train``: it reads the command line, and leaves the work to others."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from splic_ext.cli.console import print_message
from splic_ext.cli.exits import exit_codes, notes_on_stderr
from splic_ext.cli.groups import reading_flags
from splic_ext.cli.networks import MODELS, Mean, Std, constants
from splic_ext.cli.options import (
    DATASET_HELP,
    SPLIT_HELP,
    Device,
    Quiet,
    Root,
    command_line,
    images_option,
    run_option,
)
from splic_ext.data import load_dataset
from splic_ext.specs import parse_value

__all__ = ["train"]

learning_option = partial(typer.Option, rich_help_panel="Learning")
defending_option = partial(typer.Option, rich_help_panel="Defending")
hiding_option = partial(typer.Option, rich_help_panel="Hiding, for certificates")


@reading_flags
def train(
    *,
    dataset: Annotated[
        str,
        images_option(
            metavar="NAME|PATH",
            help=f"Images to learn: {DATASET_HELP}",
        ),
    ],
    model: Annotated[
        str,
        learning_option(metavar="NAME|PLACE", help=f"Network to train: {MODELS}"),
    ],
    out: Annotated[
        Path,
        run_option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder for weights, record, checkpoint and logs. The same command goes on there.",
        ),
    ],
    weights: Annotated[
        Path | None,
        learning_option(
            metavar="FILE", help="Weights to begin with: fine-tuning. Default: random ones."
        ),
    ] = None,
    mean: Mean = None,
    std: Std = None,
    defense: Annotated[
        str,
        defending_option(
            metavar="SPEC",
            help="The network learns what this makes of the images, such as splic (preset paper), "
            "splic:recommended or tv:weight=0.1; a+b is b after a; identity is none.",
        ),
    ] = "identity",
    adversarial: Annotated[
        str | None,
        defending_option(
            metavar="SPEC",
            help="Attack the defended network first: bpda is PGD, 7 steps of 2/255, with the "
            "gradient identity.",
        ),
    ] = None,
    adversarial_warmup_epochs: Annotated[
        float, defending_option(help="Epochs in which the attack's radius and steps first grow.")
    ] = 0.0,
    copies: Annotated[
        int,
        defending_option(
            min=0,
            help="Defend the images so many times before the training, and learn these copies in "
            "turn. 0: fresh masks in each epoch.",
        ),
    ] = 0,
    cache: Annotated[
        Path | None,
        defending_option(
            metavar="FOLDER",
            help="Folder for the copies. Default: copies, in --out.",
        ),
    ] = None,
    cutout: Annotated[
        str | None,
        hiding_option(
            metavar="COUNTxSIDE",
            help="Hide up to so many boxes of each image, and fill them, before the defence: 2x9, "
            "or 1x5x8 for 5 rows and 8 columns. Each number of boxes from 0 on is as likely.",
        ),
    ] = None,
    cutout_tries: Annotated[
        int,
        hiding_option(
            min=1,
            max=64,
            help="Draw the boxes of an image so often, and learn those with the largest loss.",
        ),
    ] = 1,
    fill: Annotated[
        str | None,
        hiding_option(metavar="SPEC", help="What fills the boxes. Default: splic."),
    ] = None,
    ablate: Annotated[
        str | None,
        hiding_option(
            metavar="SHARE|COUNT",
            help="Show the network this share of the pixels of each image, such as 0.1, or exactly "
            "so many, such as 100; of test images, too.",
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        hiding_option(
            metavar="SPEC", help="What becomes of an image with --ablate: a fill, such as splic."
        ),
    ] = None,
    test: Annotated[
        str | None,
        images_option(
            metavar="NAME|PATH",
            help="Images to score after each epoch, from the split test. Default: none.",
        ),
    ] = None,
    root: Root = None,
    split: Annotated[
        str,
        images_option(
            help=SPLIT_HELP,
        ),
    ] = "train",
    limit: Annotated[int | None, images_option(min=1, help="Learn the first images only.")] = None,
    test_limit: Annotated[
        int | None, images_option(min=1, help="Score the first test images only.")
    ] = None,
    reading: dict[str, Any],
    epochs: Annotated[int, learning_option(min=1, help="Passes over the images.")] = 30,
    batch_size: Annotated[
        int, learning_option(min=1, help="Most images of an update, of all processes together.")
    ] = 128,
    learning_rate: Annotated[float, learning_option(help="The largest learning rate.")] = 0.1,
    momentum: Annotated[float, learning_option(help="Nesterov momentum.")] = 0.9,
    weight_decay: Annotated[float, learning_option(help="Weight decay, on all weights.")] = 5e-4,
    schedule: Annotated[
        str,
        learning_option(
            metavar="cosine|step",
            help="The learning rate falls along half a cosine, or by a factor of 10 at 50 % and at "
            "75 % of the epochs.",
        ),
    ] = "cosine",
    warmup_epochs: Annotated[
        float, learning_option(help="Epochs in which the learning rate first rises.")
    ] = 0.0,
    label_smoothing: Annotated[
        float, learning_option(help="Share of the target that is spread over all classes.")
    ] = 0.0,
    crop: Annotated[
        int, learning_option(min=0, help="Shift images by up to that many pixels.")
    ] = 4,
    flip: Annotated[
        bool, learning_option("--flip/--no-flip", help="Mirror half of the images; not for digits.")
    ] = True,
    ema_decay: Annotated[
        float | None,
        learning_option(
            help="Keep the running average of the weights, with this decay, such as 0.999.",
        ),
    ] = None,
    seed: Annotated[
        int,
        run_option(
            min=0,
            max=2**64 - 1,
            help="Seed of first weights, order, shifts, masks, boxes and attacks.",
        ),
    ] = 0,
    device: Device = None,
    threads: Annotated[
        int | None, run_option(min=1, max=1024, help="Most threads of torch and of the solver.")
    ] = None,
    precision: Annotated[
        str,
        run_option(
            metavar="float32|bfloat16|float16",
            help="Numbers of the forward pass; below float32 by autocast.",
        ),
    ] = "float32",
    channels_last: Annotated[
        bool, run_option("--channels-last", help="Keep the channels last in memory.")
    ] = False,
    compile_network: Annotated[
        bool, run_option("--compile", help="Compile the network with torch.compile.")
    ] = False,
    overwrite: Annotated[
        bool,
        run_option("--overwrite", help="Replace another training, or a damaged one, in --out."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train a network on defended images, clean or adversarial.

    After a crash or Ctrl-C the same command goes on from its last checkpoint, and comes to the same
    weights as one run would. The defaults suit networks with batch normalisation; for digits try
    --learning-rate 0.03 --batch-size 32 --crop 1 --no-flip. Under torchrun the processes share each
    batch.

    Exit code: 0, 1 if data, weights or a package are missing or the training failed, 2 for wrong
    usage, 130 after Ctrl-C.
    """
    with (
        exit_codes(
            train,
            interrupted="the last checkpoint is kept; the same command goes on",
            memory="use a smaller --batch-size",
            quiet=quiet,
        ),
        notes_on_stderr(),
    ):
        from splic_ext import training
        from splic_ext.training.board import MISSING

        options = training.TrainingOptions(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            schedule=schedule,
            warmup_epochs=warmup_epochs,
            label_smoothing=label_smoothing,
            crop=crop,
            flip=flip,
            ema_decay=ema_decay,
            precision=precision,
            channels_last=channels_last,
            compile=compile_network,
            defense=defense,
            copies=copies,
            adversarial=adversarial,
            adversarial_warmup_epochs=adversarial_warmup_epochs,
            cutout=cutout,
            cutout_tries=cutout_tries,
            fill=fill,
            ablate=_share_or_count(ablate),
            encoding=encoding,
            seed=seed,
        )
        images = load_dataset(dataset, split, root, limit, **reading)
        scored = None
        if test is not None:
            scored = load_dataset(test, "test", root, test_limit, **reading)
        result = training.train(
            model,
            images,
            options,
            test=scored,
            weights=weights,
            mean=constants("mean", mean),
            std=constants("std", std),
            output=out,
            cache=cache,
            device=device,
            threads=threads,
            progress=not quiet,
            command=command_line(),
            overwrite=overwrite,
        )
    if not quiet and training.is_first_process():
        last, seconds = result.history[-1], result.seconds
        if MISSING in result.record.notes:
            print_message(f"note: {MISSING}")
        accuracy = f"training accuracy {100 * last.train_accuracy:.1f} %"
        if last.test_accuracy is not None:
            accuracy += f", test accuracy {100 * last.test_accuracy:.1f} %"
        print_message(
            f"{accuracy}; {seconds.total:.1f} s: defence {seconds.defense:.1f}, attack "
            f"{seconds.attack:.1f}, network {seconds.network:.1f}, test {seconds.test:.1f}"
        )
        print_message(f"weights: {out / 'weights.safetensors'}")


def _share_or_count(text: str | None) -> Any:
    """Return the number that a text stands for; what is none is left for the options to refuse."""
    return None if text is None else parse_value(text)
