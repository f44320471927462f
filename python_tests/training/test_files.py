"""Files of trainings that are damaged, another's, or cannot be written."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from helpers.training import (
    FAST,
    StopTraining,
    checkpoint,
    files,
    fit,
    make_data,
    make_network,
    same_weights,
    stop_at,
    torch,
    updates,
)

from splic_ext.common.atomic import atomic_path
from splic_ext.training import TrainingRecord
from splic_ext.training import checkpoint as checkpoint_module
from splic_ext.training.checkpoint import Checkpoint
from splic_ext.training.folder import CHECKPOINT, RECORD, WEIGHTS, TrainingFolder
from splic_ext.training.learner import Learner
from splic_ext.training.options import LATER

# Checkpoints that do not fit


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A folder with the checkpoint of a training that was stopped after an epoch."""
    stop_at(monkeypatch, 4)
    with pytest.raises(StopTraining):
        fit(output=tmp_path)
    monkeypatch.undo()
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 5}, "`epochs` is 2 there and 5 here"),
        ({"seed": 3, "crop": 2}, "`crop` is 1 there and 2 here, `seed` is 0 there and 3 here"),
        ({"data": make_data(47)}, "another data set"),
        ({"test": make_data(5)}, "another test set"),
        ({"model": make_network(1)}, "another initialisation"),
        (
            {"model": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))},
            "another architecture, another initialisation",
        ),
    ],
)
def test_a_checkpoint_of_another_training(stopped, change, message):
    with pytest.raises(ValueError, match="is of another training: ") as error:
        fit(output=stopped, **change)
    assert message in str(error.value)
    assert "give `overwrite=True` to begin anew" in str(error.value)
    assert files(stopped) == [CHECKPOINT], "nothing is lost"
    expected = fit(**_fresh(change))
    found = fit(output=stopped, overwrite=True, **_fresh(change))
    assert same_weights(found.network, expected.network)


def _fresh(change):
    """A module was trained in place: take one that was not."""
    if "model" not in change:
        return change
    return {"model": make_network(1)}


def test_a_result_that_another_process_has_just_written(tmp_path, monkeypatch):
    """It was not there when this one looked."""
    found = fit(output=tmp_path)
    written = (tmp_path / RECORD).read_text()
    monkeypatch.setattr(TrainingFolder, "find", lambda *_: (None, None))
    with pytest.raises(ValueError, match="that no other process trains into, got"):
        fit(output=tmp_path, seed=7)
    assert (tmp_path / RECORD).read_text() == written
    assert files(tmp_path) == sorted([RECORD, WEIGHTS]), "nor is the folder left locked"
    assert not same_weights(fit(output=tmp_path, seed=7, overwrite=True).network, found.network)


def test_overwrite_goes_on_with_the_same_training(stopped, monkeypatch):
    done = updates(monkeypatch)
    fit(output=stopped, overwrite=True)
    assert len(done) == 3


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-30] ^= 64
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def garbage(path):
    path.write_bytes(os.urandom(3000))


def foreign(path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(3)}, path)


@pytest.mark.parametrize("damage", [cut, flip, empty, garbage, foreign])
def test_a_damaged_checkpoint(stopped, damage):
    damage(stopped / CHECKPOINT)
    before = (stopped / CHECKPOINT).read_bytes()
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is checked below
        fit(output=stopped)
    assert str(error.value).startswith(f"the checkpoint '{stopped / CHECKPOINT}' ")
    assert "cannot be read" in str(error.value) or "is damaged" in str(error.value)
    assert "put back a copy, or give `overwrite=True`" in str(error.value)
    assert (stopped / CHECKPOINT).read_bytes() == before
    with pytest.warns(UserWarning, match="the training is begun anew: the checkpoint "):
        again = fit(output=stopped, overwrite=True)
    assert same_weights(again.network, fit().network)


def rewrite(folder, change, whole=False):
    """Write a checkpoint again, with another header; as it may have been written if `whole`."""
    from safetensors.torch import load_file, save_file

    meta = checkpoint(folder)
    change(meta)
    tensors = load_file(folder / CHECKPOINT)
    if whole:
        del meta["sha256"]
        meta["sha256"] = checkpoint_module._checksum(meta, tensors)
    save_file(tensors, folder / CHECKPOINT, {"splic_ext": json.dumps(meta)})


def test_a_checkpoint_of_another_schema(stopped):
    rewrite(stopped, lambda meta: meta.update(schema_version=99))
    with pytest.raises(ValueError, match="must have the schema version 2, got 99; go on with the"):
        fit(output=stopped)
    with pytest.warns(UserWarning, match="begun anew: the checkpoint .* must have the schema"):
        fit(output=stopped, overwrite=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta.pop("position"),
        lambda meta: meta["position"].update(epoch="one"),
        lambda meta: meta.update(sha256="0"),
        lambda meta: meta.update(averaged=None),
        lambda meta: meta["position"].update(batch=1),
        lambda meta: meta["position"].update(images=3),
        lambda meta: meta["environment"].update(code="0"),
        lambda meta: meta["identity"].update(architecture="0"),
        lambda meta: meta.pop("sha256"),
    ],
)
def test_a_header_that_is_damaged(stopped, change):
    """Whatever it says, also where it is damaged in what tells trainings apart."""
    rewrite(stopped, change)
    with pytest.raises(ValueError, match=r"is damaged \(the checksum is wrong\); put back a copy"):
        fit(output=stopped)


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta.pop("position"),
        lambda meta: meta["position"].update(epoch="one"),
        lambda meta: meta.update(averaged=None),
    ],
)
def test_a_header_that_makes_no_sense(stopped, change):
    rewrite(stopped, change, whole=True)
    with pytest.raises(ValueError, match=r"is damaged \((?!the checksum)"):
        fit(output=stopped)


def test_a_module_that_was_interrupted_is_built_anew(tmp_path, monkeypatch):
    network = make_network()
    stop_at(monkeypatch, 4)
    with pytest.raises(StopTraining):
        fit(network, output=tmp_path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="a network that is given is trained in place: build it"):
        fit(network, output=tmp_path)
    assert same_weights(fit(make_network(), output=tmp_path).network, fit().network)


def test_a_name_is_always_built_anew(tmp_path):
    fit(output=tmp_path)
    with pytest.raises(ValueError, match="is of another training: another network; name another"):
        fit("resnet20", output=tmp_path)


#: Later option -> another value, and what it needs beside it.
OTHER_VALUES = {
    "adversarial_warmup_epochs": (1.0, {"adversarial": "bpda:steps=1"}),
    "cutout": ("1x3", {"fill": "gray"}),
    "cutout_tries": (2, {"cutout": "1x3", "fill": "gray"}),
    "fill": ("mean", {"cutout": "1x3"}),
    "ablate": (0.5, {"encoding": "gray"}),
    "encoding": ("mean", {"ablate": 5}),
}


@pytest.mark.parametrize("option", LATER)
def test_files_that_lack_a_later_option(stopped, option):
    """They are those of the same training, in which it had its first value."""
    assert option not in checkpoint(stopped)["identity"]["options"]
    rewrite(stopped, lambda m: m["identity"]["options"].update({option: LATER[option]}), whole=True)
    other, beside = OTHER_VALUES[option]
    told = re.escape(f"`{option}` is {LATER[option]!r} there and {other!r} here")
    with pytest.raises(ValueError, match=f"other training: .*{told}"):
        fit(output=stopped, **{option: other}, **beside)
    result = fit(output=stopped)
    assert same_weights(result.network, fit().network)
    record = json.loads((stopped / RECORD).read_text())
    assert record["options"].pop(option) == LATER[option]
    (stopped / RECORD).write_text(json.dumps(record))
    assert TrainingRecord.load(stopped / RECORD) == result.record
    assert fit(output=stopped).record == result.record, "it is taken up"


def test_a_record_of_before_anything_was_hidden(stopped):
    result = fit(output=stopped)
    record = json.loads((stopped / RECORD).read_text())
    assert (record.pop("fill_repr"), record.pop("channels")) == (None, 3)
    (stopped / RECORD).write_text(json.dumps(record))
    assert TrainingRecord.load(stopped / RECORD) == result.record
    for name, value in (("fill_repr", None), ("channels", 3)):
        (stopped / RECORD).write_text(json.dumps(record | {name: value}))
        if name == "fill_repr":
            with pytest.raises(ValueError, match="missing channels, unknown none"):
                TrainingRecord.load(stopped / RECORD)
        else:
            assert TrainingRecord.load(stopped / RECORD) == result.record


def test_a_finished_training_of_other_code_is_told_of(stopped):
    fit(output=stopped)
    text = (stopped / RECORD).read_text()
    code = json.loads(text)["provenance"]["code"]
    (stopped / RECORD).write_text(text.replace(code, "0" * 64))
    with pytest.warns(UserWarning, match="the training of .* was made with other code: the resul"):
        fit(output=stopped)


def test_logs_of_others_are_left(tmp_path):
    """Where there is no training, logs are no training's."""
    foreign = tmp_path / "tensorboard" / "events.out.tfevents.1"
    foreign.parent.mkdir()
    foreign.write_bytes(b"x")
    fit(output=tmp_path)
    assert foreign.exists()
    fit(output=tmp_path, epochs=1, overwrite=True)
    assert not foreign.exists()


def test_a_checkpoint_of_other_versions_is_told_of(stopped):
    rewrite(stopped, lambda meta: meta["environment"].update(code="0", threads=64), whole=True)
    with pytest.warns(UserWarning, match="was made with other code, threads: the result may dif"):
        found = fit(output=stopped)
    assert "was made with other code, threads" in found.record.notes[0]
    assert same_weights(found.network, fit().network)


def test_nothing_infinite_is_kept(tmp_path, monkeypatch):
    """An update may ruin the weights, and the loss show it one update later."""
    learn, done = Learner.learn, []

    def ruining(self, *arguments):
        result = learn(self, *arguments)
        done.append(1)
        if len(done) == 2:
            with torch.no_grad():
                self.network[0].weight.fill_(float("inf"))
        return result

    monkeypatch.setattr(Learner, "learn", ruining)
    with pytest.raises(FloatingPointError, match="in epoch 2"):
        fit(output=tmp_path, batch_size=48, epochs=3)
    assert checkpoint(tmp_path)["position"]["epoch"] == 1
    monkeypatch.undo()
    assert same_weights(
        fit(output=tmp_path, batch_size=48, epochs=3).network, fit(batch_size=48, epochs=3).network
    )


# Finished trainings that do not fit


def test_a_finished_training_of_another_kind(tmp_path):
    fit(output=tmp_path)
    before = (tmp_path / WEIGHTS).read_bytes()
    for change, words in (
        ({"epochs": 3}, "`epochs` is 2 there and 3 here"),
        ({"data": make_data(40)}, "another data set"),
        (
            {"model": make_network(3)},
            "another network (other `weights`; a network that is given is tr",
        ),
    ):
        with pytest.raises(ValueError, match="is of another training: ") as error:
            fit(output=tmp_path, **change)
        assert words in str(error.value)
    assert (tmp_path / WEIGHTS).read_bytes() == before
    found = fit(output=tmp_path, epochs=3, overwrite=True)
    assert same_weights(found.network, fit(epochs=3).network)
    assert TrainingRecord.load(tmp_path / RECORD).options.epochs == 3


def test_a_new_training_is_taken_up_without_overwriting_again(tmp_path, monkeypatch):
    fit(output=tmp_path)
    stop_at(monkeypatch, 4)
    with pytest.raises(StopTraining):
        fit(output=tmp_path, epochs=3, overwrite=True)
    assert files(tmp_path) == [CHECKPOINT]
    monkeypatch.undo()
    done = updates(monkeypatch)
    fit(output=tmp_path, epochs=3)
    assert len(done) == 6


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / RECORD).write_text("{"), "cannot be read: a training record mus"),
        (lambda folder: (folder / RECORD).write_text('{"schema_version": 7}'), "schema version 1"),
        (lambda folder: (folder / WEIGHTS).unlink(), "has lost its weights"),
        (lambda folder: cut(folder / WEIGHTS), "has lost its weights"),
        (lambda folder: flip(folder / WEIGHTS), "does not hold the weights of"),
    ],
)
def test_a_damaged_result(tmp_path, damage, message):
    expected = fit(output=tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is checked below
        fit(output=tmp_path)
    assert message in str(error.value)
    assert "give `overwrite=True`" in str(error.value)
    with pytest.warns(UserWarning, match="the training is begun anew: ") as told:
        again = fit(output=tmp_path, overwrite=True)
    assert message in str(told[0].message)
    assert again.record.notes == (str(told[0].message),)
    assert same_weights(again.network, expected.network)


def test_weights_of_somebody_else_are_kept(tmp_path):
    (tmp_path / WEIGHTS).write_bytes(b"mine")
    with pytest.raises(ValueError, match="is not of this training; name another `output`"):
        fit(output=tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == b"mine"


def test_an_output_that_is_a_file(tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(ValueError, match="`output` must be a folder, got the file"):
        fit(output=tmp_path / "x", overwrite=True)
    assert (tmp_path / "x").read_text() == "mine"


# Disks


@contextmanager
def full_disk():
    """No file gets longer than 1,000 bytes meanwhile, of the test's own log neither."""
    resource = pytest.importorskip("resource", reason="no limits on files here")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk(tmp_path, monkeypatch):
    write, written = Checkpoint.write, []

    def counted(self, path):
        written.append(path)
        with full_disk() if len(written) == 2 else nullcontext():
            write(self, path)

    monkeypatch.setattr(Checkpoint, "write", counted)
    with pytest.raises(OSError, match="cannot be written: File too large; make room and") as error:
        fit(output=tmp_path, epochs=3)
    monkeypatch.undo()
    assert str(error.value).startswith(f"'{tmp_path / CHECKPOINT}'")
    assert files(tmp_path) == [CHECKPOINT], "no temporary file is left"
    assert checkpoint(tmp_path)["position"]["epoch"] == 1
    again = fit(output=tmp_path, epochs=3)
    assert same_weights(again.network, fit(epochs=3).network), "there is room again"


def test_checkpoint_weights_and_record_wait_for_the_disk(tmp_path, monkeypatch):
    """Each file, and the folder after it, which has the names."""
    seen, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: [seen.append(number), sync(number)][1])
    fit(output=tmp_path, epochs=1)
    assert len(seen) == 3 * (1 if os.name == "nt" else 2)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def fail(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match=r"cannot be written: No space left on device; make room"):
        fit(output=tmp_path)


def test_old_temporary_files_are_removed(tmp_path):
    with atomic_path(tmp_path / "x") as held:
        old = held.with_name(f".splic-{'0' * 16}.tmp")
        old.write_bytes(b"x")
        os.utime(old, (0, 0))
        fit(output=tmp_path)
        assert not old.exists()
        assert held.exists()


# TensorBoard


def test_curves(tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="no TensorBoard"
    )
    result = fit(output=tmp_path, test=make_data(8), epochs=3)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name, expected in (
        ("loss", [epoch.loss for epoch in result.history]),
        ("accuracy/test", [epoch.test_accuracy for epoch in result.history]),
    ):
        found = events.Scalars(name)
        assert [event.step for event in found] == [1, 2, 3]
        assert np.allclose([event.value for event in found], expected)
    assert "seconds/defense" in events.Tags()["scalars"]


def test_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = fit(output=tmp_path)
    assert result.record.notes == (
        "no logs for TensorBoard, which is not installed; the extra `train` has it",
    )
    assert not (tmp_path / "tensorboard").exists()


def test_logs_that_cannot_be_written(tmp_path):
    pytest.importorskip("tensorboard", reason="no TensorBoard")
    tmp_path.joinpath("tensorboard").write_text("a file")
    with pytest.warns(UserWarning, match="logs for TensorBoard cannot be written: .*; the traini"):
        result = fit(output=tmp_path)
    assert "cannot be written" in result.record.notes[0]
    assert (tmp_path / WEIGHTS).exists()


def test_checkpoints_need_no_pickle(stopped):
    found = Checkpoint.read(stopped / CHECKPOINT, checkpoint(stopped)["identity"])
    assert {name.split("/")[0] for name in found.tensors} == {"model", "momentum"}
    assert checkpoint(stopped)["identity"]["options"]["epochs"] == FAST["epochs"]
