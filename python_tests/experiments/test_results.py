"""Results of experiments: JSON and back, CSV, Markdown, files."""

from __future__ import annotations

import copy
import csv
import dataclasses
import errno
import io
import json
import sys
from pathlib import Path

import pytest
from helpers.results import CURVE, ORIGIN, make_result, make_row

pytest.importorskip("torch", reason="torch is not installed")

from splic_ext.errors import MissingExtraError
from splic_ext.evaluation import (
    NetworkInfo,
    mean_accuracy,
)
from splic_ext.experiments import ExperimentResult, Gallery, Point
from splic_ext.experiments.results.result import SCHEMA_VERSION


@pytest.fixture
def result():
    return make_result(
        make_row("none"),
        make_row("none", "FGSM", 2),
        make_row("SPLIC", paper=59.8, draws=3),
        make_row("SPLIC", "FGSM", 3, paper=60.0, draws=3),
        make_row("SPLIC", "CW", 1, n=2, draws=3),
        make_row("SPLIC", section="other", scenario="white"),
        notes=("seed 0",),
    )


def test_round_trip(result):
    text = result.to_json()
    again = ExperimentResult.from_json(text)
    assert again == result
    assert again.to_json() == text
    assert isinstance(again.rows[0].dataset.shape, tuple)
    assert ExperimentResult.from_json(make_result().to_json()) == make_result()


def test_json_is_plain_with_a_line_for_each_row(result):
    plain = json.loads(result.to_json())
    assert plain["schema_version"] == SCHEMA_VERSION == 3
    assert plain["rows"][3]["mean"] == {"value": 0.75, "low": 0.125, "high": 0.875, "n": 4}
    assert plain["rows"][3]["paper"] == 60.0
    assert plain["rows"][0]["paper"] is None
    lines = [line.strip().rstrip(",") for line in result.to_json().splitlines()]
    assert [json.loads(line) for line in lines if line.startswith('{"section"')] == plain["rows"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema_version=4), "must have the schema version 3, got 4; read it"),
        (lambda d: d.pop("schema_version"), "must have the schema version 3, got None"),
        (lambda d: d.pop("title"), "`result` must have the keys .* missing title, unknown none"),
        (lambda d: d.update(more=1), "missing none, unknown more"),
        (lambda d: d.update(rows={}), "`result.rows` must be a list"),
        (lambda d: d["rows"][2].pop("draws"), r"`result.rows\[2\]` must have the keys .* draws, u"),
        (lambda d: d["rows"][1].update(draws="3"), r"rows\[1\].draws` must be of type int, got"),
        (lambda d: d["rows"][1].update(mean=0.5), r"rows\[1\].mean` must be an object, got 0.5"),
        (lambda d: d["rows"][1]["mean"].pop("low"), r"rows\[1\].mean` must have the keys .* low, "),
        (lambda d: d["rows"][1]["mean"].update(value=5.0), "an accuracy must be in .*, got 5.0 in"),
        (lambda d: d["rows"][1]["majority"].update(high=1.5), r"an accuracy .* in \[0.5, 1.5\] of"),
        (lambda d: d["rows"][1]["all_draws"].update(low=-0.1), r"accuracy .* in \[-0.1, 0.5\] of"),
        (lambda d: d["rows"][1]["mean"].update(value=0.9), r"got 0.9 in \[0.125, 0.875\] of"),
        (lambda d: d["rows"][1]["mean"].update(n=0), "of an image at least, got .* of 0; take it"),
        (lambda d: d["rows"][1]["mean"].update(value=float("nan")), "an accuracy .* got nan in"),
        (lambda d: d["provenance"].update(date=None), "provenance.date` must be of type str, got"),
    ],
)  # fmt: skip
def test_what_is_no_result(result, change, message):
    plain = copy.deepcopy(json.loads(result.to_json()))
    change(plain)
    with pytest.raises(ValueError, match=message):
        ExperimentResult.from_json(json.dumps(plain))


def test_what_is_no_json(result):
    for text in ("", result.to_json()[:-9]):
        with pytest.raises(ValueError, match="an experiment must be a text in JSON: "):
            ExperimentResult.from_json(text)
    with pytest.raises(ValueError, match="schema version 3, got None"):
        ExperimentResult.from_json("[]")


def test_select(result):
    assert result.select() == result.rows
    assert result.select(section="other") == result.rows[5:]
    assert result.select(method="none", attack="FGSM") == result.rows[1:2]
    assert result.select(method="tv") == ()


def test_csv(result):
    lines = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert len(lines) == 6
    assert lines[3] == {
        "section": "made", "dataset": "made", "images": "4", "network": "a network",
        "scenario": "gray", "method": "SPLIC", "attack": "FGSM", "draws": "3",
        "mean": "75.00", "mean_low": "12.50", "mean_high": "87.50",
        "all_draws": "0.00", "all_draws_low": "0.00", "all_draws_high": "50.00",
        "majority": "100.00", "majority_low": "50.00", "majority_high": "100.00",
        "paper": "60.0", "defense": "TotalVariation(weight=0.1)",
        "parameters": '{"name": "FGSM", "steps": 7}',
    }  # fmt: skip
    assert (lines[0]["paper"], lines[0]["parameters"]) == ("", "")
    assert lines[4]["images"] == "2"


def test_methods_down_attacks_across(result):
    """A paper's column only where the paper has a number; an empty cell where there is no row."""
    _, _, text = result.to_markdown().partition("## made\n\n")
    assert text.partition("\n\n## other")[0].splitlines() == [
        "4 images of made, a network; CW: the first 2.",
        "",
        "| method | clean | paper | FGSM | paper | CW |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| none | 25.0 [12.5, 87.5] |  | 50.0 [12.5, 87.5] |  |  |",
        "| SPLIC | 25.0 [12.5, 87.5] (0.0) | 59.8 | 75.0 [12.5, 87.5] (0.0) | 60.0 "
        "| 50.0 [12.5, 87.5] (0.0) |",
    ]


def test_one_method_has_its_attacks_down():
    rows = (make_row(n=1000, right=500), make_row(attack="10|20", n=1000, right=250, paper=9.0))
    _, _, text = make_result(*rows).to_markdown().partition("## made\n\n")
    assert text.splitlines() == [
        "tv: 1,000 images of made, a network.",
        "",
        "| attack | one draw | every draw | vote |",
        "| --- | ---: | ---: | ---: |",
        "| clean | 50.0 [12.5, 87.5] | 0.0 [0.0, 50.0] | 100.0 [50.0, 100.0] |",
        "| 10\\|20 | 25.0 [12.5, 87.5] | 0.0 [0.0, 50.0] | 100.0 [50.0, 100.0] |",
    ]


def test_networks_that_differ_stand_beside_their_methods():
    other = NetworkInfo("small", "4567")
    rows = (make_row("a"), make_row("b", model=other), make_row("b", "PGD", model=other))
    lines = make_result(*rows).to_markdown().splitlines()
    assert "4 images of made, networks in brackets." in lines
    assert [line.split(" | ")[0] for line in lines[-2:]] == ["| a (a network)", "| b (small)"]


def test_line_breaks_in_names_do_not_break_the_table():
    result = make_result(make_row("a\n b"), make_row("c"), title="All\n of it")
    lines = result.to_markdown().splitlines()
    assert lines[0] == "# All of it"
    assert lines[-4:-2] == ["| method | clean |", "| --- | ---: |"]
    assert [line.split(" | ")[0] for line in lines[-2:]] == ["| a b", "| c"]
    one = make_result(make_row("a\n b")).to_markdown()
    assert "\na b: 4 images of made, a network.\n" in one


def test_head(result):
    title, empty, reading, _, *items = result.to_markdown().partition("\n\n## ")[0].splitlines()
    assert (title, empty) == ("# A table", "")
    assert reading.startswith("Accuracy in %, mean over the draws, with 95 % Wilson intervals")
    assert items == [
        "- 2026-01-02, a processor, 2 cores; splic_ext 1.0, torch 2.0",
        "- `splic-ext reproduce table4`",
        "- seed 0",
    ]
    quiet = make_result(*result.rows, provenance=dataclasses.replace(ORIGIN, command=None))
    assert "\n- `" not in quiet.to_markdown()


def test_intervals_are_those_of_the_accuracy():
    accuracy = mean_accuracy([1] * 30 + [0] * 70, 1)
    text = make_result(make_row(mean=accuracy, n=100)).to_markdown()
    assert "| clean | 30.0 [21.9, 39.6] |" in text


def test_save(result, tmp_path):
    paths = result.save(tmp_path / "a" / "b")
    assert [path.name for path in paths] == ["made.json", "made.csv", "made.md"]
    assert sorted(paths) == sorted((tmp_path / "a" / "b").iterdir())
    for path, text in zip(
        paths, (result.to_json(), result.to_csv(), result.to_markdown()), strict=True
    ):
        assert path.read_bytes() == text.encode()
    other = make_result(make_row())
    other.save(tmp_path / "a" / "b")
    assert ExperimentResult.from_json(paths[0].read_text()) == other


def test_a_full_disk_leaves_what_was_there(result, tmp_path, monkeypatch):
    path = result.save(tmp_path)[0]
    before = path.read_bytes()

    def fill_up(path, content):
        path.write_text(content[:20].decode())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    with pytest.raises(OSError, match=r"cannot be written to '.*made.json': No space left on devi"):
        make_result().save(tmp_path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3, "a temporary file was left"


def test_a_folder_that_is_a_file(result, tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(OSError, match=r"the results cannot be written to '.*x/made.json'"):
        result.save(tmp_path / "x")


# Curves and pictures

GALLERY = Gallery(
    "made", "Pictures", ("a",), ("b", "c"), (("", ""),), (("x", "y"),), ((True, None),)
)


def test_an_earlier_version_is_read(result):
    """As it was written before there were curves and pictures."""
    plain = json.loads(result.to_json())
    del plain["kinds"]
    assert ExperimentResult.from_json(json.dumps({**plain, "schema_version": 2})) == result
    for name in ("points", "galleries", "datasets", "budget"):
        del plain[name]
    text = json.dumps({**plain, "schema_version": 1})
    assert ExperimentResult.from_json(text) == result
    with pytest.raises(ValueError, match="missing points, galleries, datasets, budget, kinds"):
        ExperimentResult.from_json(json.dumps({**plain, "schema_version": 3}))


def test_curves_and_pictures_come_back(result):
    full = dataclasses.replace(
        result,
        points=CURVE,
        galleries=(GALLERY,),
        datasets=(result.rows[0].dataset,),
        budget="cpu",
    )
    again = ExperimentResult.from_json(full.to_json())
    assert again == full
    assert again.galleries[0].right == ((True, None),)
    lines = [line.strip().rstrip(",") for line in full.to_json().splitlines()]
    assert sum(line.startswith('{"section": "made", "series"') for line in lines) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["points"][1].update(kind="pie"), "`kind` of a point must be one of"),
        (lambda d: d["points"][1].update(y="3"), r"points\[1\].y` must be of type float"),
        (lambda d: d["points"][1].update(y=500.0), r"`y` of a point must be in \[0, 100\], an acc"),
        (lambda d: d["points"][1].update(low=-1.0), r"`low` of a point must be in \[0, 100\], an"),
        (lambda d: d["galleries"][0]["right"].append([]), "`right` of a gallery must have 1 rows"),
        (lambda d: d.update(budget=3), "result.budget` must be of type str"),
        (lambda d: d["points"][1].update(paper=-1.0), r"`paper` of a point must be in \[0, 100\]"),
        (lambda d: d["rows"][0].update(paper=101.0), r"`paper` of a row must be in \[0, 100\]"),
        (lambda d: d["rows"][0].update(draws=0), r"`draws` of a row must be in \[1, inf\], got 0"),
        (lambda d: d["rows"][0].update(seconds=-1.0), "`seconds` of a row must be in"),
        (lambda d: d["rows"][0]["dataset"].update(images=0), "must have images of a pixel at"),
        (lambda d: d["rows"][0]["dataset"].update(shape=[3, 0, 8]), "must have images of a pixel"),
    ],
)
def test_damaged_values(change, message):
    plain = json.loads(make_result(make_row(), points=CURVE, galleries=(GALLERY,)).to_json())
    change(plain)
    with pytest.raises(ValueError, match=message):
        ExperimentResult.from_json(json.dumps(plain))


def test_a_curve_as_a_table():
    """Places down, series across; the rows of the section are these points."""
    text = make_result(make_row(), points=CURVE).to_markdown()
    assert "\n![A table](made.png)\n" in text
    assert text.partition("## made\n\n")[2].splitlines() == [
        "accuracy (%); 200 images.",
        "",
        "| rank | clean | PGD | paper |",
        "| --- | ---: | ---: | ---: |",
        "| 4 | 80.0 [75.0, 85.0] | 40.5 [35.5, 45.5] | 68.5 |",
        "| 8 | 80.0 [75.0, 85.0] | 40.5 [35.5, 45.5] | 68.5 |",
    ]


def test_bars_of_fewer_images_are_told():
    """As the white box, and the attack of Carlini and Wagner."""
    like = Point("made", "SPLIC", "attack", 0, "accuracy (%)", 80.0, 75.0, 85.0, kind="bar")
    points = [
        dataclasses.replace(like, x=i, label=label, n=n)
        for i, (label, n) in enumerate({"clean": 500, "CW": 50, "BPDA": 100}.items())
    ]
    text = make_result(points=tuple(points)).to_markdown()
    assert "accuracy (%); 500 images; CW: the first 50; BPDA: the first 100." in text


def test_long_curves_clouds_and_places_with_names():
    long = tuple(Point("a", "x", "iteration", i, "change", 1 / i) for i in range(1, 71))
    cloud = (Point("b", "cat", "t-SNE 1", 1.0, "t-SNE 2", 2.0, kind="scatter"),)
    named = (Point("c", "SPLIC", "data set", 0, "PSNR (dB)", 25.0, label="made", kind="bar"),)
    text = make_result(points=(*long, *cloud, *named)).to_markdown()
    assert "change; 12 of 70 places." in text
    assert "\n| 1 | 1 |\n" in text
    assert "\n| 70 | 0.01429 |\n" in text
    assert "## b" not in text
    assert "\n| made | 25 |\n" in text
    assert "Accuracy in %" not in text, "how to read accuracies, and there is none"


def test_points_as_csv(tmp_path):
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed")
    result = make_result(points=CURVE, galleries=(GALLERY,))
    paths = result.save(tmp_path)
    assert [path.name for path in paths] == [
        "made.json", "made_points.csv", "made.md", "made.png",
    ]  # fmt: skip
    assert tuple(path.name for path in paths) == result.files
    lines = list(csv.DictReader(io.StringIO(paths[1].read_text())))
    assert lines[2] == {
        "section": "made", "series": "PGD", "x_name": "rank", "x": "8.0", "label": "",
        "y_name": "accuracy (%)", "y": "40.5", "low": "35.5", "high": "45.5", "n": "200",
        "paper": "68.5", "dataset": "made",
    }  # fmt: skip
    assert paths[3].read_bytes() == result.to_png()
    assert make_result(make_row(), points=CURVE).files == (
        "made.json", "made.csv", "made_points.csv", "made.md", "made.png",
    )  # fmt: skip


def test_nothing_is_written_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="report"):
        make_result(points=CURVE).save(tmp_path)
    assert not list(tmp_path.iterdir())
    assert len(make_result(make_row()).save(tmp_path)) == 3
