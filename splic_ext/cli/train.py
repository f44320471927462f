"""The command ``splic-ext train``: it reads the command line, and leaves the work to others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from splic_ext.cli.console import print_message
from splic_ext.cli.exits import exit_codes, notes_on_stderr
from splic_ext.cli.options import DATA, RUN, Device, Quiet, Root, command_line
from splic_ext.data import load_dataset

__all__ = ["train"]

LEARNING, DEFENDING = "Learning", "Defending"


def train(
    dataset: Annotated[
        str,
        typer.Option(
            metavar="NAME|PATH",
            help="Images to learn: cifar10, svhn, digits, or a path to their files or to a .npz "
            "archive.",
            rich_help_panel=DATA,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="resnet20, resnet56, resnet18, svhn_vgg, digits_cnn.",
            rich_help_panel=LEARNING,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder for weights, record, checkpoint and logs. The same command goes on there.",
            rich_help_panel=RUN,
        ),
    ],
    defense: Annotated[
        str,
        typer.Option(
            metavar="SPEC",
            help="The network learns what this makes of the images, such as splic:recommended or "
            "tv:weight=0.1; a+b is b after a; identity is none.",
            rich_help_panel=DEFENDING,
        ),
    ] = "identity",
    adversarial: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Attack the images through the defence first: bpda is PGD, 7 steps of 2/255, past "
            "the defence.",
            rich_help_panel=DEFENDING,
        ),
    ] = None,
    adversarial_warmup_epochs: Annotated[
        float,
        typer.Option(
            help="The attack's radius and steps first grow for so long.",
            rich_help_panel=DEFENDING,
        ),
    ] = 0.0,
    copies: Annotated[
        int,
        typer.Option(
            min=0,
            help="Defend the images that many times beforehand, and learn these copies in turn. "
            "0: fresh masks in each epoch.",
            rich_help_panel=DEFENDING,
        ),
    ] = 0,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="For the copies. Default: copies, in --out.",
            rich_help_panel=DEFENDING,
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            help="Images to score after each epoch, of their split test. Default: none.",
            rich_help_panel=DATA,
        ),
    ] = None,
    root: Root = None,
    split: Annotated[
        str,
        typer.Option(
            help="train, test, for SVHN also extra. A .npz or .mat file is one split, and read "
            "whatever this says.",
            rich_help_panel=DATA,
        ),
    ] = "train",
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Learn the first images only.", rich_help_panel=DATA),
    ] = None,
    test_limit: Annotated[
        int | None,
        typer.Option(min=1, help="Score the first test images only.", rich_help_panel=DATA),
    ] = None,
    download: Annotated[
        bool,
        typer.Option("--download", help="Fetch missing official files.", rich_help_panel=DATA),
    ] = False,
    epochs: Annotated[
        int, typer.Option(min=1, help="Passes over the images.", rich_help_panel=LEARNING)
    ] = 30,
    batch_size: Annotated[
        int,
        typer.Option(
            min=1,
            help="Most images of an update, of all processes together.",
            rich_help_panel=LEARNING,
        ),
    ] = 128,
    learning_rate: Annotated[
        float, typer.Option(help="Its largest value.", rich_help_panel=LEARNING)
    ] = 0.1,
    momentum: Annotated[float, typer.Option(help="Nesterov's.", rich_help_panel=LEARNING)] = 0.9,
    weight_decay: Annotated[
        float, typer.Option(help="On all weights.", rich_help_panel=LEARNING)
    ] = 5e-4,
    schedule: Annotated[
        str,
        typer.Option(
            metavar="cosine|step",
            help="The learning rate falls along half a cosine, or by a factor of 10 at 50 % and at "
            "75 % of the epochs.",
            rich_help_panel=LEARNING,
        ),
    ] = "cosine",
    warmup_epochs: Annotated[
        float,
        typer.Option(help="The learning rate first rises for so long.", rich_help_panel=LEARNING),
    ] = 0.0,
    label_smoothing: Annotated[
        float,
        typer.Option(help="Share of the target that all classes get.", rich_help_panel=LEARNING),
    ] = 0.0,
    crop: Annotated[
        int,
        typer.Option(
            min=0, help="Shift images by up to that many pixels.", rich_help_panel=LEARNING
        ),
    ] = 4,
    flip: Annotated[
        bool,
        typer.Option(
            "--flip/--no-flip",
            help="Mirror half of the images; not for digits.",
            rich_help_panel=LEARNING,
        ),
    ] = True,
    ema_decay: Annotated[
        float | None,
        typer.Option(
            help="Return the running average of the weights, such as 0.999.",
            rich_help_panel=LEARNING,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=2**64 - 1,
            help="Of first weights, order, shifts, masks and attacks.",
            rich_help_panel=RUN,
        ),
    ] = 0,
    device: Device = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, max=1024, help="Most threads of torch and of the solver.", rich_help_panel=RUN
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="float32|bfloat16|float16",
            help="Below float32: autocast.",
            rich_help_panel=RUN,
        ),
    ] = "float32",
    channels_last: Annotated[
        bool,
        typer.Option("--channels-last", help="Memory format of images.", rich_help_panel=RUN),
    ] = False,
    compile_network: Annotated[
        bool,
        typer.Option("--compile", help="Compile the network by torch.", rich_help_panel=RUN),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace another training, or a damaged one, in --out.",
            rich_help_panel=RUN,
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train a network on defended images, clean or adversarial.

    Killed or interrupted, the same command goes on from its last checkpoint, to the same weights as
    in one run. The defaults suit networks with batch normalisation; try --learning-rate 0.03
    --batch-size 32 --crop 1 --no-flip for digits. Under torchrun the processes share each batch.

    Exit code: 0, 1 if data, weights or a package are missing or the training failed, 2 for wrong
    usage, 130 after Ctrl-C.
    """
    with (
        exit_codes(
            train,
            interrupted="the last checkpoint is kept; the same command goes on",
            memory="use a smaller --batch-size",
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
            seed=seed,
        )
        images = load_dataset(dataset, split, root, limit, download=download)
        scored = None
        if test is not None:
            scored = load_dataset(test, "test", root, test_limit, download=download)
        result = training.train(
            model,
            images,
            options,
            test=scored,
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
