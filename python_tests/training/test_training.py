"""Training: what comes of it, that it can be repeated, what is refused."""

from __future__ import annotations

import time

import numpy as np
import pytest
from helpers.training import (
    digits,
    fit,
    make_data,
    make_network,
    same_weights,
    timeless,
    torch,
    wide,
)

from splic_ext import defenses
from splic_ext.data import load_dataset
from splic_ext.defenses import Identity, TotalVariation
from splic_ext.models import load_weights
from splic_ext.training import SCHEMA_VERSION, TrainingRecord, train
from splic_ext.training import trainer as trainer_module
from splic_ext.training.learner import Learner


def test_a_line_an_epoch_where_there_is_no_terminal(monkeypatch, capsys):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    result = fit(
        "digits_cnn", digits(48), test=load_dataset("digits", limit=20), epochs=2, progress=True
    )
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for epoch, line in zip(result.history, lines, strict=True):
        assert line.startswith(f"{epoch.line(2)}, 0:00:0")
        assert f"right {100 * epoch.train_accuracy:.1f} % in training" in line
    fit("digits_cnn", digits(48), epochs=2, progress=False)
    assert capsys.readouterr().err == ""


def test_digits_are_learnt():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    train, test = load_dataset("digits", "train"), load_dataset("digits")
    result = fit(network, train, test=test, epochs=6, crop=0, learning_rate=0.1)
    last = result.history[-1]
    assert last.test_accuracy > 0.88
    assert last.train_accuracy > 0.93
    assert last.loss < 0.3
    assert not result.network.training
    images = torch.from_numpy(load_dataset("digits").to_float())
    with torch.no_grad():
        right = result.network(images).argmax(1).numpy() == load_dataset("digits").labels
    assert right.mean() == last.test_accuracy


def test_the_history(tmp_path):
    result = fit(test=make_data(20, seed=1), epochs=3, output=tmp_path)
    assert [epoch.epoch for epoch in result.history] == [1, 2, 3]
    assert all(epoch.loss > 0 and 0 <= epoch.train_accuracy <= 1 for epoch in result.history)
    rates = [epoch.learning_rate for epoch in result.history]
    assert 0.05 > rates[0] > rates[1] > rates[2] > 0
    assert result.seconds.total > 0
    assert result.seconds.attack == 0
    assert result.seconds.test > 0
    record = TrainingRecord.load(tmp_path / "training.json")
    assert record == result.record
    assert record.to_json() == (tmp_path / "training.json").read_text()
    assert f'"schema_version": {SCHEMA_VERSION}' in record.to_json()
    assert (record.model.name, record.dataset.name, record.dataset.split) == (
        "Sequential", "made", "train",
    )  # fmt: skip
    assert same_weights(
        load_weights(make_network(5), tmp_path / "weights.safetensors"), result.network
    )


def test_the_same_again():
    one, other = fit(), fit()
    assert same_weights(one.network, other.network)
    assert timeless(one) == timeless(other)
    assert one.record.key == other.record.key


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"batch_size": 12},
        {"learning_rate": 0.06},
        {"momentum": 0.5},
        {"weight_decay": 0.1},
        {"schedule": "step"},
        {"warmup_epochs": 1},
        {"label_smoothing": 0.1},
        {"crop": 0},
        {"flip": True},
        {"ema_decay": 0.5},
        {"precision": "bfloat16"},
        {"defense": "tv"},
        {"adversarial": "bpda:steps=1"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_does_something(change):
    plain, changed = fit(), fit(**change)
    assert not same_weights(plain.network, changed.network)
    assert plain.record.key != changed.record.key


def test_a_named_network_begins_at_the_seed():
    torch.manual_seed(1)
    one = fit("digits_cnn", digits(), epochs=1)
    torch.manual_seed(2)
    other = fit("digits_cnn", digits(), epochs=1)
    assert same_weights(one.network, other.network)
    assert one.record.model.name == "digits_cnn"


def test_nothing_else_is_changed():
    data, before = make_data(), torch.get_rng_state()
    images, threads = data.images.copy(), torch.get_num_threads()
    fit(make_network(dropout=0.5), data, defense="usvt", adversarial="bpda:steps=1", threads=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert np.array_equal(data.images, images)


def test_a_network_is_trained_in_place():
    network = make_network()
    result = fit(network)
    assert result.network is network
    assert not same_weights(network, make_network())


def test_dropout_follows_the_seed():
    one, other = fit(make_network(dropout=0.5)), fit(make_network(dropout=0.5))
    assert same_weights(one.network, other.network)
    assert not same_weights(one.network, fit().network)


def test_read_only_images():
    data, test = make_data(), make_data(20, seed=1)
    for part in (data, test):
        part.images.setflags(write=False)
        part.labels.setflags(write=False)
    assert same_weights(fit(data=data, test=test).network, fit(test=test).network)


# Averages, precision, memory format


def test_the_average_of_the_weights(monkeypatch):
    seen, learn = [], Learner.learn

    def noted(self, *arguments):
        result = learn(self, *arguments)
        seen.append({name: v.clone() for name, v in self.network.state_dict().items()})
        return result

    monkeypatch.setattr(Learner, "learn", noted)
    result = fit(ema_decay=0.8)
    name = "0.weight"
    expected = seen[0][name]
    for state in seen[1:]:
        expected = 0.8 * expected + 0.2 * state[name]
    assert torch.allclose(result.network.state_dict()[name], expected, atol=1e-6)
    assert not torch.allclose(seen[-1][name], expected, atol=1e-6)


def test_the_average_is_what_is_scored():
    data = make_data(40, seed=1)
    result = fit(ema_decay=0.9, test=data)
    with torch.no_grad():
        logits = result.network(torch.from_numpy(data.to_float()))
    right = (logits.argmax(1).numpy() == data.labels).mean()
    assert result.history[-1].test_accuracy == pytest.approx(right)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_is_near(precision):
    plain, low = fit(), fit(precision=precision)
    assert all(value.dtype != torch.float16 for value in low.network.state_dict().values())
    assert low.history[0].loss == pytest.approx(plain.history[0].loss, rel=0.02)
    assert low.history[0].loss != plain.history[0].loss


def test_channels_last_changes_rounding_alone(monkeypatch):
    formats, learn = [], Learner.learn

    def noted(self, *arguments):
        weight = self.network[0].weight
        formats.append(weight.is_contiguous(memory_format=torch.channels_last))
        return learn(self, *arguments)

    monkeypatch.setattr(Learner, "learn", noted)
    plain, other = fit(), fit(channels_last=True)
    assert formats == [False] * 6 + [True] * 6
    for name, value in plain.network.state_dict().items():
        assert torch.allclose(value.float(), other.network.state_dict()[name].float(), atol=1e-3)


def test_compiled(monkeypatch):
    """The compiler itself takes a minute: that it is asked, and trains the network, is enough."""
    asked = []

    def fake(network):
        asked.append(network)
        return torch.nn.Sequential(network)

    monkeypatch.setattr(torch, "compile", fake)
    network = make_network()
    assert same_weights(fit(network, compile=True, adversarial="bpda:steps=1").network, network)
    assert asked == [network]
    assert same_weights(network, fit(adversarial="bpda:steps=1").network)


def test_a_compiler_that_fails(monkeypatch):
    class FailedError(RuntimeError):
        pass

    FailedError.__module__ = "torch._inductor.exc"

    def broken(network):
        def forward(*_):
            raise FailedError("no C++ compiler\nmore")

        network.forward = forward
        return network

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ValueError, match=r"torch.compile failed: no C\+\+ compiler; leave it out"):
        fit(compile=True)


# What is refused


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"model": 3}, TypeError, "`model` must be a name or a torch.nn.Module, got int"),
        ({"model": "resnet19"}, ValueError, "model name must be one of"),
        ({"data": np.zeros(3)}, TypeError, "`dataset` must be a Dataset, got ndarray"),
        ({"test": np.zeros(3)}, TypeError, "`dataset` must be a Dataset, got ndarray"),
        ({"data": make_data(0)}, ValueError, "`dataset` must hold an image at least"),
        ({"device": "nowhere"}, ValueError, "`device` must be one that torch can use here"),
        ({"threads": 0}, ValueError, "`threads` must be an integer in [1, 1024]"),
        ({"crop": 8}, ValueError, "`crop` must be less than the side of the images, 8, got 8"),
        ({"copies": 2}, ValueError, "`copies` need a folder to be kept in; give `cache` or"),
        ({"model": wide(3)}, ValueError, "`model` has 3 outputs, but there is the label 3"),
        ({"model": torch.nn.ReLU()}, ValueError, "`model` must return logits of shape (N, K)"),
    ],
)
def test_misuse(arguments, kind, message):
    with pytest.raises(kind) as error:
        fit(**arguments)
    assert str(error.value).startswith(message)


def test_options_that_are_none():
    with pytest.raises(TypeError, match="`options` must be TrainingOptions, got dict; use"):
        train(make_network(), make_data(), {"epochs": 1})


def test_a_loss_that_explodes():
    with pytest.raises(FloatingPointError) as error:
        fit(learning_rate=1e20, epochs=9)
    assert "became infinite or NaN in epoch 1, at the learning rate" in str(error.value)
    assert "use a smaller `learning_rate`" in str(error.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_little_memory(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(Learner, "learn", fail)
    with pytest.raises(MemoryError, match=r"batches of 16 images: .* use a smaller `batch_size`"):
        fit()


def test_other_errors_of_torch_come_through(monkeypatch):
    def fail(*_):
        raise RuntimeError("mat1 and mat2")

    monkeypatch.setattr(Learner, "learn", fail)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit()


def test_a_defence_that_cannot_be_repeated(monkeypatch):
    monkeypatch.setattr(Identity, "defend", lambda self, x, index: torch.rand_like(x))
    with pytest.raises(ValueError, match="returns other images in each forward"):
        fit()


# Times and progress


def test_times_are_where_they_were_spent(monkeypatch):
    def slow(self, images, index):
        time.sleep(0.02)
        return images

    monkeypatch.setattr(TotalVariation, "defend", slow)
    result = fit(defense="tv", adversarial="bpda:steps=3", batch_size=24, test=make_data(24))
    first = result.history[0].seconds
    assert 0.16 <= first.defense < first.total, "2 batches, 3 steps and an update each"
    assert first.test >= 0.02
    assert first.attack > 0
    assert first.network > 0
    assert first.attack + first.network + first.rest < 0.5


def test_the_plan_is_what_is_done(monkeypatch):
    seen = []
    monkeypatch.setattr(
        trainer_module.Progress, "__exit__", lambda self, *_: seen.append(self), raising=False
    )
    fit(test=make_data(10))
    (progress,) = seen
    assert progress.counts == progress.plan == {"training": 96, "testing": 20}


def test_defences_have_no_hooks_left(monkeypatch):
    made, build = [], defenses.registry.defense_from_spec

    def noted(spec):
        made.append(build(spec))
        return made[-1]

    monkeypatch.setattr("splic_ext.training.options.defense_from_spec", noted)
    fit(defense="tv")
    assert made
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in made)


def test_without_safetensors(run_python):
    code = """
import sys
sys.modules["safetensors"] = None
try:
    import splic_ext.training
except ImportError as error:
    print(error)
"""
    assert run_python(code).startswith("`splic_ext.training` needs the package 'safetensors'")


def test_real_images(shared_folder):
    """Two hundred images of CIFAR-10, one epoch of a real network behind SPLIC."""
    data = load_dataset(shared_folder / "data" / "cifar10_train_lossless.npz", limit=200)
    result = fit("svhn_vgg", data, defense="splic", epochs=1, crop=4, flip=True)
    assert np.isfinite(result.history[0].loss)
    assert result.seconds.defense > 0
