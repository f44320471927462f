"""Networks of one's own: by their place, with weights or without, normalised, tried on images."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.cli import invoke
from helpers.evaluation import make_dataset

torch = pytest.importorskip("torch", reason="torch is not installed")
import numpy as np  # noqa: E402

from splic_ext.evaluation import EvaluationReport, load_network  # noqa: E402
from splic_ext.models import Normalized, load_weights  # noqa: E402
from splic_ext.training import TrainingOptions, train  # noqa: E402

FILE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=4, width=2, side=8):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Conv2d(3, width, 3, padding=1)
        self.last = nn.Linear(width * side * side, num_classes)

    def forward(self, images):
        return self.last(self.inner(images).flatten(1))

def plain():
    return Net()

def with_channels(channels, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, num_classes))

def none():
    return [1]

def broken():
    raise OSError("no file of weights")

def maps():
    return nn.Conv2d(3, 4, 3)

ready = Net()
trained = Net().train()
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE, encoding="utf-8")
    data = make_dataset(12)
    np.savez("mine.npz", x=data.images, y=data.labels)
    return data


@pytest.mark.parametrize(
    "place",
    ["mine.py:Net", "mine:Net", "mine.py:plain", "mine.py:ready", "mine.py:trained",
     "mine.py:with_channels", "mine.py:Net:width=3"],
)  # fmt: skip
def test_by_place(mine, place):
    network = load_network(place, dataset=mine)
    assert not network.training
    assert network(torch.rand(2, 3, 8, 8)).shape == (2, 4)


def test_weights_and_normalisation(mine):
    plain = load_network("mine.py:Net", dataset=mine)
    other = load_network("mine.py:Net", dataset=mine)
    with torch.no_grad():
        other.last.bias.add_(1)
    torch.save(other.state_dict(), "other.pt")
    images = torch.rand(2, 3, 8, 8)
    loaded = load_network("mine.py:Net", "other.pt", dataset=mine)
    assert torch.allclose(loaded(images), plain(images) + 1, atol=1e-5)
    for mean, std in ((0.5, 0.25), ([0.5] * 3, [0.25] * 3)):
        normal = load_network("mine.py:Net", "other.pt", dataset=mine, mean=mean, std=std)
        assert isinstance(normal, Normalized)
        assert torch.allclose(normal(images), loaded((images - 0.5) / 0.25), atol=1e-4)
    torch.save(normal.state_dict(), "normal.pt")
    again = load_network("mine.py:Net", "normal.pt", dataset=mine, mean=0.1, std=0.1)
    assert torch.allclose(again(images), normal(images)), "constants of the file count"


@pytest.mark.parametrize(
    ("place", "changes", "error", "message"),
    [
        ("resnet20", {}, ValueError, "`weights` must be given for the network 'resnet20', which i"),
        ("resnet20", {"mean": 0.5, "std": 0.5}, ValueError, "are for networks of your own, got 'r"),
        ("mine.py:Net", {"mean": 0.5}, ValueError, "`mean` and `std` belong together, got `mean` "),
        ("mine.py:Net", {"mean": [0.5] * 2, "std": 1.0}, ValueError, "must have one value for eac"),
        ("mine.py:Net", {"mean": 0.5, "std": 0.0}, ValueError, "`std` must be"),
        ("mine.py:Net", {"mean": [0, 0], "std": [1, 1]}, ValueError, "must take images .* ShapeEr"),
        ("mine.py:no", {}, ValueError, "'mine.py' has no network 'no'; it has Net, "),
        ("none.py:Net", {}, ValueError, "the file 'none.py' of a network cannot be read"),
        ("lost.module:Net", {}, ValueError, "there is no module 'lost' for the network"),
        ("mine.py:none", {}, TypeError, "the network 'mine.py:none' must be a torch.nn.Module, go"),
        ("mine.py:broken", {}, ValueError, "cannot be made: OSError: no file of weights; give oth"),
        ("mine.py:nn", {}, TypeError, "must be a class or a function that returns a network, got "),
        ("mine.py:ready:width=1", {}, TypeError, "got Net with parameters; name such a one"),
        ("mine.py:Net:depth=1", {}, TypeError, "cannot be called with depth, num_classes: got an "),
        ("mine.py:Net:side=9", {}, ValueError,
         r"must take images of shape \(N, C, H, W\) = \(4, 3, 8, 8\), got RuntimeError: .*other i"),
        ("mine.py:Net:num_classes=1000", {}, ValueError,
         r"'mine.py:Net:num_classes=1000' must return logits of shape \(N, classes\) = \(4, 4\), "),
        ("mine.py:maps", {}, ValueError, r"= \(4, 4\), got \(4, 4, 6, 6\); give it a parameter"),
        ("mine.py:Net", {"weights": "none.pt"}, FileNotFoundError, "'none.pt' does not exist"),
    ],
)  # fmt: skip
def test_refused(mine, place, changes, error, message):
    with pytest.raises(error, match=message):
        load_network(place, **{"dataset": mine, **changes})


def test_the_command_evaluates_and_its_parts_know_the_code(mine, tmp_path):
    command = (
        "evaluate", "--dataset", "mine.npz", "--model", "mine.py:Net", "--mean", "0.5", "--std",
        "0.2,0.2,0.2", "--defense", "identity", "-o", "out",
    )  # fmt: skip
    assert invoke(*command).exit_code == 0
    report = EvaluationReport.load("out/report.json")
    assert report.records[0].model.name == "mine.py:Net"
    parts = set((tmp_path / "out" / "parts").iterdir())
    assert invoke(*command).exit_code == 0
    assert set((tmp_path / "out" / "parts").iterdir()) == parts
    (tmp_path / "mine.py").write_text(FILE.replace("flatten(1)", "relu().flatten(1)"))
    other = invoke(*command)
    assert other.exit_code == 2
    assert "another evaluation: other --batch-size, code of your own, or" in other.stderr
    assert invoke(*command, "--overwrite").exit_code == 0
    assert set((tmp_path / "out" / "parts").iterdir()) > parts


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--model", "resnet20"), 2, "--weights must be given for the network 'resnet20'"),
        (("--model", "mine.py:Net", "--mean", "0.5"), 2, "--mean and --std belong together, got"),
        (("--model", "mine.py:Net", "--mean", "a", "--std", "1"), 2, "--mean must be one number, "),
        (("--model", "mine.py:Net:num_classes=3"), 2, "must return logits of shape (N, classes)"),
        (("--model", "mine.py:Net", "--surrogate", "resnet20"), 2, "belong together; give both"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["evaluate", "attack", "certify"])
def test_refused_commands(mine, command, arguments, code, message):
    usual = ("--patch", 2) if command == "certify" else ("--defense", "identity", "-o", "out")
    if command == "certify" and "--surrogate" in arguments:
        pytest.skip("certify has no surrogate")
    result = invoke(command, "--dataset", "mine.npz", *usual, *arguments)
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("error: ")
    assert message in result.stderr


def test_certify_and_a_surrogate_of_ones_own(mine):
    result = invoke(
        "certify", "--dataset", "mine.npz", "--model", "mine.py:Net", "--patch", 2, "--fill",
        "gray", "--limit", 2, "--masks", 3, "-q",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    result = invoke(
        "evaluate", "--dataset", "mine.npz", "--model", "mine.py:Net", "--surrogate",
        "mine.py:plain", "--scenario", "black", "--defense", "identity", "-q",
    )  # fmt: skip
    assert result.exit_code == 0, result.output


def test_training(mine):
    options = TrainingOptions(epochs=1, batch_size=4, crop=1, flip=False, learning_rate=0.01)
    first = train("mine.py:Net", mine, options, mean=0.5, std=0.25, output="out", progress=False)
    assert first.record.model.name == "mine.py:Net"
    again = train("mine.py:Net", mine, options, mean=0.5, std=0.25, output="out", progress=False)
    assert again.record == first.record
    loaded = load_network(
        "mine.py:Net", "out/weights.safetensors", dataset=mine, mean=0.5, std=0.25
    )
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(loaded(images), first.network(images))
    with pytest.raises(ValueError, match=r"of shape \(N, classes\) = \(4, 4\), got \(4, 3\)"):
        train("mine.py:Net:num_classes=3", mine, options, progress=False)
    with pytest.raises(ValueError, match="are for a model given by its place, got a network; put"):
        train(first.network, mine, options, mean=0.5, std=0.5, progress=False)
    text = FILE.replace("flatten(1)", "relu().flatten(1)")
    Path("mine.py").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="is of another training: another network"):
        train("mine.py:Net", mine, options, mean=0.5, std=0.25, output="out", progress=False)


def test_the_command_trains(mine):
    result = invoke(
        "train", "--dataset", "mine.npz", "--model", "mine.py:Net", "--mean", "0.5", "--std", "0.3",
        "--epochs", 1, "--batch-size", 4, "--crop", 1, "--learning-rate", 0.01, "-o", "out", "-q",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    whole = load_network("mine.py:Net", dataset=mine, mean=0.5, std=0.3)
    load_weights(whole, "out/weights.safetensors")
