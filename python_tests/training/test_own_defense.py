"""Trainings behind a defence that a user brings: by its place, or as an object."""

from __future__ import annotations

import json

import pytest
from helpers.training import (
    FAST,
    StopTraining,
    fit,
    make_data,
    make_network,
    same_weights,
    stop_at,
    timeless,
)

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch import nn  # noqa: E402

from splic_ext.defenses import ModuleDefense, RandomDefense, TotalVariation  # noqa: E402
from splic_ext.training import TrainingOptions, TrainingRecord, train  # noqa: E402

FILE = """
import torch

class Dim(torch.nn.Module):
    def __init__(self, share=0.5):
        super().__init__()
        self.share = share

    def forward(self, images):
        return self.share * images
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(FILE, encoding="utf-8")
    return path


def given(defense, **arguments):
    return train(
        make_network(), make_data(), TrainingOptions(**FAST), defense=defense, progress=False,
        **arguments,
    )  # fmt: skip


def test_other_code_is_another_training(mine):
    first = fit(defense="mine.py:Dim", output="out")
    assert first.options.defense == "mine.py:Dim"
    assert "Dim()" in first.record.defense_repr
    assert not same_weights(first.network, fit().network)
    again = fit(defense="mine.py:Dim", output="out")
    assert timeless(again) == timeless(first)
    mine.write_text(FILE.replace("self.share * images", "1 - self.share * images"))
    with pytest.raises(ValueError, match=r"another training: .*, or another defence or other"):
        fit(defense="mine.py:Dim", output="out")
    changed = fit(defense="mine.py:Dim", output="out", overwrite=True)
    assert not same_weights(first.network, changed.network)


def test_the_checkpoint_of_other_code_is_refused(mine, monkeypatch):
    stop_at(monkeypatch, 4)
    with pytest.raises(StopTraining):
        fit(defense="mine.py:Dim", output="out")
    monkeypatch.undo()
    monkeypatch.chdir(mine.parent)
    mine.write_text(FILE + "# another line\n")
    with pytest.raises(ValueError, match="another training: another code of the defence; name ano"):
        fit(defense="mine.py:Dim", output="out")
    mine.write_text(FILE)
    assert same_weights(
        fit(defense="mine.py:Dim", output="out").network, fit(defense="mine.py:Dim").network
    )


def test_copies_of_other_code_are_made_anew(mine):
    fit(defense="mine.py:Dim", copies=1, cache="copies")
    fit(defense="mine.py:Dim", copies=1, cache="copies")
    assert len(list(mine.parent.glob("copies/copy-*.npy"))) == 1
    mine.write_text(FILE.replace("0.5", "0.25"))
    fit(defense="mine.py:Dim", copies=1, cache="copies")
    assert len(list(mine.parent.glob("copies/copy-*.npy"))) == 2


def test_a_record_is_read_without_running_code(mine):
    record = fit(defense="mine.py:Dim", output="out").record
    mine.write_text("raise SystemExit('it was run')")
    assert TrainingRecord.load(mine.parent / "out" / "training.json") == record
    text = json.dumps(TrainingOptions(defense="gone.py:Dim").to_dict())
    assert TrainingOptions.from_dict(json.loads(text)).defense == "gone.py:Dim"


class Noise(nn.Module):
    def forward(self, images):
        return (images + 0.1 * torch.rand_like(images)).clamp(0, 1)


@pytest.mark.parametrize("defense", [TotalVariation(0.2), Noise()])
def test_objects(defense, tmp_path):
    first, again = given(defense, output=tmp_path), given(defense)
    assert same_weights(first.network, again.network), "draws follow from the seed"
    assert type(defense).__name__ in first.record.defense_repr
    assert timeless(given(defense, output=tmp_path)) == timeless(first)
    with pytest.raises(ValueError, match="is of another training"):
        given(TotalVariation(0.3), output=tmp_path)
    with pytest.raises(ValueError, match="is of another training"):
        fit(output=tmp_path)


def test_copies_of_a_random_module(tmp_path):
    options = TrainingOptions(**FAST, copies=2)
    result = train(
        make_network(), make_data(), options, defense=Noise(), cache=tmp_path, progress=False
    )
    assert len(list(tmp_path.glob("copy-*.npy"))) == 2
    assert isinstance(ModuleDefense(Noise()), RandomDefense)
    assert result.record.defense_repr.startswith("ModuleDefense(Noise()")


class Half(nn.Module):
    def forward(self, images):
        return images[:, :, ::2]


def test_refused():
    with pytest.raises(
        ValueError, match="`defense` contradicts the `defense` of the options, 'tv'"
    ):
        train(make_network(), make_data(), TrainingOptions(**FAST, defense="tv"), defense=Noise())
    with pytest.raises(ValueError, match="`Half` must return images of the shape that it got"):
        given(Half())
    with pytest.raises(
        TypeError, match=r"`defense` must be a Defense, .* got the class Noise; call"
    ):
        given(Noise)
    options = TrainingOptions(**FAST, ablate=0.5, encoding="null")
    with pytest.raises(ValueError, match="`defense` must be left out with the `encoding` 'null'"):
        train(make_network(), make_data(), options, defense=Noise())
