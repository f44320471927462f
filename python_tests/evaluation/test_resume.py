"""Evaluations that are killed, damaged, out of room, or asked for more than before."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.evaluation import Step, calls, make_dataset, make_network, run, timeless

import splic_ext
from splic_ext.attacks import ThreatModel
from splic_ext.common.atomic import atomic_path
from splic_ext.evaluation import EvaluationReport, to_markdown

__all__ = ["calls"]  # the fixture


def parts(folder, kind="*"):
    return sorted((folder / "parts").glob(f"{kind}-*.npz"))


def test_files(tmp_path):
    report = run(output=tmp_path / "a" / "b")
    folder = tmp_path / "a" / "b"
    assert sorted(path.name for path in folder.iterdir()) == ["parts", "report.json", "report.md"]
    assert len(parts(folder, "attack")) == 3, "gray: one for each batch"
    assert len(parts(folder, "score")) == 3 * 2 * 2
    assert len(parts(folder)) == len(list((folder / "parts").iterdir()))
    assert EvaluationReport.load(folder / "report.json") == report
    assert (folder / "report.md").read_text(encoding="utf-8") == to_markdown(report)
    with np.load(parts(folder, "attack")[0]) as archive:
        meta = json.loads(str(archive["meta"]))
        assert archive["images"].dtype == np.float32
    assert meta["description"]["attack"]["name"] == "step"


def test_a_finished_evaluation_is_not_computed_again(tmp_path, calls):
    network = make_network()
    first = run(model=network, output=tmp_path)
    calls.clear()
    passes = []
    network.register_forward_hook(lambda *_: passes.append(1))
    again = run(model=network, output=tmp_path)
    assert not calls
    assert len(passes) == 2, "beyond the check of the network"
    assert timeless(again) == timeless(first)
    assert again.seconds.attack == again.seconds.defense == again.seconds.network == 0
    for a, b in zip(first.records, again.records, strict=True):
        for phase in ("attack", "defense", "network"):
            assert getattr(a.seconds, phase) == getattr(b.seconds, phase)


def test_more_images_reuse_what_is_there(tmp_path, calls):
    run(output=tmp_path, limit=20)
    calls.clear()
    more = run(output=tmp_path, overwrite=True)
    assert [call[1] for call in calls] == [20]
    assert timeless(more) == timeless(run())


@pytest.mark.parametrize(
    "change",
    [
        {"model": make_network(1)},
        {"dataset": make_dataset(name="other/test"), "limit": 9},
        {"seed": 1},
        {"attacks": {"step": Step(ThreatModel(epsilon=4 / 255))}},
        {"scenario": "white"},
        {"batch_size": 7},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_the_images_is_computed_anew(tmp_path, calls, change):
    run(output=tmp_path)
    calls.clear()
    changed = run(output=tmp_path, overwrite=True, **change)
    assert calls
    assert timeless(changed) == timeless(run(**change))


def test_another_defence_reuses_the_adversarial_images(tmp_path, calls):
    run(output=tmp_path)
    calls.clear()
    run(output=tmp_path, overwrite=True, defenses=["tv"], draws=2)
    assert not calls
    assert len(parts(tmp_path, "score")) == 3 * 2 * 3


def test_labels_change_the_images_but_not_the_predictions(tmp_path, calls):
    data = make_dataset()
    run(output=tmp_path, attacks=())
    scored = len(parts(tmp_path))
    labels = (data.labels + 1) % 4
    other = type(data)(data.name, data.images, labels, data.classes)
    changed = run(output=tmp_path, overwrite=True, attacks=(), dataset=other)
    assert len(parts(tmp_path)) == scored
    assert timeless(changed) == timeless(run(attacks=(), dataset=other))


# Damage


def truncate(path):
    path.write_bytes(path.read_bytes()[:-300])


def empty(path):
    path.write_bytes(b"")


def change_values(path):
    """A valid archive with other images or predictions, and the same description."""
    with np.load(path) as archive:
        content = {name: archive[name] for name in archive.files}
    for name in ("images", "predictions"):
        if name in content:
            content[name] = 1 - content[name]
    np.savez(path, **content)


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    with np.load(path) as archive:
        name = "images" if "images" in archive.files else "predictions"
        values = archive[name].tobytes()
    data[data.index(values) + len(values) // 2] ^= 1
    path.write_bytes(bytes(data))


def change_shape(path):
    with np.load(path) as archive:
        content = {name: archive[name] for name in archive.files}
    np.savez(path, **{n: a[:1] if a.ndim else a for n, a in content.items()})


def change_times(path, **seconds):
    with np.load(path) as archive:
        content = {name: archive[name] for name in archive.files}
    meta = json.loads(str(content["meta"]))
    meta["seconds"].update(seconds)
    np.savez(path, **{**content, "meta": np.array(json.dumps(meta))})


def unknown_phase(path):
    change_times(path, coffee=1.0)


def a_rest(path):
    change_times(path, rest=1.0)


def endless(path):
    change_times(path, attack=float("inf"))


DAMAGES = [
    truncate, empty, change_values, flip_a_bit, change_shape, unknown_phase, a_rest, endless
]  # fmt: skip


@pytest.mark.parametrize("kind", ["attack", "score"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_told_of_and_made_anew(tmp_path, calls, kind, damage):
    expected = run(output=tmp_path)
    path = parts(tmp_path, kind)[0]
    good = path.read_bytes()
    damage(path)
    assert path.read_bytes() != good
    calls.clear()
    with pytest.warns(UserWarning, match=f"the file '{path}' is no part of this run and is"):
        again = run(output=tmp_path)
    assert len(calls) == (kind == "attack")
    assert timeless(again) == timeless(expected)
    assert len(again.notes) == 1
    assert str(path) in to_markdown(again)
    assert not run(output=tmp_path).notes


def test_a_part_under_another_name_is_not_taken(tmp_path):
    expected = run(output=tmp_path)
    for kind in ("attack", "score"):
        first, second = parts(tmp_path, kind)[:2]
        second.write_bytes(first.read_bytes())
    with pytest.warns(UserWarning, match=r"made anew: (it belongs|its content)"):
        assert timeless(run(output=tmp_path)) == timeless(expected)


# The folder


def test_the_report_of_another_evaluation_is_kept(tmp_path):
    run(output=tmp_path, attacks=())
    before = (tmp_path / "report.json").read_bytes()
    expected = r"another evaluation: `draws` is 3 there and 2 here; name .*`overwrite=True`"
    with pytest.raises(ValueError, match=expected):
        run(output=tmp_path, attacks=(), draws=2)
    assert (tmp_path / "report.json").read_bytes() == before
    run(output=tmp_path, attacks=(), draws=2, overwrite=True)
    assert EvaluationReport.load(tmp_path / "report.json").records[1].draws == 2
    (tmp_path / "report.json").write_text("mine")
    with pytest.raises(
        ValueError, match=r"report.json' is no report that can be read: .*; name an"
    ):
        run(output=tmp_path, attacks=(), draws=2)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 5}, "`seed` is 0 there and 5 here"),
        ({"model": make_network(3)}, "other network"),
        ({"dataset": make_dataset(9)}, "other data set"),
        ({"attacks": [Step(ThreatModel(epsilon=0.25))]}, "other attacks"),
        ({"defenses": ["identity", "usvt:keep=1/4"]}, "other defences"),
        ({"scenario": "white"}, "`scenario` is 'gray' there and 'white' here"),
        (
            {"batch_size": 5},
            "other `batch_size`, code of your own, or something else that it does not tell",
        ),
    ],
)
def test_what_differs_is_told(tmp_path, changes, told):
    run(output=tmp_path)
    with pytest.raises(ValueError, match=f"another evaluation: {re.escape(told)}; name another"):
        run(output=tmp_path, **changes)


def test_an_output_that_is_a_file(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(ValueError, match="`output` must be a folder, got the file"):
        run(output=tmp_path / "x")


def test_no_output_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run()
    assert not list(tmp_path.iterdir())


def test_a_full_disk(tmp_path, monkeypatch, calls):
    save, saved = np.savez, []

    def fill_up(file, **content):
        if len(saved) == 4:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        saved.append(save(file, **content))

    monkeypatch.setattr("numpy.savez", fill_up)
    with pytest.raises(OSError, match=r"cannot be written to '.*npz': No space left on device; ma"):
        run(output=tmp_path)
    assert len(parts(tmp_path)) == 4
    assert len(list((tmp_path / "parts").iterdir())) == 4, "a temporary file was left"
    monkeypatch.undo()
    assert timeless(run(output=tmp_path)) == timeless(run())


def test_old_temporary_files_are_removed(tmp_path):
    with atomic_path(tmp_path / "parts" / "x") as held:
        old = held.with_name(f".splic-{'0' * 16}.tmp")
        old.touch()
        os.utime(old, (time.time() - 7200,) * 2)  # also where files cannot be locked
        run(output=tmp_path, attacks=())
        assert not old.exists()
        assert held.exists(), "another process writes it"


# Interrupted and killed


def test_ctrl_c_leaves_what_is_finished(tmp_path, monkeypatch, calls):
    perturb = Step.perturb

    def interrupted(self, target, images, streams):
        if len(calls) == 2:
            raise KeyboardInterrupt
        return perturb(self, target, images, streams)

    monkeypatch.setattr(Step, "perturb", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(output=tmp_path)
    assert not (tmp_path / "report.json").exists()
    monkeypatch.undo()
    done = len(parts(tmp_path))
    calls.clear()
    assert timeless(run(output=tmp_path)) == timeless(run())
    assert [call[1] for call in calls[:2]] == [10, 20], "the first batch was attacked again"
    assert done == 6 + 1 + 2


SCRIPT = """
import os, signal, sys
import numpy as np
sys.path.insert(0, {tests!r})
from helpers.evaluation import Step, run

output, log, kill_at, how = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
count = 0

def note(what):
    global count
    with open(log, "a") as file:
        file.write(what + "\\n")
    count += 1
    if count == kill_at:
        if how == "writing":
            save = np.savez
            def half(file, **content):
                file.write(b"half of it")
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            np.savez = half
        else:
            os.kill(os.getpid(), signal.SIGKILL)

perturb = Step.perturb
def noted(self, target, images, streams):
    note(f"attack {{int(streams.indices[0])}}")
    return perturb(self, target, images, streams)
Step.perturb = noted
report = run(output=output, batch_size=5)
print([(record.right, record.voted) for record in report.records])
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_killed_twice_and_resumed(tmp_path):
    """SIGKILL in an attack, then in writing: nothing that was finished is lost or done again."""
    place = str(Path(splic_ext.__file__).parent.parent)
    code, output, log = SCRIPT.format(tests=str(Path(__file__).parents[1])), tmp_path / "out", "log"

    def start(kill_at, how=""):
        (tmp_path / log).write_text("")
        return subprocess.run(
            [sys.executable, "-c", code, output, log, str(kill_at), how],
            capture_output=True, text=True, timeout=120, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": place},
        )  # fmt: skip

    def attacked():
        return [int(line.split()[1]) for line in (tmp_path / log).read_text().splitlines()]

    killed = start(3)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert attacked() == [0, 5, 10]
    assert len(parts(output, "attack")) == 2
    killed = start(2, "writing")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert attacked() == [10, 15]
    assert len(parts(output, "attack")) == 3
    assert not (output / "report.json").exists()
    resumed = start(0)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stderr == "", "half a file was taken for a part"
    assert attacked() == [15, 20]
    whole = run(batch_size=5)
    assert resumed.stdout.strip() == str([(record.right, record.voted) for record in whole.records])
