"""Trainings that begin with given weights: fine-tuning."""

from __future__ import annotations

import pytest
from helpers.training import (
    StopTraining,
    digits,
    files,
    fit,
    make_network,
    same_weights,
    stop_at,
    timeless,
    updates,
)
from safetensors.torch import save_file

from splic_ext.models import build_model, load_weights
from splic_ext.training import run as run_module
from splic_ext.training.folder import CHECKPOINT, RECORD, WEIGHTS
from splic_ext.training.learner import Learner


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Two files of weights."""
    folder = tmp_path_factory.mktemp("weights")
    for seed in (1, 2):
        fit("digits_cnn", digits(48), output=folder / str(seed), seed=seed, epochs=1)
    return [folder / str(seed) / WEIGHTS for seed in (1, 2)]


def tune(weights, **arguments):
    return fit("digits_cnn", digits(48), weights=weights, **arguments)


def test_it_begins_at_the_given_weights(known, monkeypatch):
    begun = []
    learn = Learner.learn

    def looking(self, *arguments):
        if not begun:
            begun.append({k: v.clone() for k, v in self.network.state_dict().items()})
        return learn(self, *arguments)

    monkeypatch.setattr(Learner, "learn", looking)
    found = tune(known[0])
    first = load_weights(build_model("digits_cnn"), known[0])
    assert begun[0].keys() == first.state_dict().keys()
    assert all((begun[0][name] == value).all() for name, value in first.state_dict().items())
    monkeypatch.undo()
    expected = fit(first, digits(48))
    assert same_weights(found.network, expected.network)
    assert timeless(found) == timeless(expected)


def test_the_seed_decides_the_rest(known):
    results = [tune(known[0], seed=seed, epochs=1).network for seed in (0, 0, 3)]
    assert same_weights(*results[:2])
    assert not same_weights(*results[1:])


def test_the_name_of_the_file_does_not_count(known, tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(known[0].read_bytes())
    keys = [tune(path, epochs=1).record.key for path in (known[0], other, str(other))]
    assert len(set(keys)) == 1
    without = fit("digits_cnn", digits(48), epochs=1)
    assert len({*keys, tune(known[1], epochs=1).record.key, without.record.key}) == 3


@pytest.mark.parametrize("stops", [(1,), (3,), (2, 2)])
def test_stopped_and_resumed_to_the_same_bits(known, tmp_path, monkeypatch, stops):
    expected = tune(known[0])
    monkeypatch.setattr(run_module, "INTERVAL", 0.0)
    for count in stops:
        stop_at(monkeypatch, count)
        with pytest.raises(StopTraining):
            tune(known[0], output=tmp_path)
        assert files(tmp_path) == [CHECKPOINT]
    monkeypatch.undo()
    done = updates(monkeypatch)
    found = tune(known[0], output=tmp_path)
    assert len(done) == 6 - sum(stops)
    assert same_weights(found.network, expected.network)
    assert timeless(found) == timeless(expected)


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("then", ["other weights", "no weights"])
def test_other_weights_are_another_training(known, tmp_path, monkeypatch, finished, then):
    if not finished:
        stop_at(monkeypatch, 4)
        with pytest.raises(StopTraining):
            tune(known[0], output=tmp_path)
        monkeypatch.undo()
    else:
        tune(known[0], output=tmp_path)
    before = files(tmp_path)
    other = known[1] if then == "other weights" else None
    with pytest.raises(ValueError, match="is of another training: another ") as error:
        tune(other, output=tmp_path)
    assert ("(other `weights`; a network" in str(error.value)) == (other is not None)
    assert files(tmp_path) == before, "nothing is lost"
    expected = tune(other)
    assert same_weights(tune(other, output=tmp_path, overwrite=True).network, expected.network)
    assert files(tmp_path) == [RECORD, WEIGHTS]


def test_a_network_brings_its_own_weights(known):
    with pytest.raises(ValueError, match="`weights` are for a model given by name, got a network"):
        fit(make_network(), weights=known[0])


def test_weights_that_are_not_there_or_of_another_network(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the weights file '.*none\.th' does not exist"):
        tune(tmp_path / "none.th", output=tmp_path / "out")
    save_file(make_network().state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="is of another network than"):
        tune(tmp_path / "other.safetensors", output=tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing is begun"


def test_the_result_may_not_replace_what_it_began_with(known):
    folder = known[0].parent
    before = known[0].read_bytes()
    with pytest.raises(ValueError, match="`weights` must be another file than that of the result"):
        tune(known[0], output=folder, overwrite=True)
    assert known[0].read_bytes() == before
