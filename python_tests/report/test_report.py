"""One page of all results: what is shown, and that it needs nothing else."""

from __future__ import annotations

import dataclasses
import re
from importlib import resources
from pathlib import Path

import pytest
from helpers.report import (
    ORIGIN,
    benchmarks,
    made,
    make_result,
    make_row,
    read,
    search,
    shown,
    table,
    write,
)

from splic_ext.evaluation import DatasetInfo, NetworkInfo
from splic_ext.report import collect, make_page, write_report
from splic_ext.training import EpochRecord, EpochSeconds, TrainingOptions, TrainingRecord

__all__ = ["made", "table"]  # fixtures

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_needs_nothing_else(made):
    html = make_page(collect([made])).to_html()
    reader = read(html)
    for tag, attributes in reader.tags:
        assert tag not in ("script", "iframe", "object", "embed")
        for name in ("src", "href"):
            assert re.match(r"(#|data:|$)", attributes.get(name, "")), attributes
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\((?!#)|@import", html)
    names = [a["id"] for _, a in reader.tags if "id" in a]
    assert len(set(names)) == len(names), "a name twice"
    referred = [a["href"][1:] for _, a in reader.tags if a.get("href", "").startswith("#")]
    referred += re.findall(r"url\(#([^)]+)\)", html)
    assert set(referred) <= set(names)
    assert len(referred) > 20


def test_tables_are_marked_up(made):
    reader = read(make_page(collect([made])).to_html())
    assert all(attributes.get("scope") in ("row", "col") for attributes in reader.all("th"))
    pictures = reader.all("img")
    assert len(pictures) == 12
    assert all(picture["alt"] and picture["width"] == "32" for picture in pictures)
    assert pictures[0]["alt"].startswith("a 0, original, taken for 0, right")
    drawings = [a for _, a in reader.tags if a.get("role") == "img"]
    assert len(drawings) >= 5
    assert all(len(drawing["aria-label"]) > 30 for drawing in drawings)
    assert reader.all("html") == [{"lang": "en"}]


def test_every_number_of_a_row_is_there(table, tmp_path):
    text = shown(table, folder=tmp_path).text
    assert "100 images of made, a network, gray box, 3 draws" in text
    assert "41.0 31.0\u201351.0 paper 40.0, agrees every draw 41.0" in text
    assert "31.0 21.0\u201341.0 paper 63.6, ours 32.6 lower" in text
    for words in (
        "2026-01-02", "a processor, 2 cores, Linux, cpu", "splic_ext 1.0, torch 2.0", "seed 0",
        "splic-ext reproduce table4", "c0dec0dec0de", "SPLIC(rank=None, n_masks=4)",
        '{"name": "PGD", "steps": 7}', "0.json",
    ):  # fmt: skip
        assert words in text
    assert "foolbox" not in text


def test_an_evaluation(made):
    page = make_page(collect([made / "evaluation"]))
    (entry,) = page.entries
    assert entry.title == "Evaluation of linear on digits, gray box"
    text = read(page.to_html()).text
    for words in ("12 images, seed 0", "Perturbations and times", "16/255", "SHA-256"):
        assert words in text
    assert [line.head for line in entry.blocks[0].tables[0].lines] == ["none", "SPLIC"]


def test_a_page_of_one_kind_is_called_so(made, table, tmp_path):
    """It is not told which experiments have no result."""
    page = make_page(collect([made / "evaluation"]))
    assert page.title == "Evaluation of linear on digits, gray box"
    assert page.missing == ()
    assert "no result here" not in read(page.to_html()).text
    report = (made / "evaluation" / "report.json").read_text(encoding="utf-8")
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(report, encoding="utf-8")
    assert make_page(collect([tmp_path])).title == "SPLIC: evaluations"
    assert make_page(collect([tmp_path]), title="Mine").title == "Mine"
    protocol = make_page(collect([write(tmp_path, make_result(make_row(), name="adaptive"))]))
    assert protocol.missing == ()
    write(tmp_path, table)
    both = make_page(collect([tmp_path]))
    assert both.title == "SPLIC: results"
    assert both.missing


def test_benchmarks(table, tmp_path):
    text = shown(table, folder=tmp_path, speed=benchmarks()).text
    for words in (
        "Solver speed on A processor, avx2", "26.4 x", "11 x", "3.52 x", "0.266", "012345678901",
        "1.0e-06 / 1.0e-04", "pytest benchmarks --benchmark-only", "torch SVD", "6.4",
    ):  # fmt: skip
        assert words in text
    assert "Caution" not in text
    quick = shown(folder=tmp_path, speed=benchmarks(quick=True)).text
    assert "Caution. A smoke test" in quick
    assert "1 result is a smoke test" in quick


def test_the_search_for_a_preset(tmp_path, table):
    page = shown(table, folder=tmp_path, preset=search())
    assert "68.0 63.0\u201373.0" in page.text
    assert "tv_weight=0.1" in page.text
    assert "preset paper" in page.text


def test_a_training(tmp_path, table):
    seconds = EpochSeconds(defense=2.0, network=1.5)
    record = TrainingRecord(
        key="k",
        options=TrainingOptions(epochs=3, defense="splic", adversarial="bpda"),
        defense_repr="SPLIC()",
        attack={"name": "bpda"},
        fill_repr=None,
        model=NetworkInfo("resnet20", "0123" * 16),
        channels=3,
        dataset=DatasetInfo("cifar10", "train", 50_000, (3, 32, 32), "da7a" * 16),
        test=None,
        history=tuple(EpochRecord(i, 2.0 / i, 0.3 * i, 0.2 * i, 0.1, seconds) for i in (1, 2, 3)),
        processes=2,
        provenance=ORIGIN,
    )
    (tmp_path / "training.json").write_text(record.to_json())
    (entry,) = make_page(collect([tmp_path])).entries
    assert entry.title == "Training of resnet20 on cifar10"
    assert entry.subtitle == "50,000 images behind splic, attacked by bpda; 3 epochs"
    loss, accuracy = entry.blocks[0].diagrams
    assert "loss over epoch" in loss.text
    assert "training images; test images. Values from 20 to 90" in accuracy.text
    assert entry.blocks[1].tables[0].lines[0].cells[0].text == "6.0"
    text = shown(table, folder=tmp_path).text
    for words in ("weight_decay 0.0005", "Processes 2", "network 4.5"):
        assert words in text
    assert "Fill" not in dict(entry.facts)


@pytest.mark.parametrize(
    ("change", "fill", "words"),
    [
        ({"cutout": "2x9"}, "SPLICFill()", "behind identity, boxes 2x9 filled by splic; 3 epochs"),
        (
            {"ablate": 0.1, "encoding": "mean"},
            "Mean()",
            "behind identity, ablated to 0.1, encoded by mean; 3 epochs",
        ),
    ],
)
def test_a_training_with_hidden_pixels(tmp_path, change, fill, words):
    epochs = tuple(EpochRecord(i, 1.0, 0.5, 0.5, 0.1, EpochSeconds()) for i in (1, 2, 3))
    record = TrainingRecord(
        key="k",
        options=TrainingOptions(epochs=3, **change),
        defense_repr="Identity()",
        attack=None,
        fill_repr=fill,
        model=NetworkInfo("resnet20", "0123" * 16),
        channels=3,
        dataset=DatasetInfo("cifar10", "train", 50_000, (3, 32, 32), "da7a" * 16),
        test=None,
        history=epochs,
        processes=1,
        provenance=ORIGIN,
    )
    (tmp_path / "training.json").write_text(record.to_json())
    (entry,) = make_page(collect([tmp_path])).entries
    assert entry.subtitle == f"50,000 images {words}"
    assert dict(entry.facts)["Fill"] == fill


def test_smoke_tests_and_what_was_not_run(table, tmp_path):
    html = shown(make_result(*table.rows, budget="smoke"), folder=tmp_path)
    assert "Caution. A smoke test" in html.text
    assert "1 result is a smoke test: such numbers mean nothing, and none of them is" in html.text
    assert "Attackers who do not know" not in html.text
    assert "Against the paper" not in html.text
    assert "No file here has a result of these experiments" in html.text
    assert "frontier" in html.text.partition("Not run No file")[2]
    assert "table4" not in html.text.partition("Not run No file")[2]


def test_equal_titles_get_their_data_sets(table, tmp_path):
    write(tmp_path / "a", table)
    write(tmp_path / "b", table)
    page = make_page(collect([tmp_path]))
    assert [entry.title for entry in page.entries] == [
        "Table 4: made (made), a/table4.json",
        "Table 4: made (made), b/table4.json",
    ]
    assert len({entry.key for entry in page.entries}) == 2
    contents = re.findall(r'href="#table4[^"]*">([^<]*)<', page.to_html())
    assert set(contents) == {entry.title for entry in page.entries}
    write(tmp_path / "a-", table)
    write(tmp_path / "a+", table)
    keys = [entry.key for entry in make_page(collect([tmp_path])).entries]
    assert len(set(keys)) == len(keys) == 4


def test_equal_titles_get_all_of_their_data_sets(table, tmp_path):
    """Neither the first alone, nor a path where they suffice; each section has its line on top."""
    other = dataclasses.replace(table.rows[0].dataset, name="other")
    more = [dataclasses.replace(row, dataset=other, section="other") for row in table.rows]
    write(tmp_path / "a", dataclasses.replace(table, rows=(*table.rows, *more)))
    write(tmp_path / "b", table)
    page = make_page(collect([tmp_path]))
    assert [entry.title for entry in page.entries] == [
        "Table 4: made (made, other)",
        "Table 4: made (made)",
    ]
    assert [line.head for line in page.summary.paper.lines] == [
        "Table 4: made (made, other): made",
        "Table 4: made (made, other): other",
        "Table 4: made (made)",
    ]


def test_equal_evaluations_are_told_apart_by_their_paths(made, tmp_path):
    report = (made / "evaluation" / "report.json").read_text(encoding="utf-8")
    for place in ("x", "x/y", "x/z/evaluation"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "report.json").write_text(report, encoding="utf-8")
    titles = [entry.title for entry in make_page(collect([tmp_path / "x"])).entries]
    title = "Evaluation of linear on digits, gray box"
    assert titles == [
        f"{title}, report.json",
        f"{title}, y/report.json",
        f"{title}, z/evaluation/report.json",
    ]


def test_results_come_in_the_order_of_the_paper(table, tmp_path):
    for name in ("adaptive", "frontier", "table4", "table3"):
        write(tmp_path, make_result(*table.rows, name=name, title=name))
    titles = [entry.title for entry in make_page(collect([tmp_path])).entries]
    assert titles == ["table3", "table4", "frontier", "adaptive"]


def test_committed_results_make_a_page(tmp_path):
    folders = [ROOT / "results", ROOT / "benchmarks" / "results"]
    if not all(folder.is_dir() for folder in folders):
        pytest.skip("a source distribution is without results")
    page = write_report(folders, tmp_path / "page.html")
    assert page.unread == ()
    assert len(page.entries) >= 7


def test_templates_are_installed():
    folder = resources.files("splic_ext.report") / "templates"
    assert {path.name for path in folder.iterdir()} == {
        "head.html",
        "lesson.html",
        "page.html",
        "parts.html",
        "style.css",
    }


def test_without_jinja(run_python):
    code = """
import sys
sys.modules["jinja2"] = None
from splic_ext import MissingExtraError
from splic_ext.report import Collection, make_page
try:
    make_page(Collection()).to_html()
except MissingExtraError as error:
    print(error.extra, "jinja2" in str(error))
"""
    assert run_python(code) == "report True"
