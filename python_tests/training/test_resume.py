"""Trainings that are finished, stopped or killed, and run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.training import (
    StopTraining,
    checkpoint,
    files,
    fit,
    make_data,
    make_network,
    same_weights,
    stop_at,
    timeless,
    updates,
)

import splic_ext
from splic_ext.models import load_weights
from splic_ext.training import run as run_module
from splic_ext.training.folder import CHECKPOINT, RECORD, WEIGHTS

FULL = {
    "defense": "splic",
    "adversarial": "bpda:steps=1",
    "ema_decay": 0.8,
    "epochs": 3,
    "test": make_data(10, seed=1),
}


def test_files(tmp_path):
    fit(output=tmp_path / "a" / "b")
    assert files(tmp_path / "a" / "b") == [RECORD, WEIGHTS]


def test_a_finished_training_is_not_repeated(tmp_path, monkeypatch):
    first = fit(output=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    done = updates(monkeypatch)
    again = fit(output=tmp_path)
    assert not done
    assert again.record == first.record
    assert same_weights(again.network, first.network)
    assert not again.network.training
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("stops", [(3,), (4,), (1, 2, 2), (8,)])
@pytest.mark.parametrize("kind", ["plain", "full"])
def test_stopped_and_resumed_to_the_same_bits(tmp_path, monkeypatch, stops, kind):
    """Three updates are an epoch; a checkpoint follows each update here."""
    arguments = FULL if kind == "full" else {"epochs": 3}
    expected = fit(make_network(dropout=0.2), **arguments)
    monkeypatch.setattr(run_module, "INTERVAL", 0.0)
    for count in stops:
        stop_at(monkeypatch, count)
        with pytest.raises(StopTraining):
            fit(make_network(dropout=0.2), output=tmp_path, **arguments)
        assert files(tmp_path) == [CHECKPOINT]
    monkeypatch.undo()
    done = updates(monkeypatch)
    found = fit(make_network(dropout=0.2), output=tmp_path, **arguments)
    assert len(done) == 9 - sum(stops)
    assert same_weights(found.network, expected.network)
    assert timeless(found) == timeless(expected)
    assert files(tmp_path) == [RECORD, WEIGHTS]
    assert found.record.notes == expected.record.notes == ()


def test_without_an_interval_whole_epochs_are_kept(tmp_path, monkeypatch):
    stop_at(monkeypatch, 5)
    with pytest.raises(StopTraining):
        fit(output=tmp_path, epochs=3)
    monkeypatch.undo()
    done = updates(monkeypatch)
    fit(output=tmp_path, epochs=3)
    assert len(done) == 6


def test_float16_goes_on_with_its_scale(tmp_path, monkeypatch):
    expected = fit(precision="float16", epochs=3)
    stop_at(monkeypatch, 3)
    with pytest.raises(StopTraining):
        fit(precision="float16", epochs=3, output=tmp_path)
    monkeypatch.undo()
    assert same_weights(
        fit(precision="float16", epochs=3, output=tmp_path).network, expected.network
    )


def test_channels_last_goes_on(tmp_path, monkeypatch):
    expected = fit(channels_last=True, epochs=3)
    stop_at(monkeypatch, 3)
    with pytest.raises(StopTraining):
        fit(channels_last=True, epochs=3, output=tmp_path)
    monkeypatch.undo()
    found = fit(channels_last=True, epochs=3, output=tmp_path)
    assert same_weights(found.network, expected.network)


def test_times_add_up(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "INTERVAL", 0.0)
    stop_at(monkeypatch, 2)
    with pytest.raises(StopTraining):
        fit(output=tmp_path, defense="splic")
    spent = checkpoint(tmp_path)["position"]["seconds"]
    monkeypatch.undo()
    first = fit(output=tmp_path, defense="splic").history[0].seconds
    assert first.defense > spent["defense"] > 0
    assert first.network > spent["network"] > 0


def test_killed_between_the_last_files(tmp_path, monkeypatch):
    """The weights are there, the record is not."""
    expected = fit(epochs=1)

    def fail(*_):
        raise StopTraining

    monkeypatch.setattr("splic_ext.training.folder.write_text", fail)
    with pytest.raises(StopTraining):
        fit(epochs=1, output=tmp_path)
    assert files(tmp_path) == [CHECKPOINT, WEIGHTS]
    monkeypatch.undo()
    done = updates(monkeypatch)
    assert same_weights(fit(epochs=1, output=tmp_path).network, expected.network)
    assert not done
    assert files(tmp_path) == [RECORD, WEIGHTS]


# A real SIGKILL

SCRIPT = """
import sys, time
from helpers.training import fit, make_data, make_network
from splic_ext.training import run
from splic_ext.training.learner import Learner
run.INTERVAL = 0.0
learn, updates = Learner.learn, []

def learn_then_wait(self, *given):
    updates.append(None)
    if len(updates) == 100:
        print("waiting", flush=True)
        time.sleep(600)
    return learn(self, *given)

Learner.learn = learn_then_wait
fit(make_network(dropout=0.2), make_data(160), epochs=6, batch_size=4, defense="splic",
    cutout="2x3", ema_decay=0.9, output=sys.argv[1], test=make_data(10, seed=1))
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_killed_and_resumed(tmp_path):
    arguments = {
        "data": make_data(160), "epochs": 6, "batch_size": 4, "defense": "splic",
        "cutout": "2x3", "ema_decay": 0.9, "test": make_data(10, seed=1),
    }  # fmt: skip
    place = str(Path(splic_ext.__file__).parent.parent)
    path = os.pathsep.join([place, str(Path(__file__).parents[1])])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=Path(__file__).parents[1], env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    waits = process.stdout.readline()
    for other in ({}, {"seed": 9, "overwrite": True}):
        with pytest.raises(ValueError, match="that no other process trains into, got") as error:
            fit(make_network(dropout=0.2), output=tmp_path, **arguments, **other)
        assert "wait until it is done, or name another" in str(error.value)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert (waits, process.returncode) == ("waiting\n", -signal.SIGKILL), errors
    position = checkpoint(tmp_path)["position"]
    assert (position["epoch"], position["batch"]) == (2, 19)
    found = fit(make_network(dropout=0.2), output=tmp_path, **arguments)
    expected = fit(make_network(dropout=0.2), **arguments)
    assert same_weights(found.network, expected.network)
    assert timeless(found) == timeless(expected)
    assert same_weights(load_weights(make_network(), tmp_path / WEIGHTS), expected.network)
