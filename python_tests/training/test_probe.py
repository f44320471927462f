"""A defence that leaves little to learn is told of before a training."""

from __future__ import annotations

import dataclasses
import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.cli import invoke
from helpers.training import (
    StopTraining,
    checkpoint,
    digits,
    fit,
    make_data,
    same_weights,
    stop_at,
    timeless,
)

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch import nn  # noqa: E402

from splic_ext.data import Dataset, load_dataset  # noqa: E402
from splic_ext.defenses import as_defense, defense_from_spec  # noqa: E402
from splic_ext.training import TrainingOptions, probe  # noqa: E402
from splic_ext.training import checkpoint as checkpoint_module  # noqa: E402
from splic_ext.training import run as run_module  # noqa: E402
from splic_ext.training.folder import CHECKPOINT  # noqa: E402

SMALL = {"epochs": 1, "batch_size": 32, "crop": 0}
MESSAGE = (
    r"the defence 'splic' leaves little to learn of 'digits/train': on 400 of its images a simple "
    r"classifier is right on (\d+) % behind it, (\d+) % without it and (\d+) % by guessing; use a "
    r"milder one .*'recommended'.* larger images, or the data set 'shapes'$"
)


class Gray(nn.Module):
    """Erases all that there is."""

    def forward(self, images):
        return torch.full_like(images, 0.5)


def noted(data, defense, seed=0):
    """What there is to warn of before a training of such images."""
    text = defense if isinstance(defense, str) else "identity"
    made = defense_from_spec(text) if isinstance(defense, str) else as_defense(defense)
    options = TrainingOptions(batch_size=128, defense=text, seed=seed)
    return probe.loss_note(
        SimpleNamespace(data=data, options=options, defense=made, device=torch.device("cpu"))
    )


def learn(**arguments):
    return fit("digits_cnn", digits(400), **SMALL, defense="splic", **arguments)


def test_digits_behind_splic_and_the_same_weights_without_a_look(monkeypatch):
    state = torch.get_rng_state()
    with pytest.warns(UserWarning, match=MESSAGE) as caught:
        told = learn()
    assert torch.equal(torch.get_rng_state(), state)
    (note,) = told.record.notes
    assert [str(one.message) for one in caught] == [note]
    monkeypatch.setattr(run_module, "loss_note", lambda plan: None)
    silent = learn()
    assert silent.record.notes == ()
    assert same_weights(told.network, silent.network)
    assert timeless(told) == timeless(silent)


def test_the_numbers_follow_from_data_defence_and_seed():
    first = noted(digits(1000), "splic", seed=3)
    torch.manual_seed(7)
    assert noted(digits(1000), "splic", seed=3) == first
    behind, without, guessing = (int(word) for word in first.split() if word.isdigit())
    assert 25 < behind < 55
    assert without > 95
    assert 9 < guessing < 12


@pytest.mark.parametrize(
    ("spec", "behind", "network"),
    [
        ("splic", 0.40, 0.45),
        ("splic:alternate=false", 0.72, 0.72),
        ("splic:recommended", 0.80, 0.75),
    ],
)
def test_the_network_is_as_far_down_as_the_classifier(monkeypatch, spec, behind, network):
    """The table of docs/training.md."""
    seen = []
    accuracy = probe.kernel_accuracy
    monkeypatch.setattr(probe, "kernel_accuracy", lambda *a: seen.append(accuracy(*a)) or seen[-1])
    assert (noted(load_dataset("digits", "train"), spec) is not None) == (behind < 0.6)
    without, found = seen
    assert without > 0.98
    assert found == pytest.approx(behind, abs=0.03)
    monkeypatch.setattr(run_module, "loss_note", lambda plan: None)
    changes = {**SMALL, "epochs": 8, "learning_rate": 0.03, "defense": spec}
    data, test = load_dataset("digits", "train"), load_dataset("digits", "test")
    (*_, last) = fit("digits_cnn", data, test=test, **changes).history
    assert last.test_accuracy == pytest.approx(network, abs=0.06)


@pytest.mark.parametrize(
    "spec", ["splic:recommended", "splic:alternate=false", "tv:weight=0.3", "bit-depth:bits=1"]
)
def test_digits_behind_a_milder_defence(spec):
    assert noted(digits(1000), spec) is None


def test_shapes():
    assert noted(load_dataset("shapes", "train", limit=600), "splic") is None


def test_an_object_that_erases_all():
    note = noted(digits(400), Gray())
    assert "ModuleDefense(Gray(), seed=None, gradient='exact')" in note
    assert noted(digits(400), nn.Identity()) is None


def test_where_there_is_nothing_to_compare(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("nothing was to be looked at")

    monkeypatch.setattr(probe, "_seen", refuse)
    assert noted(digits(400), "identity") is None
    assert noted(digits(probe.FEWEST - 1), "splic") is None
    with pytest.raises(AssertionError, match="nothing was to be"):
        noted(digits(probe.FEWEST), "splic")


def test_images_without_classes_to_see():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (300, 1, 8, 8), dtype=np.uint8), rng.integers(0, 2, 300)
    assert noted(Dataset("noise", images, labels, ("a", "b")), Gray()) is None


def test_large_images_and_many_are_cut_down(monkeypatch):
    seen = []
    monkeypatch.setattr(probe, "kernel_accuracy", lambda x, y: seen.append((x.shape, len(y))) or 1)
    data = make_data(4)
    images = np.repeat(np.tile(data.images, (300, 1, 1, 1)), 5, axis=2)  # 3 x 40 x 8
    large = Dataset("large", images, np.tile(data.labels, 300), data.classes)
    assert noted(large, "bit-depth:bits=1") is None
    assert seen == [((1000, 3 * 32 * 8), 1000)] * 2


def test_it_is_said_once_and_stays_in_the_record(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "INTERVAL", 0.0)
    stop_at(monkeypatch, 3)
    with pytest.warns(UserWarning, match=MESSAGE), pytest.raises(StopTraining):
        learn(output=tmp_path)
    monkeypatch.undo()
    (note,) = checkpoint(tmp_path)["notes"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = learn(output=tmp_path)
        assert result.record.notes == (note,)
        assert learn(output=tmp_path).record == result.record


def test_a_checkpoint_of_before_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "INTERVAL", 0.0)
    stop_at(monkeypatch, 2)
    with pytest.raises(StopTraining):
        fit(output=tmp_path)
    monkeypatch.undo()
    path, meta = tmp_path / CHECKPOINT, checkpoint(tmp_path)
    found = checkpoint_module.Checkpoint.read(path, meta["identity"])
    assert meta.pop("notes") == []
    del meta["sha256"]
    meta["sha256"] = checkpoint_module._checksum(meta, found.tensors)
    checkpoint_module.write_tensors(path, found.tensors, {checkpoint_module.META: json.dumps(meta)})
    again = checkpoint_module.Checkpoint.read(path, meta["identity"])
    assert dataclasses.replace(again, tensors={}) == dataclasses.replace(found, tensors={})
    assert same_weights(fit(output=tmp_path).network, fit().network)


def test_the_command_says_so(tmp_path):
    result = invoke(
        "train", "--dataset", "digits", "--limit", 400, "--model", "digits_cnn", "--epochs", 1,
        "--batch-size", 32, "--crop", 0, "--no-flip", "--defense", "splic", "-o", tmp_path / "out",
        "--quiet",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stderr.splitlines() if "leaves little to learn" in line]
    assert line.startswith("note: the defence 'splic'")
