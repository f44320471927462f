"""``splic-ext reproduce``: tables, inputs, failures, exit codes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.cli import invoke
from helpers.data import write_cifar
from helpers.evaluation import no_work, part_times

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("foolbox", reason="foolbox is not installed")

from splic_ext.data import load_dataset  # noqa: E402
from splic_ext.evaluation import load_network  # noqa: E402
from splic_ext.experiments import ExperimentResult, Subject, reproduce  # noqa: E402
from splic_ext.models import build_model  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Archives of images of 3 x 32 x 32, and weights of the two networks."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    for name in ("mine", "other"):
        images = rng.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
        classes = np.array(list("0123456789"))
        np.savez(folder / f"{name}.npz", x=images, y=np.arange(3), classes=classes)
    for name in ("resnet20", "svhn_vgg"):
        torch.manual_seed(0)
        torch.save(build_model(name).state_dict(), folder / f"{name}.pt")
    return folder


@pytest.fixture
def files(made, tmp_path, monkeypatch):
    """The same in a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for path in made.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    return tmp_path


NET = """
import torch
from torch import nn

def make(num_classes, channels, side=32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, num_classes))

class Blur(nn.Module):
    def forward(self, images):
        return nn.functional.avg_pool2d(images, 3, 1, 1)
"""
SVHN = ("--svhn", "mine.npz", "--svhn-weights", "svhn_vgg.pt")
CIFAR10 = ("--cifar10", "other.npz", "--cifar10-weights", "resnet20.pt")
QUICK = ("--draws", 1, "--limit", 2, "--attack", "fgsm")


def reproduced(*arguments, code=0):
    result = invoke("reproduce", *arguments)
    assert result.exit_code == code, result.output
    return result


def numbers(result):
    return [(row.section, row.method, row.attack, row.mean, row.paper) for row in result.rows]


def test_the_result_is_that_of_the_library(files):
    shown = reproduced("table4", *SVHN, *QUICK, "--seed", 3, "--batch-size", 1, "-o", "out")
    found = ExperimentResult.from_json((files / "out" / "table4.json").read_text())
    subject = Subject(
        "svhn", load_dataset("mine.npz"), load_network("svhn_vgg", "svhn_vgg.pt"), "svhn_vgg"
    )
    expected = reproduce(
        "table4", [subject], draws=1, limit=2, attacks=["fgsm"], seed=3, batch_size=1
    )
    assert numbers(found) == numbers(expected)
    assert {row.model for row in found.rows} == {row.model for row in expected.rows}
    assert found.rows[0].model.name == "svhn_vgg"
    assert found.notes == ("seed 3",)
    assert found.provenance.command.startswith("splic-ext")
    for words in ("Table 4: SVHN", "2 images of mine, svhn_vgg", "SRF (lambda 0)", "59.8"):
        assert words in shown.stdout
    assert "result: out/table4.json, .csv, .md" in shown.stderr.replace(os.sep, "/")


def test_quiet_and_again(files):
    """Two data sets of one kind; the same command computes nothing."""
    arguments = ("table3", *SVHN, "--svhn", "other.npz", *QUICK, "-q", "-o", "out")
    first = reproduced(*arguments)
    assert first.output == ""
    result = ExperimentResult.from_json((files / "out" / "table3.json").read_text())
    assert {row.section for row in result.rows} == {"mine", "other"}
    assert {row.attack for row in result.rows} == {"clean", "FGSM"}
    before = part_times(files / "out")
    reproduced(*arguments)
    assert part_times(files / "out") == before
    assert no_work(files / "out")
    again = ExperimentResult.from_json((files / "out" / "table3.json").read_text())
    assert numbers(again) == numbers(result)


def test_both_kinds_into_the_default_folder(files):
    reproduced("table3", *SVHN, *CIFAR10, *QUICK, "--limit", 1, "-q")
    result = ExperimentResult.from_json((files / "results" / "table3.json").read_text())
    found = {row.section: row.model.name for row in result.rows}
    assert found == {"other": "resnet20", "mine": "svhn_vgg"}
    (usvt,) = result.select(section="other", method="USVT", attack="FGSM")
    assert usvt.paper == 12.1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("table5", *SVHN), 2, "NAME must be one of table1, table2, table3, "),
        (
            ("table3",),
            2,
            "--digits, --shapes) of table3 must not be empty; give images and a network",
        ),
        (
            ("table4", *CIFAR10),
            2,
            "--digits, --shapes) of table4 must be of svhn or digits or shapes, got 'cifar10'",
        ),
        (
            ("table4", *SVHN[:2]),
            2,
            "--svhn mine.npz must come with --svhn-train, images to train net",
        ),
        (("figure6", *SVHN), 2, "--svhn-train, images to train networks on; give it"),
        (("table4", *SVHN[2:]), 2, "--svhn-weights, --svhn-model and --svhn-train belong to -"),
        (("table3", "--svhn-train", "mine.npz"), 2, "--svhn-train belong to --svhn, the test"),
        (("table3", *CIFAR10[2:], *SVHN), 2, "--cifar10-weights, --cifar10-model and --cifar10-tr"),
        (("all", *SVHN, *QUICK), 2, "--attack is for a single experiment; leave it out"),
        (("all", *SVHN), 2, "--svhn mine.npz must come with --svhn-train"),
        (("table3", *SVHN, "--budget", "big"), 2, "--budget must be one of smoke, cpu, gpu, or a"),
        (("figure4", *SVHN, "--attack", "pgd"), 2, "--attack is for table1, table3, table4, fig"),
        (("table3", *SVHN[:2], "--svhn-train", "other.npz", "--budget", "smoke"), 2, "has no netw"),
        (("table4", *SVHN, "--svhn", "mine.npz"), 2, "got 'mine' twice; rename one"),
        (("table3", *SVHN, "--attack", "cw"), 2, "--attack of table3 must be among fgsm, pgd, go"),
        (("table4", "--svhn", "none.npz", *SVHN[2:]), 1, "data set 'none.npz' does not exist"),
        (
            ("table4", "--svhn", "svhn", *SVHN[2:], "--root", "x"),
            1,
            "load_dataset(..., download=True)`, or",
        ),
        (("table4", *SVHN[:2], "--svhn-weights", "no.pt"), 1, "weights file 'no.pt' does not ex"),
        (("table4", *SVHN[:2], "--svhn-weights", "resnet20.pt"), 2, "is of another network than"),
        (("table4", *SVHN, "--device", "gpu"), 2, "--device must be one that torch can use"),
        (("table4", *SVHN, "-o", "mine.npz"), 2, "--out must be a folder, got the file"),
        (("figure4", *SVHN, "--defense", "jpeg"), 2, "--defense are for table1, table2, table3"),
        (("table4", *SVHN, "--defense", "splic"), 2, "--defense of table4 must be others than its"),
        (("table4", *SVHN, "--defense", "no.py:X"), 2, "the file 'no.py' of a defence cannot be"),
        (("table4", *SVHN, "--mean", 0.5, "--std", 1), 2, "--mean and --std are for a network of"),
        (("table3", "--model", "net.py:make"), 2, "for images of one kind, got none; give one of"),
        (
            ("table3", "--digits", "--shapes", "--weights", "x.pt"),
            2,
            "--model and --weights are for images of one kind, got digits and shapes; give one of",
        ),
        (("table4", *SVHN, "--weights", "x.pt"), 2, "contradict --svhn-model and --svhn-weights"),
        (("table3", "--digits", "--model", "digits_cnn"), 2, "--weights must be given for the"),
        (
            ("table4", *SVHN[:2], "--model", "net.py:make", "--mean", "0.5"),
            2,
            "--mean and --std belong together, got --mean alone; give both",
        ),
    ],
)
def test_failures_end_with_a_message_and_a_code(files, arguments, code, message):
    result = reproduced(*arguments, code=code)
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize("flag", ["--limit", "--slow-limit", "--draws", "--batch-size"])
def test_numbers_out_of_range(flag):
    assert flag in reproduced("table4", flag, 0, code=2).output


def test_all_flags_and_ctrl_c(files, monkeypatch):
    given = {}

    def interrupted(name, subjects, **arguments):
        given.update(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr("splic_ext.experiments.reproduce", interrupted)
    flags = ("--slow-limit", 5, "--device", "cpu", "--batch-size", 7, "-q", "-o", "here")
    result = reproduced("table4", *SVHN, *QUICK, *flags, code=130)
    assert result.stderr == "interrupted; finished parts are kept; the same command goes on\n"
    assert given.pop("command").startswith("splic-ext")
    assert given == {
        "draws": 1, "seed": 0, "limit": 2, "slow_limit": 5, "attacks": ["fgsm"], "batch_size": 7,
        "budget": None, "output": Path("here"), "device": "cpu", "progress": False,
        "defenses": (),
    }  # fmt: skip


def test_digits_at_any_budget(files):
    reproduced("figure12", "--digits", "--limit", "30", "-q", "-o", "out")
    result = ExperimentResult.from_json((files / "out" / "figure12.json").read_text())
    assert result.budget == "cpu"
    assert [(data.name, data.images) for data in result.datasets] == [("digits", 30)]


def test_shapes_at_any_budget(files):
    reproduced("figure12", "--shapes", "--limit", "30", "-q", "-o", "out")
    result = ExperimentResult.from_json((files / "out" / "figure12.json").read_text())
    assert result.budget == "cpu"
    assert [(data.name, data.images) for data in result.datasets] == [("shapes", 30)]


def test_smoke_needs_no_data(files, monkeypatch):
    shown = reproduced("figure12", "--budget", "smoke", "-o", "out")
    result = ExperimentResult.from_json((files / "out" / "figure12.json").read_text())
    assert result.budget == "smoke"
    assert {point.dataset for point in result.points} == {"shapes"}
    assert "result: out/figure12.json, _points.csv, .md, .png" in shown.stderr.replace(os.sep, "/")
    assert (files / "out" / "figure12.png").read_bytes()[1:4] == b"PNG"


def test_a_defence_and_a_network_of_ones_own(files):
    """Numbers of the library; another file of the defence is another defence."""
    arguments = (
        "table4", "--svhn", "mine.npz", "--model", "net.py:make", "--mean", "0.5", "--std",
        "0.25,0.5,0.25", "--defense", "net.py:Blur", *QUICK, "-o", "out",
    )  # fmt: skip
    shown = reproduced(*arguments)
    found = ExperimentResult.from_json((files / "out" / "table4.json").read_text())
    data = load_dataset("mine.npz")
    network = load_network("net.py:make", mean=0.5, std=[0.25, 0.5, 0.25], dataset=data)
    expected = reproduce(
        "table4", [Subject("svhn", data, network, "net.py:make")], draws=1, limit=2,
        attacks=["fgsm"], defenses=["net.py:Blur"],
    )  # fmt: skip
    assert numbers(found) == numbers(expected)
    assert {row.model for row in found.rows} == {row.model for row in expected.rows}
    assert [row.attack for row in found.select(method="net.py:Blur")] == ["clean", "FGSM"]
    assert "net.py:Blur" in shown.stdout
    before = part_times(files / "out")
    reproduced(*arguments, "-q")
    assert part_times(files / "out") == before
    (files / "net.py").write_text(NET.replace("return nn.f", "return 1 - nn.f"))
    reproduced(*arguments, "-q")
    assert before.items() < part_times(files / "out").items()


def test_a_network_for_images_that_need_no_file(files, monkeypatch):
    given = []

    def keep(name, subjects, **arguments):
        given.extend(subjects)
        raise KeyboardInterrupt

    monkeypatch.setattr("splic_ext.experiments.reproduce", keep)
    torch.save(build_model("shapes_cnn").state_dict(), "shapes.pt")
    few = ("--shapes", "--limit", 4)
    reproduced("table3", *few, "--weights", "shapes.pt", code=130)
    reproduced("table3", *few, "--model", "net.py:make", "--mean", 0.5, "--std", 1, code=130)
    reproduced("figure6", *few, "--model", "net.py:make", code=130)
    reproduced("table3", *few, code=130)
    assert [subject.model_name for subject in given] == ["shapes_cnn", *["net.py:make"] * 2, None]
    assert [hasattr(subject.model, "normalize") for subject in given[1:3]] == [True, False]
    assert [subject.training is None for subject in given] == [True, True, False, False]
    assert {subject.kind for subject in given} == {"shapes"}


def test_training_images(files, monkeypatch):
    """By path, or those of the same name; without weights no network is given."""
    given = []

    def keep(name, subjects, **arguments):
        given.extend(subjects)
        raise KeyboardInterrupt

    monkeypatch.setattr("splic_ext.experiments.reproduce", keep)
    reproduced("figure6", *SVHN, "--svhn-train", "other.npz", code=130)
    reproduced("table3", *SVHN[:2], "--svhn-train", "other.npz", code=130)
    reproduced("table3", *SVHN, "--svhn-train", "other.npz", code=130)
    assert [subject.model is None for subject in given] == [False, True, False]
    assert [subject.training is None for subject in given] == [False, False, True]
    assert given[0].training.name == "other"
    write_cifar(files / "data" / "cifar-10-batches-py")
    reproduced("figure6", "--cifar10", "cifar10", "--root", "data", code=130)
    assert (given[3].dataset.name, given[3].training.name) == ("cifar10/test", "cifar10/train")
    reproduced("table3", "--cifar10", "cifar10", *CIFAR10[2:], "--root", "data", code=130)
    assert given[4].training is None, "images that nothing is trained on were read"


def test_all_of_them(files, monkeypatch):
    """Those that the images are for, one after the other, with the budget of two cores."""
    seen = {}

    def keep(subjects, **arguments):
        seen.update(arguments)
        yield from ()

    monkeypatch.setattr("splic_ext.experiments.reproduce_all", keep)
    reproduced("all", "-q")
    assert seen["budget"] == "cpu"
    reproduced("all", "--budget", "smoke", "-q")
    assert seen["budget"] == "smoke"
    assert "attacks" not in seen


def test_without_torch(run_python):
    code = """
import sys
sys.modules["torch"] = None
sys.argv = "splic-ext reproduce table4".split()
from splic_ext.cli import main
try:
    main()
except SystemExit as end:
    print(end.code)
"""
    assert run_python(code) == "1"
