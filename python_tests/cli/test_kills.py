"""Commands that are killed at random moments and resumed come to the files of an undisturbed run.

SPLIC_KILLS is the number of kills, SPLIC_KILL_SEED their seed. Trainings and evaluations, which
take seconds to start, are killed where SPLIC_KILLS is 20 or more, a quarter as often.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

if os.name == "nt":
    pytest.skip("no such signals there", allow_module_level=True)

from helpers.cli import command, files_below, save_png
from helpers.conversion import contents, pixels, samples, write_tar

KILLS = int(os.environ.get("SPLIC_KILLS", "6"))
SEED = int(os.environ.get("SPLIC_KILL_SEED", "0"))
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
#: Seconds in which Python itself starts, and Ctrl-C may show a traceback of it.
START = 0.1
long = pytest.mark.skipif(KILLS < 20, reason="set SPLIC_KILLS to 20 or more")


def run(arguments):
    """Run a command to its end; return the seconds that it took, and its messages."""
    began = time.monotonic()
    result = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return time.monotonic() - began, result.stderr


def kill(arguments, folder, name, share, whole):
    """Start a command, kill it, return its exit code; `share` is of its work, or of all its time.

    The work begins with the first file in the folder.
    """
    process = subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True)
    began = time.monotonic()
    before = files_below(folder)
    if share >= 0:
        while process.poll() is None and files_below(folder) == before:
            time.sleep(0.002)
        time.sleep(share * whole / 4)
    else:
        time.sleep(max(START, -share * whole))
    at = time.monotonic() - began
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=60)
    number = getattr(signal, name)
    assert process.returncode in (0, -number, 128 + number), errors
    assert "Traceback" not in errors, f"{name} after {at:.3f} s: {errors}"
    assert process.returncode == 0 or len(errors.splitlines()) <= 2, errors
    return process.returncode


def kill_often(arguments, folder, count, check):
    """Kill a command that often, resume it in between; return how it ended how often.

    `check` is given whether all has been done.
    """
    whole, _ = run(arguments)
    check(True)
    shutil.rmtree(folder)
    rng = random.Random(SEED)
    ends = Counter()
    for _ in range(count):
        name = rng.choice(SIGNALS)
        share = rng.random() if rng.random() < 0.75 else -rng.random()
        code = kill(arguments, folder, name, share, whole)
        stale = [path for path in files_below(folder) if path.endswith(".tmp")]
        ends[f"{name} {'too late' if code == 0 else 'hit'}"] += 1
        ends["unfinished files left"] += len(stale)
        assert name == "SIGKILL" or code < 0 or not stale, f"{name}: {stale}"
        check(False)
        if code == 0:
            check(True)
            shutil.rmtree(folder)
    _, errors = run(arguments)
    assert "removed" not in errors or ends["unfinished files left"]
    check(True)
    assert not [path for path in files_below(folder) if path.endswith(".tmp")]
    print(f"{count} kills of {arguments[0]}, seed {SEED}: {dict(sorted(ends.items()))}")


def test_complete(tmp_path):
    for i in range(60):
        save_png(tmp_path / f"in/{i % 4}/{i}.png", (64, 64, 3))
    out = tmp_path / "out"
    common = ("--preset", "paper", "--max-iterations", "30", "--jobs", "2")
    expected = tmp_path / "right"
    run(("complete", tmp_path / "in", "-o", expected, *common))
    right = {name: (expected / name).read_bytes() for name in files_below(expected)}
    assert len(right) == 60

    def check(done):
        there = {name for name in files_below(out) if not Path(name).name.startswith(".splic-")}
        assert there == set(right) if done else there <= set(right)
        for name in there:
            assert (out / name).read_bytes() == right[name], name

    kill_often(
        ("complete", tmp_path / "in", "-o", out, *common, "--skip-existing"), out, KILLS, check
    )


def test_convert(tmp_path):
    """Of two workers; the first shards are there after a second or so."""
    images = pixels(240, (16, 16, 3))
    for number in range(12):
        part = slice(20 * number, 20 * number + 20)
        write_tar(tmp_path / f"in/{number:05}.tar", samples(images[part], 20 * number))
    out, expected = tmp_path / "out", tmp_path / "right"
    common = ("--preset", "paper", "--max-iterations", "30", "--workers", "2", "-q")
    run(("convert", tmp_path / "in", expected, *common))
    right = contents(expected)
    assert len(right) == 13

    def check(done):
        found = contents(out)
        assert set(found) == set(right) if done else set(found) <= set(right)
        for name, content in found.items():
            assert content == right[name], name

    kill_often(("convert", tmp_path / "in", out, *common), out, KILLS, check)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """An undisturbed training."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    folder = tmp_path_factory.mktemp("digits") / "out"
    run((*TRAIN, "-o", folder))
    return folder


TRAIN = (
    "train", "--dataset", "digits", "--model", "digits_cnn", "--limit", 200, "--epochs", 12,
    "--batch-size", 32, "--no-flip", "--threads", 1, "--defense", "tv", "--copies", 2, "-q",
)  # fmt: skip


@long
def test_train(tmp_path, digits):
    from splic_ext.training.checkpoint import Checkpoint

    out = tmp_path / "out"

    def check(done):
        if done:
            names = ("weights.safetensors", "training.json")
            weights, record = ((out / name).read_bytes() for name in names)
            assert weights == (digits / names[0]).read_bytes()
            right = json.loads((digits / names[1]).read_bytes())
            assert json.loads(record)["model"] == right["model"]
        elif (out / "checkpoint.safetensors").exists():
            with pytest.raises(ValueError, match="of another training"):
                Checkpoint.read(out / "checkpoint.safetensors", {"options": {}})

    kill_often((*TRAIN, "-o", out), out, KILLS // 4, check)


@long
def test_evaluate(tmp_path, digits):
    out = tmp_path / "out"
    arguments = (
        "evaluate", "--dataset", "digits", "--model", "digits_cnn", "--limit", 200, "--draws", 4,
        "--weights", digits / "weights.safetensors", "--defense", "splic", "--attack", "pgd",
        "--batch-size", 10, "--device", "cpu", "-q", "--overwrite",
    )  # fmt: skip
    right = []

    def check(done):
        if not done:
            return
        records = json.loads((out / "report.json").read_bytes())["records"]
        found = [
            {k: v for k, v in record.items() if k not in ("seconds", "provenance")}
            for record in records
        ]
        right.append(found)
        assert found == right[0]

    kill_often((*arguments, "-o", out), out, KILLS // 4, check)
