"""What the tests of trainings share: small images and networks, options of a second.

Importing this skips the test module where torch is absent.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from splic_ext.data import Dataset, load_dataset  # noqa: E402
from splic_ext.training import TrainingOptions, train  # noqa: E402
from splic_ext.training.folder import CHECKPOINT  # noqa: E402
from splic_ext.training.learner import Learner  # noqa: E402

FAST = {"epochs": 2, "batch_size": 16, "learning_rate": 0.05, "crop": 1, "flip": False}


def make_data(count=48, name="made/train", seed=0):
    """Images of 3 x 8 x 8 whose class is the brightest quarter."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    images = rng.integers(0, 120, (count, 3, 8, 8), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 100
    return Dataset(name, images, labels.astype(np.int64), tuple("abcd"))


def make_network(seed=0, dropout=0.0):
    """A small network with batch normalisation."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, padding=1),
            torch.nn.BatchNorm2d(4),
            torch.nn.ReLU(),
            torch.nn.Dropout(dropout),
            torch.nn.AdaptiveAvgPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(16, 4),
        )


def fit(model=None, data=None, **arguments):
    """Train quickly; options and arguments of `train` as they come."""
    known = {field.name for field in dataclasses.fields(TrainingOptions)}
    changes = {name: arguments.pop(name) for name in list(arguments) if name in known}
    options = TrainingOptions(**(FAST | changes))
    arguments = {"progress": False, **arguments}
    model = make_network() if model is None else model
    return train(model, make_data() if data is None else data, options, **arguments)


def digits(count=200):
    return load_dataset("digits", "train", limit=count)


def timeless(result):
    """The history without its times."""
    return [dataclasses.replace(epoch, seconds=None) for epoch in result.history]


def same_weights(one, other):
    """Whether two networks have the same weights, bit for bit."""
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


class StopTraining(Exception):  # noqa: N818 - as Python names its own
    """Ends a training from outside."""


_learn = Learner.learn


def stop_at(monkeypatch, count):
    """End the next training at update number `count`."""
    done = []

    def stopping(self, *arguments):
        if len(done) == count:
            raise StopTraining
        done.append(1)
        return _learn(self, *arguments)

    monkeypatch.setattr(Learner, "learn", stopping)


def updates(monkeypatch):
    """Count the updates from now on."""
    done = []
    monkeypatch.setattr(Learner, "learn", lambda self, *a: [done.append(1), _learn(self, *a)][1])
    return done


def spy(monkeypatch):
    """Note all batches that a network learns: images, labels."""
    seen = []

    def noted(self, images, labels, *rest):
        seen.append((images.clone(), labels.clone()))
        return _learn(self, images, labels, *rest)

    monkeypatch.setattr(Learner, "learn", noted)
    return seen


def by_image(batches):
    """Learnt images in the order of the data set, which their labels tell."""
    images = torch.cat([images for images, _ in batches])
    return images[torch.cat([labels for _, labels in batches]).argsort()]


def numbered(count=12):
    """Images of a class each."""
    data = make_data(count)
    return Dataset("numbered", data.images, np.arange(count), tuple(map(str, range(count))))


def wide(count=12, channels=3):
    """A linear network for :func:`numbered`."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64 * channels, count))


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "tensorboard")


def checkpoint(folder):
    """What the header of a checkpoint says."""
    from safetensors import safe_open

    with safe_open(folder / CHECKPOINT, framework="pt") as file:
        return json.loads(file.metadata()["splic_ext"])
