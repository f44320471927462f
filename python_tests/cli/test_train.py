"""``splic-ext train``: what the library does, from the command line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.cli import command, invoke
from helpers.training import make_data, same_weights, torch

from splic_ext.data import load_dataset
from splic_ext.models import build_model, load_weights
from splic_ext.training import TrainingOptions, TrainingRecord, train
from splic_ext.training.folder import CHECKPOINT, RECORD, WEIGHTS

BASE = (
    "--dataset", "mine.npz", "--model", "resnet20", "--epochs", "1", "--batch-size", "16",
    "--crop", "1", "-o", "out",
)  # fmt: skip


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A data set in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("mine.npz", "other.npz")):
        data = make_data(32, seed=seed)
        np.savez(name, x=data.images, y=data.labels)
    return tmp_path


def trained(*arguments, code=0):
    result = invoke("train", *BASE, *arguments)
    assert result.exit_code == code, result.output
    return result


def test_it_is_that_of_the_library(files):
    result = trained(
        "--no-flip", "--defense", "usvt", "--adversarial", "bpda:steps=1", "--seed", 3,
        "--adversarial-warmup-epochs", 0.25,
        "--learning-rate", 0.05, "--momentum", 0.8, "--weight-decay", 0.001, "--schedule", "step",
        "--warmup-epochs", 0.5, "--label-smoothing", 0.1, "--ema-decay", 0.9, "--test", "other.npz",
        "--test-limit", 10, "--limit", 20, "--precision", "bfloat16", "--channels-last",
        "--threads", 1,
    )  # fmt: skip
    options = TrainingOptions(
        epochs=1, batch_size=16, learning_rate=0.05, momentum=0.8, weight_decay=0.001,
        schedule="step", warmup_epochs=0.5, label_smoothing=0.1, crop=1, flip=False, ema_decay=0.9,
        precision="bfloat16", channels_last=True, defense="usvt", adversarial="bpda:steps=1",
        adversarial_warmup_epochs=0.25, seed=3,
    )  # fmt: skip
    images, test = load_dataset("mine.npz", limit=20), load_dataset("other.npz", limit=10)
    expected = train("resnet20", images, options, test=test, threads=1)
    record = TrainingRecord.load("out/training.json")
    assert record.options == options
    assert record.key == expected.record.key
    assert record.provenance.command.startswith("splic-ext")
    outputs = len(images.classes)
    assert same_weights(
        load_weights(build_model("resnet20", outputs), files / "out" / WEIGHTS), expected.network
    )
    assert re.search(r"^epoch 1 of 1: loss .* in test, .* s, 0:00:00 left$", result.stderr, re.M)
    assert "training accuracy" in result.stderr
    assert "test accuracy" in result.stderr
    assert "attack" in result.stderr
    assert "weights: out/weights.safetensors" in result.stderr.replace(os.sep, "/")
    assert result.stdout == ""


def test_the_defaults_are_those_of_the_library(files):
    trained("-q")
    assert TrainingRecord.load("out/training.json").options == TrainingOptions(
        epochs=1, batch_size=16, crop=1
    )


def test_quiet(files):
    assert trained("--quiet").output == ""


def test_copies_and_cache(files):
    trained("--defense", "usvt", "--copies", 1, "--cache", "kept")
    assert len(list((files / "kept").glob("copy-*.npy"))) == 1


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("--cutout", "2x3"), {"cutout": "2x3", "fill": "splic"}),
        (("--cutout", "1x2x3", "--fill", "gray:value=0.25"), {"cutout": "1x2x3"}),
        (("--ablate", "1/4", "--encoding", "mean"), {"ablate": 0.25, "encoding": "mean"}),
        (("--ablate", "30", "--encoding", "splic"), {"ablate": 30, "encoding": "splic"}),
    ],
)
def test_hiding(files, arguments, options):
    if "--fill" in arguments:
        options = options | {"fill": arguments[-1]}
    trained(*arguments, "--test", "other.npz")
    expected = TrainingOptions(epochs=1, batch_size=16, crop=1, **options)
    record = TrainingRecord.load("out/training.json")
    assert record.options == expected
    assert type(record.options.ablate) is type(options.get("ablate"))
    assert record.channels == 3
    assert record.fill_repr is not None


def test_from_given_weights(files):
    trained("--seed", 5)
    first = (files / "out" / WEIGHTS).rename(files / "first.safetensors")
    trained("--weights", first, "--overwrite")
    data = load_dataset("mine.npz")
    options = TrainingOptions(epochs=1, batch_size=16, crop=1)
    expected = train("resnet20", data, options, weights=first, progress=False)
    found = load_weights(build_model("resnet20", len(data.classes)), files / "out" / WEIGHTS)
    assert same_weights(found, expected.network)
    assert "is of another training" in trained(code=2).stderr
    missing = trained("--weights", "none.th", "--overwrite", code=1)
    assert "the weights file 'none.th' does not exist" in missing.stderr


def test_again_and_another(files):
    trained()
    before = (files / "out" / RECORD).stat().st_mtime_ns
    trained()
    assert (files / "out" / RECORD).stat().st_mtime_ns == before
    result = trained("--seed", 1, code=2)
    assert "`seed` is 0 there and 1 here; name another --out, or give --ov" in result.stderr
    trained("--seed", 1, "--overwrite")
    assert TrainingRecord.load("out/training.json").options.seed == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--dataset", "none.npz"), 1, "'none.npz' does not exist"),
        (("--test", "none.npz"), 1, "'none.npz' does not exist"),
        (("--model", "resnet19"), 2, "model name must be one of"),
        (("--defense", "nothing"), 2, "defence name must be one of"),
        (("--adversarial", "nothing"), 2, "attack name must be one of"),
        (("--schedule", "linear"), 2, "--schedule must be one of"),
        (("--precision", "int8"), 2, "--precision must be one of"),
        (("--learning-rate", "0"), 2, "`learning_rate` must be finite and > 0"),
        (("--warmup-epochs", "1"), 2, "--warmup-epochs must be fewer than the 1 --epochs"),
        (("--copies", "1", "--adversarial", "bpda"), 2, "--copies and --adversarial contradict"),
        (("--device", "nowhere"), 2, "--device must be one that torch can use here"),
        (("--crop", "8"), 2, "--crop must be less than the side of the images"),
        (("--cutout", "2x40"), 2, "--cutout must have boxes that fit into images of 8 x 8, got"),
        (("--cutout", "2y9"), 2, "--cutout must be COUNTxSIDE or COUNTxHEIGHTxWIDTH, got '2y9'"),
        (("--cutout", "0x9"), 2, "--cutout must have 1 to 64 boxes"),
        (("--cutout", "2x3", "--fill", "grey"), 2, "choose one; did you mean 'gray'?"),
        (("--fill", "gray"), 2, "--fill needs --cutout, which hides what it fills"),
        (("--encoding", "gray"), 2, "--encoding needs --ablate, which hides"),
        (("--ablate", "0.1"), 2, "--ablate needs --encoding, what the network gets"),
        (("--ablate", "0", "--encoding", "gray"), 2, "--ablate must be an integer in [1, "),
        (("--ablate", "1.5", "--encoding", "gray"), 2, "--ablate must be finite and in (0, 1]"),
        (
            ("--ablate", "64", "--encoding", "gray"),
            2,
            "--ablate must keep fewer than the 64 pixels",
        ),
        (("--ablate", "half", "--encoding", "gray"), 2, "--ablate must be a number, got 'half'"),
        (
            ("--ablate", "0.1", "--encoding", "gray", "--cutout", "1x3"),
            2,
            "--cutout and --ablate contradict each other",
        ),
        (("--cutout", "1x3", "--copies", "1"), 2, "--copies and --cutout contradict each other"),
        (
            ("--cutout", "1x3", "--adversarial", "bpda"),
            2,
            "--adversarial and --cutout contradict each other",
        ),
        (("-o", "mine.npz"), 2, "--out must be a folder, got the file"),
        (("--learning-rate", "1e30", "--epochs", "5"), 1, "became infinite or NaN in epoch"),
    ],
)
def test_failures_end_with_a_message_and_a_code(files, arguments, code, message):
    result = trained(*arguments, code=code)
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_too_little_memory(files, monkeypatch):
    def fail(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("splic_ext.training.learner.Learner.learn", fail)
    message = "error: not enough memory for batches of 16 images: CUDA out of memory; use a smaller"
    assert message in trained(code=1).stderr


def test_a_damaged_checkpoint(files):
    (files / "out").mkdir()
    (files / "out" / CHECKPOINT).write_bytes(b"x")
    assert "give --overwrite to begin anew" in trained(code=2).stderr
    assert "note: the training is begun anew: the checkpoint" in trained("--overwrite").stderr


def test_tensorboard_that_is_missing_is_told_of(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert trained().stderr.count("note: no logs for TensorBoard, which is not installed") == 1


@pytest.mark.parametrize("missing", ["--dataset", "--model", "-o"])
def test_required_flags(files, missing):
    arguments = list(BASE)
    position = arguments.index(missing)
    del arguments[position : position + 2]
    result = invoke("train", *arguments)
    assert result.exit_code == 2
    assert {"-o": "--out"}.get(missing, missing) in result.output


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to others there")
def test_ctrl_c_and_again(files):
    arguments = ["train", *BASE[:4], *BASE[6:], "--epochs", "300", "--test", "other.npz"]
    process = subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (files / "out" / CHECKPOINT).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted; the last checkpoint is kept; the same command goes on" in errors
    assert "Traceback" not in errors
    assert not list((files / "out").glob("*.tmp"))
    assert (files / "out" / CHECKPOINT).exists()


def test_help_does_not_import_torch(run_python):
    code = """
import sys
sys.argv = ["splic-ext", "train", "--help"]
from splic_ext.cli import main
try:
    main()
except SystemExit:
    print("torch" in sys.modules)
"""
    assert run_python(code).endswith("False")


def test_without_torch(tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None; "
        "sys.argv = 'splic-ext train --dataset digits --model x -o y'.split(); "
        "from splic_ext.cli import main; main()"
    )
    result = subprocess.run(
        [command()[0], "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert result.returncode == 1
    assert "error: `splic_ext.training` needs the package 'torch'" in result.stderr
