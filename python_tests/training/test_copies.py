"""Defended copies on disk: what is in them, when they are used, what is told of."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers.training import fit, make_data, make_network, same_weights, torch

from splic_ext.defenses import USVT, seeded_masks
from splic_ext.runs.fingerprints import derive_seed
from splic_ext.runs.progress import Progress
from splic_ext.training import TrainingOptions
from splic_ext.training import copies as copies_module
from splic_ext.training.learner import Learner
from splic_ext.training.processes import Processes


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(copies_module, "BLOCK", 20)


@pytest.fixture
def calls(monkeypatch):
    """Images that each call of USVT was given, from none on."""
    seen, defend = [], USVT.defend

    def noted(self, images, index):
        if len(images) > 2:  # those that a training tries its defence on
            seen.append((len(images), index))
        return defend(self, images, index)

    monkeypatch.setattr(USVT, "defend", noted)
    return seen


def arrays(folder):
    return {path: np.load(path) for path in sorted(folder.glob("copy-*.npy"))}


def copy_fit(cache, **arguments):
    return fit(**({"defense": "usvt", "copies": 2, "cache": cache, "epochs": 4} | arguments))


def test_what_is_in_them(tmp_path):
    copy_fit(tmp_path)
    found, data = arrays(tmp_path), make_data()
    assert len(found) == 2
    images, expected = torch.from_numpy(data.to_float()), []
    for number in range(2):
        with seeded_masks(derive_seed(0, "copy", number)):
            expected.append((USVT()(images) * 255).round().to(torch.uint8).numpy())
    assert {a.tobytes() for a in found.values()} == {a.tobytes() for a in expected}
    assert all(a.dtype == np.uint8 for a in found.values())
    for path, array in found.items():
        meta = json.loads(path.with_suffix(".json").read_text())
        assert meta["description"]["copy"] in (0, 1)
        assert meta["description"]["defense"] == "usvt"
        assert len(meta["sha256"]) == 64
        assert array.shape == data.images.shape
    assert not list((tmp_path / "parts").iterdir())


def test_epochs_learn_them_in_turn(tmp_path, monkeypatch):
    seen, learn = [], Learner.learn

    def noted(self, images, *rest):
        seen.append(images)
        return learn(self, images, *rest)

    monkeypatch.setattr(Learner, "learn", noted)
    copy_fit(tmp_path, crop=0, copies=3, epochs=5)
    stored = {image.tobytes(): path for path, a in arrays(tmp_path).items() for image in a}
    used = []
    for epoch in range(5):
        images = torch.cat(seen[3 * epoch : 3 * epoch + 3]).mul(255).round().to(torch.uint8)
        (path,) = {stored[image.tobytes()] for image in images.numpy()}
        used.append(path)
    assert used[:2] == used[3:]
    assert len(set(used)) == 3


def test_they_are_made_once(tmp_path, calls):
    copy_fit(tmp_path)
    assert calls == [(20, 0), (20, 20), (8, 40)] * 2
    first = {path: path.stat().st_mtime_ns for path in tmp_path.glob("copy-*")}
    copy_fit(tmp_path, learning_rate=0.01)
    copy_fit(tmp_path, copies=1)
    assert len(calls) == 6
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("copy-*")} == first


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"data": make_data(seed=3)}, {"defense": "usvt:keep=0.5"}]
)
def test_others_are_made_for_something_else(tmp_path, change):
    copy_fit(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy_fit(tmp_path, **change)
    assert len(arrays(tmp_path)) == 4


def test_other_code_makes_others(tmp_path, monkeypatch):
    copy_fit(tmp_path)
    monkeypatch.setattr(copies_module, "code_fingerprint", lambda patterns: "other")
    copy_fit(tmp_path)
    assert len(arrays(tmp_path)) == 4


@pytest.mark.parametrize("defense", ["tv", "splic:seed=3"])
def test_without_fresh_masks_there_is_one(tmp_path, defense):
    copy_fit(tmp_path, defense=defense, copies=7)
    assert len(arrays(tmp_path)) == 1


def test_the_folder_is_that_of_the_output(tmp_path):
    copy_fit(None, output=tmp_path)
    assert len(arrays(tmp_path / "copies")) == 2


def flip(path):
    content = bytearray(path.read_bytes())
    content[-30] ^= 64
    path.write_bytes(content)


def rename(path):
    """Another copy under this name."""
    other = next(p for p in sorted(path.parent.glob("copy-*.npy")) if p != path)
    path.write_bytes(other.read_bytes())
    path.with_suffix(".json").write_bytes(other.with_suffix(".json").read_bytes())


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip, "its content is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), ""),
        (lambda path: path.write_bytes(b""), ""),
        (lambda path: np.save(path, np.zeros((3, 3))), "its content is damaged"),
        (lambda path: path.with_suffix(".json").write_text("{}"), "description"),
        (lambda path: path.with_suffix(".json").write_text("["), "Expecting value"),
        (rename, "it belongs to another one"),
    ],
)
def test_a_damaged_copy_is_told_of_and_made_anew(tmp_path, calls, damage, reason):
    expected = copy_fit(tmp_path)
    before = arrays(tmp_path)
    calls.clear()
    damage(next(iter(before)))
    with pytest.warns(UserWarning, match=f"is no defended copy .* made anew: .*{reason}"):
        found = copy_fit(tmp_path)
    assert len(calls) == 3, "one of the two"
    assert "is made anew" in found.record.notes[0]
    assert same_weights(found.network, expected.network)
    assert all(np.array_equal(a, before[path]) for path, a in arrays(tmp_path).items())


@pytest.mark.parametrize("suffix", [".json", ".npy"])
def test_a_copy_that_was_not_finished_is_made_anew(tmp_path, calls, suffix):
    expected = copy_fit(tmp_path)
    calls.clear()
    next(iter(arrays(tmp_path))).with_suffix(suffix).unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same_weights(copy_fit(tmp_path).network, expected.network)
    assert len(calls) == 3


def test_finished_blocks_are_kept(tmp_path, calls, monkeypatch):
    defend = USVT.defend

    def failing(self, images, index):
        if index == 40:
            raise KeyboardInterrupt
        return defend(self, images, index)

    monkeypatch.setattr(USVT, "defend", failing)
    with pytest.raises(KeyboardInterrupt):
        copy_fit(tmp_path)
    assert len(list((tmp_path / "parts").iterdir())) == 2
    monkeypatch.setattr(USVT, "defend", defend)
    calls.clear()
    copy_fit(tmp_path)
    assert calls == [(8, 40), (20, 0), (20, 20), (8, 40)]


def test_too_little_memory(tmp_path, monkeypatch):
    def fail(self, images, index):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(USVT, "defend", fail)
    with pytest.raises(
        MemoryError, match=r"not enough memory to defend \d+ images at a time: CUDA"
    ):
        copy_fit(tmp_path)


def test_a_full_disk(tmp_path, monkeypatch, calls):
    def fail(self, *arguments, **options):
        if self.name.endswith(".tmp") and self.parent == tmp_path:
            raise OSError(28, "No space left on device")
        return opened(self, *arguments, **options)

    opened = Path.open
    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(OSError, match=r"the defended copy '.*' cannot be written: No space left"):
        copy_fit(tmp_path)
    monkeypatch.undo()
    assert not list(tmp_path.glob("*.tmp"))
    assert not arrays(tmp_path)
    copy_fit(tmp_path, copies=1)
    assert len(arrays(tmp_path)) == 1


def test_processes_share_the_work(tmp_path, calls):
    """Both parts in one process: the second finds the blocks of the first."""
    data, options = make_data(100), TrainingOptions(defense="usvt", copies=1)
    for rank in (1, 0):
        processes = Processes(rank, 2)
        object.__setattr__(processes, "wait", lambda: None)
        made = copies_module.Copies(tmp_path, data, options, processes, torch.device("cpu"))
        made._make(tmp_path / f"{rank}.npy", made._common | {"copy": 0}, 0, Progress({}))
    assert sorted(index for _, index in calls) == [0, 20, 40, 60, 80]


def test_stopped_and_resumed(tmp_path):
    """The copies are read again, and the masks do not change."""
    expected = copy_fit(tmp_path / "cache", epochs=3)
    learn, done = Learner.learn, []

    def stopping(self, *arguments):
        if len(done) == 7:
            raise KeyboardInterrupt
        done.append(1)
        return learn(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "learn", stopping)
        with pytest.raises(KeyboardInterrupt):
            copy_fit(tmp_path / "cache", epochs=3, output=tmp_path / "out")
    found = copy_fit(tmp_path / "cache", epochs=3, output=tmp_path / "out")
    assert same_weights(found.network, expected.network)
    assert not same_weights(found.network, make_network())
