"""Trainings of a network that a user brings by its place."""

from __future__ import annotations

import pytest
from helpers.training import fit, make_data

torch = pytest.importorskip("torch", reason="torch is not installed")

from splic_ext.data import Dataset  # noqa: E402
from splic_ext.evaluation import load_network  # noqa: E402

FILE = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, channels):
        super().__init__(nn.Flatten(), nn.Linear(channels * 64, num_classes))

class Usual(Net):
    def __init__(self, num_classes=10, channels=3):
        super().__init__(num_classes, channels)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE, encoding="utf-8")


@pytest.mark.parametrize("name", ["Net", "Usual"])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_told_the_classes_and_the_channels(mine, name, channels):
    data = make_data()
    data = Dataset(data.name, data.images[:, :channels], data.labels, data.classes)
    network = fit(f"mine.py:{name}", data, output="out").network
    assert network[1].weight.shape == (4, channels * 64)
    again = load_network(f"mine.py:{name}", "out/weights.safetensors", 4, dataset=data)
    assert torch.equal(again[1].weight, network[1].weight)


def test_with_an_encoding_it_is_told_all_of_them(mine):
    network = fit("mine.py:Net", ablate=0.5, encoding="null").network
    assert network[1].weight.shape == (4, 6 * 64)
