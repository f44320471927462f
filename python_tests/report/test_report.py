"""One page of all results: what is shown, and that it needs nothing else."""

from __future__ import annotations

import dataclasses
import json
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
from splic_ext.experiments import Gallery, Point
from splic_ext.report import collect, make_page, write_report
from splic_ext.report.figures import curve_points, family_points, show_gallery
from splic_ext.report.svg import diagram_svg
from splic_ext.report.views import percent_cell, row_table
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


def test_summary_of_unknown_defences(table, tmp_path):
    """The hardest attack; the paper's SPLIC, the best, and the best as accurate on clean images."""
    summary = make_page(collect([write(tmp_path, table)])).summary
    (card,) = summary.unknown
    assert card.table.header == ("defence", "clean", "PGD")
    assert [(line.head, *(cell.text for cell in line.cells)) for line in card.table.lines] == [
        ("no defence", "90.0", "10.0"),
        ("SPLIC", "60.0", "31.0"),
        ("SPLIC, more", "65.0", "45.0"),
        ("blur", "70.0", "40.0"),
    ]
    assert [line.marked for line in card.table.lines] == [False, False, True, False]
    assert summary.counts == (1, 0, 4)
    assert summary.known == ()
    assert summary.limits[0].startswith("Robustness. Nobody who attacks here knows the defence")
    assert any("100 images alone, and intervals reach up to 10 points" in t for t in summary.limits)
    assert any("experiments have no result here" in text for text in summary.limits)


@pytest.mark.parametrize(("clean", "is_rival"), [(0.642, True), (0.638, False)])
def test_summary_of_equals(table, tmp_path, clean, is_rival):
    """A point of clean accuracy less is no less."""
    rows = [
        dataclasses.replace(row, mean=dataclasses.replace(row.mean, value=clean))
        if (row.method, row.attack) == ("blur", "clean")
        else row
        for row in table.rows
    ]
    (card,) = make_page(collect([write(tmp_path, make_result(*rows))])).summary.unknown
    assert (card.table.lines[-1].head == "blur") == is_rival


def test_summary_without_a_rival(table, tmp_path):
    rows = [row for row in table.rows if row.method != "blur"]
    (card,) = make_page(collect([write(tmp_path, make_result(*rows))])).summary.unknown
    assert card.table.lines[-1].head == "No other defence is as accurate on clean images."
    assert card.table.lines[-1].cells == ()


def test_summary_of_known_defences(tmp_path):
    """The lowest of the worst, beside the clean images of its section."""
    rows = []
    for section, clean, worst in (("gradients", 60, 20), ("steps", 58, 15)):
        more = {"section": section, "scenario": "white"}
        rows += [
            make_row(right=clean, **more),
            make_row(attack="worst of them", right=worst, **more),
        ]
    rows.append(make_row(attack="identity", right=1, section="masks held still", scenario="white"))
    result = make_result(*rows, name="adaptive", title="Adaptive attacks on splic")
    page = make_page(collect([write(tmp_path, result)]))
    (card,) = page.summary.known
    assert [cell.text for cell in card.table.lines[0].cells] == ["58.0", "15.0"]
    assert page.summary.limits[0].startswith("Robustness. An attack that fails proves nothing")
    text = read(page.to_html()).text
    assert "Must be near 0 %: otherwise the attack is broken" in text
    assert "Masks held still" in text


def test_summary_beside_the_attack_of_the_paper(table, tmp_path):
    rows = []
    for method, paper in (("SPLIC", 68.5), ("blur", None)):
        rows.append(make_row(method, right=80))
        for attack, right in (("BPDA", 30), ("through it", 12), ("worst of them", 10)):
            printed = paper if attack == "BPDA" else None
            rows.append(make_row(method, attack, right, scenario="white", paper=printed))
    result = make_result(*rows, name="table2", title="Table 2")
    (card,) = make_page(collect([write(tmp_path, result)])).summary.known
    assert card.table.header == ("defence", "clean", "the paper's attack", "worst attack")
    assert [(c.text, c.paper) for c in card.table.lines[0].cells] == [
        ("80.0", None), ("30.0", 68.5), ("10.0", None)
    ]  # fmt: skip
    assert [cell.text for cell in card.table.lines[1].cells] == ["80.0", "30.0", "10.0"]
    shown = row_table(result.rows)
    assert shown.header == ("method", "clean", "BPDA", "exact", "worst of them"), "titles, not keys"


def test_summary_leaves_out_what_differs_in_more_than_the_defence(table, tmp_path):
    """Hypotheses; and a surrogate, which is attacked itself."""
    rows = (*table.rows, *(
        make_row("the surrogate", a, r, defense="Identity()", scenario="white")
        for a, r in (("clean", 95), ("PGD", 0))
    ))  # fmt: skip
    black = [row for row in rows if row.scenario == "gray"]
    summaries = [
        make_page(collect([write(tmp_path / name, make_result(*some, name=name))])).summary
        for name, some in (("table1", rows), ("table4", black), ("hypotheses", rows))
    ]
    assert [card.table for card in summaries[0].unknown] == [c.table for c in summaries[1].unknown]
    assert len(summaries[1].unknown) == 1
    assert summaries[2].unknown == ()


def test_methods_down_or_attacks_down(table):
    wide = row_table(table.rows)
    assert wide.header == ("method", "clean", "FGSM", "PGD")
    assert [line.head for line in wide.lines][:2] == ["no defence", "SPLIC"]
    assert [cell.text for cell in wide.lines[2].cells] == ["65.0", "", "45.0"], "no row, no number"
    narrow = row_table([row for row in table.rows if row.method == "SPLIC"])
    assert narrow.header == ("attack", "one draw", "every draw", "vote")
    assert narrow.caption.startswith("SPLIC: 100 images of made")
    fewer = row_table([make_row(), make_row("blur", "CW", n=20)])
    assert fewer.caption.endswith("gray box; CW: the first 20")


@pytest.mark.parametrize(
    ("paper", "verdict", "words"),
    [
        (41.0, "within", "agrees"),
        (40.0, "within", "agrees"),
        (39.9, "below", "ours 10.1 higher"),
        (60.1, "above", "ours 10.1 lower"),
    ],
)
def test_the_paper_beside_ours(paper, verdict, words):
    cell = percent_cell(make_row(right=50).mean, paper=paper)
    assert (cell.verdict.value, cell.verdict_text) == (verdict, words)


def test_curves_follow_from_rows():
    """Where the attacks differ in one number alone, the clean images at a radius of 0."""

    def attacked(name, **values):
        return make_row(attack=name, parameters=json.dumps({"name": "x", "threat": values}))

    radius = [attacked(f"{e}/255", epsilon=e / 255, steps=5) for e in (4, 8, 16)]
    points = curve_points([make_row(right=80), *radius])
    assert sorted(point.x for point in points) == pytest.approx([0, 4, 8, 16])
    assert {point.x_name for point in points} == {"radius, times 255"}
    assert next(point.y for point in points if point.x == 0) == 80
    worst = [
        make_row(attack=f"{e}/255", parameters=json.dumps({"name": "worst-case", "attacks": [
            {"name": "x", "gradient": g, "epsilon": e / 255, "step_size": e / 255 / 8}
            for g in ("identity", "exact")
        ]}))
        for e in (2, 8, 32)
    ]  # fmt: skip
    assert sorted(point.x for point in curve_points([make_row(), *worst])) == [0, 2, 8, 32]
    draws = [make_row(attack=f"{n}", parameters=json.dumps({"eot": n})) for n in (1, 4, 10)]
    assert [point.x for point in curve_points([make_row(), *draws])] == [1, 4, 10]
    assert curve_points([*radius, attacked("more", epsilon=8 / 255, steps=9)]) == ()
    assert curve_points(radius[:2]) == ()
    assert curve_points([*radius, make_row("another")]) == ()
    assert curve_points([make_row()]) == ()


def test_strengths_of_a_method_are_a_family():
    rows = []
    for i, weight in enumerate((0.05, 0.07, 0.1)):
        rows += [make_row(f"tv, {weight}", right=80 - i), make_row(f"tv, {weight}", "PGD", 30 + i)]
    rows += [make_row("SPLIC, lambda 0.02, then tv, 0.03", right=70)]
    rows += [make_row("SPLIC, lambda 0.02, then tv, 0.03", "PGD", 50)]
    points = family_points(rows)
    assert [(p.series, p.x, p.y) for p in points if p.series == "tv"] == [
        ("tv", 80, 30), ("tv", 79, 31), ("tv", 78, 32)
    ]  # fmt: skip
    assert {point.series for point in points} == {"tv", "SPLIC, then tv"}
    assert {point.y_name for point in points} == {"accuracy under PGD (%)"}
    assert family_points(rows[:4]) == ()


def test_diagrams_stand_beside_each_other(table, tmp_path):
    """Those of sections that have nothing else."""
    points = tuple(
        Point(section, "a", "x", x, "y", x)
        for section in ("one", "two", "made")
        for x in (1.0, 2.0)
    )
    result = make_result(make_row(), make_row("blur"), points=points)
    (entry,) = make_page(collect([write(tmp_path, result)])).entries
    assert [block.title for block in entry.blocks] == ["made", ""]
    assert [diagram.title for diagram in entry.blocks[1].diagrams] == ["one", "two"]
    assert [diagram.title for diagram in entry.blocks[0].diagrams] == [""]


def test_diagrams_take_the_colours_of_the_page():
    points = [Point("s", name, "x", x, "y", x, 0.0, 5.0) for name in "ab" for x in (1.0, 2.0)]
    svg = diagram_svg(points)
    assert "var(--plot-0)" in svg
    assert "var(--plot-1)" in svg
    assert not re.search(r"#[0-9a-f]{6}\b", svg), "a colour of its own"
    assert "font-family" not in svg
    names = re.findall(r'\bid="([^"]+)"', svg)
    others = re.findall(r'\bid="([^"]+)"', diagram_svg(points[:2]))
    assert names
    assert not set(names) & set(others), "two diagrams share a name"
    assert diagram_svg(points) == svg


def test_names_are_no_markup_and_no_formulas(tmp_path):
    """In tables, titles, captions, addresses and diagrams."""
    evil = '<script>alert("1")</script> & $x_{$ \x01 \ud800'
    rows = [make_row(evil + str(i), a, section=evil) for i in (1, 2) for a in ("clean", evil)]
    points = [Point(evil, evil, evil, x, evil, x) for x in (1.0, 2.0)]
    result = make_result(
        *rows, name=evil, title=evil, notes=(evil,), points=tuple(points[:0]), budget=evil
    )
    other = make_result(name="x", title="x", points=tuple(
        Point(*(evil[:-1] for _ in range(3)), x, evil[:-1], x) for x in (1.0, 2.0)
    ))  # fmt: skip
    write(tmp_path / "in", result, "0")
    write(tmp_path / "in", other, "1")
    page = write_report([tmp_path / "in"], tmp_path / "page.html")
    assert page.unread == ()
    assert len(page.entries) == 2
    reader = read((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert not reader.all("script")
    assert '<script>alert("1")</script> & $x_{$' in reader.text
    assert points


def test_galleries(made):
    (gallery,) = collect([made]).results[0].content.galleries
    grid = show_gallery(gallery)
    assert (len(grid.pictures), len(grid.pictures[0]), grid.judged) == (4, 3, 12)
    assert grid.right == sum(right for line in gallery.right for right in line)
    assert grid.pictures[0][0].source.startswith("data:image/png;base64,iVBOR")
    text = read(make_page(collect([made])).to_html()).text
    assert f"{grid.right} of 12 right" in text
    assert text.count("✓ right") == grid.right
    assert text.count("✗ wrong") == 12 - grid.right


@pytest.mark.parametrize("image", ["AAAA", "no base64!", '" onerror="x'])
def test_pictures_that_are_none(image, table, tmp_path):
    """The file is told of, and the others are shown."""
    gallery = Gallery("s", "A title", ("r",), ("c",), ((image,),), (("x",),), ((None,),))
    write(tmp_path, table, "a")
    write(tmp_path, make_result(galleries=(gallery,), name="b"), "b")
    page = make_page(collect([tmp_path]))
    (file,) = page.unread
    assert file.path.endswith("b.json")
    assert "image in row 1, column 1 of the gallery 'A title' is no PNG file" in file.reason
    assert len(page.entries) == 1
    none = Gallery("s", "t", ("r",), ("c",), (("",),), (("",),), ((None,),))
    assert show_gallery(none).pictures[0][0].source == ""


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


@pytest.mark.parametrize(("left", "kept"), [(79, True), (80, True), (81, False), (89, False)])
def test_attacks_that_fail_are_not_in_the_summary(left, kept, tmp_path):
    """They leave the bare network as it is, and say nothing of a defence beside it."""
    rows = []
    for section, changes in (("gray", {}), ("white", {"scenario": "white"})):
        attack = "worst of them" if changes else "PGD"
        for method, after in (("no defence", left), ("SPLIC", 40)):
            rows.append(make_row(method, right=90, section=section, **changes))
            rows.append(make_row(method, attack, after, section=section, **changes))
    summary = make_page(collect([write(tmp_path, make_result(*rows))])).summary
    assert (bool(summary.known), bool(summary.unknown)) == (kept, kept)
    told = [text for text in summary.limits if text.startswith("Attacks that fail. ")]
    assert bool(told) != kept
    assert all(text.endswith("are not above: A table.") for text in told)
