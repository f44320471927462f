"""Certificates of pixels of data sets: reports, finished parts, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.ablation import fit_ablated, torch
from helpers.certify import kill_and_take_up
from helpers.evaluation import make_network, timeless

import splic_ext.certify.pixels as module
from splic_ext.certify import PixelEvaluation, certify_pixels, evaluate_pixels
from splic_ext.certify.pixel_tables import pixels_to_markdown
from splic_ext.data import Dataset, load_dataset
from splic_ext.evaluation.tables import percent
from splic_ext.models import build_model


@pytest.fixture(scope="module")
def digits():
    whole = load_dataset("digits")
    few = np.flatnonzero(whole.labels < 3)[:24]
    return Dataset(whole.name, whole.images[few], whole.labels[few], whole.classes[:3])


@pytest.fixture(scope="module")
def network():
    return fit_ablated(encoding="mean", classes=3)


def evaluated(network, digits, **changes):
    arguments = {
        "kept": [8, 0.12],
        "encodings": ["mean", "gray"],
        "selection": 20,
        "draws": 60,
        "progress": False,
        **changes,
    }
    return evaluate_pixels(network, digits, **arguments)


def test_records_are_those_of_the_images(network, digits):
    found = evaluated(network, digits, seed=3, alpha=0.01)
    assert [(name, report.plan.text) for name, report in found] == [
        ("mean", "8"), ("gray", "8"), ("mean", "0.12"), ("gray", "0.12"),
    ]  # fmt: skip
    (report,) = found.select(encoding="mean", kept="0.12")
    single = certify_pixels(
        network, digits.to_float(), digits.labels, kept=0.12, encoding="mean", selection=20,
        draws=60, seed=3, alpha=0.01,
    )  # fmt: skip
    assert report.records == single.records
    assert (report.encoding, report.network) == (single.encoding, single.network)
    assert report.seconds.network > 0
    assert 0 < report.accuracy().value < 1
    assert evaluated(network, digits, kept="8", encodings={"x": "mean"}).names == ("x",)


def test_a_report(network, digits, tmp_path):
    found = evaluated(network, digits, output=tmp_path, model_name="linear")
    assert PixelEvaluation.load(tmp_path / "pixels.json") == found
    text = (tmp_path / "pixels.md").read_text(encoding="utf-8")
    assert text == pixels_to_markdown(found)
    assert text.startswith("24 images of digits (test), linear: answers that are right, and stay")
    lines = text.splitlines()
    assert lines[2].startswith("| kept | encoding | abstained % | clean % (0 pixels) | 1 pixel % |")
    best = found.reports[0]
    assert f"| {percent(best.certified_accuracy(1))} |" in lines[4]
    assert lines[4].startswith(f"| 8 | mean | {percent(best.abstained)} | ")
    lines = (tmp_path / "pixels.json").read_text(encoding="utf-8").splitlines()
    assert sum('{"index": ' in line for line in lines) == 4 * 24, "a line for each record"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda v: v["reports"][0]["records"].pop(), "must have reports of one network on its 24"),
        (lambda v: v["reports"].pop(), "got 3 with 4 names"),
        (lambda v: v.update(reports=[], names=[]), "got 0 with 0 names"),
        (lambda v: v.update(reports=3), "`evaluation.reports` must be a list"),
        (lambda v: v["names"].__setitem__(0, "gray"), "must have reports of one network"),
        (lambda v: v["reports"][1].update(seed=9), "must have reports of one network"),
        (lambda v: v["dataset"].update(sha256="0"), "must have reports of one network"),
        (lambda v: v["reports"][1]["records"][0].update(radius=5), "must be what its count says"),
        (lambda v: v["reports"][1].update(draws="x"), "must be of type int"),
        (lambda v: v["reports"][1].update(kept=70.0), "`kept` must be"),
        (lambda v: v.pop("key"), "missing key"),
    ],
)
def test_damaged_reports(network, digits, damage, message):
    values = json.loads(evaluated(network, digits).to_json())
    damage(values)
    with pytest.raises(ValueError, match=message):
        PixelEvaluation.from_json(json.dumps(values))


def test_finished_parts_are_taken_up(network, digits, tmp_path, monkeypatch):
    whole = evaluated(network, digits)
    calls, count = [], module.count_votes

    def stopping(work, images, index, selection, draws):
        calls.append(int(index[0]))
        if len(calls) == 30:
            raise KeyboardInterrupt
        return count(work, images, index, selection, draws)

    monkeypatch.setattr(module, "count_votes", stopping)
    with pytest.raises(KeyboardInterrupt):
        evaluated(network, digits, output=tmp_path)
    assert len(list((tmp_path / "parts").glob("*.npz"))) == 8  # and of 4 tasks 3 each
    found = evaluated(network, digits, output=tmp_path)
    assert timeless(found) == timeless(whole)
    made = len(calls)
    again = evaluated(network, digits, output=tmp_path)
    assert timeless(again) == timeless(whole)
    assert again.seconds.network == again.seconds.encoding == again.seconds.masks == 0
    other = evaluated(network, digits, output=tmp_path, alpha=0.05, overwrite=True)
    assert len(calls) == made, "counts do not depend on alpha"
    assert timeless(other) == timeless(evaluated(network, digits, alpha=0.05))


def test_a_damaged_part_is_made_anew(network, digits, tmp_path):
    whole = evaluated(network, digits, output=tmp_path)
    part = sorted((tmp_path / "parts").glob("*.npz"))[1]
    part.write_bytes(part.read_bytes()[:-40])
    with pytest.warns(UserWarning, match="is no part of this run and is made anew"):
        found = evaluated(network, digits, output=tmp_path)
    assert timeless(found) == timeless(whole)
    assert len(found.notes) == 1


def test_what_changes_a_result(network, digits, tmp_path):
    first = evaluated(network, digits, output=tmp_path)
    for changes, told in (
        ({"encodings": ["mean"]}, "other encodings"),
        ({"kept": 8}, "other pixels kept"),
        ({"draws": 61}, "other draws"),
        ({"seed": 1}, "other seed"),
        ({"alpha": 0.01}, "other `alpha`"),
        ({"batch_size": 7}, "other `batch_size`, or something else"),
        ({"limit": 9}, "other images"),
    ):
        with pytest.raises(ValueError, match=f"the report of another certification: {told}"):
            evaluated(network, digits, output=tmp_path, **changes)
    with pytest.raises(ValueError, match="other network"):
        evaluated(fit_ablated(encoding="mean", classes=3, times=1), digits, output=tmp_path)
    less = evaluated(network, digits, kept=[0.12], output=tmp_path, overwrite=True)
    assert timeless(less) == timeless(first)[2:]
    (tmp_path / "pixels.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="is no report that can be read"):
        evaluated(network, digits, output=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="`output` must be a folder, got the file"):
        evaluated(network, digits, output=tmp_path / "file")


def test_the_code_of_an_encoding_of_ones_own_counts(network, digits, tmp_path):
    """Two functions of one name, whose code differs."""

    def write(value):
        path = tmp_path / f"own{value}.py"
        path.write_text(f"def shown(images, mask):\n    return images * mask + {value} * ~mask\n")
        scope = {}
        exec(compile(path.read_text(), str(path), "exec"), scope)
        return scope["shown"]

    options = {"kept": 8, "output": tmp_path / "out"}
    first = evaluated(network, digits, encodings={"own": write(0)}, **options)
    second = evaluated(network, digits, encodings={"own": write(1)}, overwrite=True, **options)
    assert first.reports[0].records != second.reports[0].records


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"encodings": []}, ValueError, "`encodings` must not be empty"),
        ({"encodings": ["mean", "mean"]}, ValueError, "`encodings` must have names that differ"),
        ({"encodings": ["null"]}, ValueError, "`model` must take images of 2 channels, as the enc"),
        ({"encodings": ["red"]}, ValueError, "fill name must be one of"),
        ({"kept": []}, ValueError, "`kept` must not be empty"),
        ({"kept": [8, "8"]}, ValueError, "`kept` has '8' twice"),
        ({"kept": "many"}, ValueError, "`kept` must be a number of pixels such as 100, or a share"),
        ({"kept": [0.1, 0.6]}, ValueError, "`kept` must be below 0.5 to certify anything"),
        ({"kept": 90}, ValueError, r"`kept` must be an integer in \[1, 64\]"),
        ({"draws": 5}, ValueError, "`draws` must be at least"),
        ({"selection": 0}, ValueError, "`selection`"),
        ({"alpha": 0.0}, ValueError, "`alpha`"),
        ({"seed": -1}, ValueError, "`seed`"),
        ({"limit": 0}, ValueError, "`limit`"),
        ({"batch_size": 0}, ValueError, "`batch_size`"),
        ({"dataset": 3}, TypeError, "`dataset` must be a Dataset"),
        ({"model": "resnet20"}, TypeError, "`model` must be a torch.nn.Module"),
        ({"model": make_network().train()}, ValueError, "`model` is in train mode"),
        ({"device": "nowhere"}, ValueError, "`device`"),
    ],
)
def test_refused(network, digits, changes, error, message):
    arguments = {"model": network, "dataset": digits, "progress": False, "encodings": ["mean"]}
    with pytest.raises(error, match=message):
        evaluate_pixels(**arguments | changes)


def test_killed_and_taken_up_on_the_command_line(tmp_path):
    weights = tmp_path / "weights.pt"
    torch.manual_seed(0)
    torch.save(build_model("digits_cnn").state_dict(), weights)
    given = ["certify", "--dataset", "digits", "--model", "digits_cnn", "--weights", str(weights)]
    given += ["--kept", "0.1", "--kept", "6", "--encoding", "splic", "--encoding", "mean"]
    given += ["--limit", "30", "--selection", "20", "--draws", "100", "-q"]
    folders = kill_and_take_up(given, tmp_path)
    found = [PixelEvaluation.load(folder / "pixels.json") for folder in folders]
    assert timeless(found[0]) == timeless(found[1])
    assert np.unique([len(report.records) for report in found[1].reports]).tolist() == [30]
