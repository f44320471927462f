"""One page of all results: what is found, what is shown, what is refused."""

from __future__ import annotations

import errno
import json
import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest
from report_tools import (
    benchmarks,
    digits,
    make_result,
    make_row,
    search,
    write,
)

from splic_ext.evaluation import EvaluationReport
from splic_ext.experiments import ExperimentResult, Gallery, Point
from splic_ext.report import collect, make_page, write_report
from splic_ext.report.figures import curve_points, family_points, show_gallery
from splic_ext.report.svg import diagram_svg
from splic_ext.report.views import percent_cell, row_table

ROOT = Path(__file__).resolve().parent.parent


class Reader(HTMLParser):
    """Notes tags with their attributes, the names and links, and the visible text."""

    VOID = ("meta", "link", "img")

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.texts = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open[-1:]:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open, "tags that do not end"
    return reader


def shown(*results, folder=None, **files):
    """The page of results, read."""
    for i, result in enumerate(results):
        write(folder, result, f"{i}")
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values), encoding="utf-8")
    return read(make_page(collect([folder])).to_html())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    digits(folder)
    return folder


@pytest.fixture
def table():
    return make_result(
        make_row("no defence", right=90),
        make_row("no defence", "FGSM", 20),
        make_row("no defence", "PGD", 10),
        make_row("SPLIC", right=60, paper=95.9),
        make_row("SPLIC", "FGSM", 41, paper=40.0, draws=3),
        make_row("SPLIC", "PGD", 31, paper=63.6),
        make_row("SPLIC, more", right=65, paper=95.9),
        make_row("SPLIC, more", "PGD", 45, paper=63.6),
        make_row("blur", right=70),
        make_row("blur", "PGD", 40),
        make_row("strong blur", right=50),
        make_row("strong blur", "PGD", 49),
        title="Table 4: made",
        notes=("seed 0",),
    )


# Files


def test_all_kinds_are_told_apart(made, tmp_path):
    found = collect([made])
    assert [Path(source.path).name for source in found.results] == ["figure8.json"]
    assert [Path(source.path).parent.name for source in found.evaluations] == ["evaluation"]
    assert (len(found.benchmarks), len(found.searches), len(found)) == (1, 1, 4)
    assert found.unread == ()
    assert isinstance(found.results[0].content, ExperimentResult)
    assert isinstance(found.evaluations[0].content, EvaluationReport)


def test_what_is_passed_over(table, tmp_path):
    """Finished parts, hidden files, schemas, other suffixes; and what is reached twice."""
    path = write(tmp_path / "b", table)
    for place in ("b/work/networks", "parts", ".hidden"):
        write(tmp_path / place, table)
    write(tmp_path, table, ".table")
    (tmp_path / "schema.json").write_text('{"$schema": "x", "type": "object"}')
    (tmp_path / "notes.txt").write_text("none")
    found = collect([tmp_path, path, tmp_path / "b"])
    assert [source.path for source in found.results] == [path.as_posix()]
    assert found.unread == ()
    named = collect([tmp_path / "schema.json", tmp_path / "parts"])
    assert [file.reason for file in named.unread] == ["it holds no result of splic_ext"]
    assert len(named) == 1, "a folder that is named is read, whatever its name"


def test_files_that_cannot_be_used(table, tmp_path, made):
    """Each with its reason; the others are shown."""
    write(tmp_path, table)
    text = table.to_json()
    old = text.replace('"schema_version": 2', '"schema_version": 99')
    report = json.loads((made / "evaluation" / "report.json").read_text())
    files = {
        "a.json": (text[:-40], "it is damaged, or no JSON: "),
        "b.json": ("[1, 2]", "it holds no result of splic_ext"),
        "c.json": (old, "must have the schema version 2, got 99"),
        "d.json": (text.replace('"draws": 1,', "", 1), "missing draws, unknown none"),
        "e.json": ("[" * 100_000, "nested too deeply"),
        "f.json": (json.dumps(benchmarks(results=[{}])), r"`benchmarks.results\[0\]` must have"),
        "g.json": (json.dumps(search(round_2=3)), "`search.round_2` must be a list, got 3"),
        "h.json": (json.dumps(report | {"records": []}), "it has no records"),
        "i.json": ("", "it is damaged, or no JSON: "),
    }
    for name, (content, _) in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "j.json").write_bytes(b"\xff\xfe{}")
    (tmp_path / "k.json").symlink_to(tmp_path / "gone")
    page = make_page(collect([tmp_path]))
    reasons = {Path(file.path).name: file.reason for file in page.unread}
    assert len(reasons) == 11
    for name, (_, reason) in files.items():
        assert re.search(reason, reasons[name]), reasons[name]
    assert reasons["j.json"] == "it is no text in UTF-8"
    assert reasons["k.json"] == "No such file or directory"
    assert [entry.title for entry in page.entries] == ["Table 4: made"]
    html = read(page.to_html())
    assert "Files that could not be used" in html.text
    assert all(name in html.text for name in reasons)
    assert "11 files could not be used" in html.text


def test_what_is_refused(table, tmp_path, monkeypatch):
    path = write(tmp_path, table)
    out = tmp_path / "page.html"
    with pytest.raises(TypeError, match="`paths` must be a list, got '.*'; put a single one"):
        write_report(str(path), out)
    with pytest.raises(FileNotFoundError, match="the path '.*none' does not exist; check"):
        write_report([path, tmp_path / "none"], out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"must hold a result at least; make one .*reproduce`$"):
        write_report([tmp_path / "empty"], out)
    (tmp_path / "empty" / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match=r"reproduce`; '.*bad.json': it holds no result of spl"):
        write_report([tmp_path / "empty"], out)
    with pytest.raises(ValueError, match="`output` must be a file, got the folder"):
        write_report([path], tmp_path / "empty")
    with pytest.raises(OSError, match="the page cannot be written to '.*json/page.html': "):
        write_report([path], path / "page.html")
    assert not out.exists()


def test_the_page_appears_at_once_and_replaces_nothing_unasked(table, tmp_path, monkeypatch):
    path, out = write(tmp_path / "in", table), tmp_path / "deep" / "page.html"
    write_report([path], out)
    first = out.read_bytes()
    with pytest.raises(FileExistsError, match=r"page.html' exists; give --overwrite"):
        write_report([path], out)
    write_report([path], out, overwrite=True, title="Another")
    second = out.read_bytes()
    assert first != second

    def fill_up(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    with pytest.raises(OSError, match="cannot be written to '.*page.html': No space left on devi"):
        write_report([path], out, overwrite=True)
    assert out.read_bytes() == second
    assert [file.name for file in out.parent.iterdir()] == ["page.html"]


def test_the_same_files_give_the_same_page(made, tmp_path):
    pages = [write_report([made], tmp_path / name) for name in ("a.html", "b.html")]
    assert pages[0] == pages[1]
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


# What is shown


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
    assert "41.0 31.0–51.0 paper 40.0, agrees every draw 41.0" in text
    assert "31.0 21.0–41.0 paper 63.6, ours 32.6 lower" in text
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
        rows += [make_row(right=clean, **more), make_row(attack="worst of them", right=worst, **more)]
    rows.append(make_row(attack="identity", right=1, section="masks held still", scenario="white"))
    result = make_result(*rows, name="adaptive", title="Adaptive attacks on splic")
    page = make_page(collect([write(tmp_path, result)]))
    (card,) = page.summary.known
    assert [cell.text for cell in card.table.lines[0].cells] == ["58.0", "15.0"]
    assert page.summary.limits[0].startswith("Robustness. An attack that fails proves nothing")
    text = read(page.to_html()).text
    assert "Must be near 0 %: otherwise the attack is broken" in text
    assert "Masks held still" in text


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
        (39.9, "below ours", "ours 10.1 higher"),
        (60.1, "above ours", "ours 10.1 lower"),
    ],
)
def test_the_paper_beside_ours(paper, verdict, words):
    cell = percent_cell(make_row(right=50).mean, paper=paper)
    assert (cell.verdict, cell.verdict_text) == (verdict, words)


def test_curves_follow_from_rows():
    """Where the attacks differ in one number alone, the clean images at a radius of 0."""

    def attacked(name, **values):
        return make_row(attack=name, parameters=json.dumps({"name": "x", "threat": values}))

    radius = [attacked(f"{e}/255", epsilon=e / 255, steps=5) for e in (4, 8, 16)]
    points = curve_points([make_row(right=80), *radius])
    assert sorted(point.x for point in points) == pytest.approx([0, 4, 8, 16])
    assert {point.x_name for point in points} == {"radius, times 255"}
    assert next(point.y for point in points if point.x == 0) == 80
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
    assert "68.0 63.0–73.0" in page.text
    assert "tv_weight=0.1" in page.text
    assert "preset paper" in page.text


def test_smoke_tests_and_what_was_not_run(table, tmp_path):
    html = shown(make_result(*table.rows, budget="smoke"), folder=tmp_path)
    assert "Caution. A smoke test" in html.text
    assert "No file here has a result of these experiments" in html.text
    assert "frontier" in html.text.partition("Not run No file")[2]
    assert "table4" not in html.text.partition("Not run No file")[2]


def test_equal_titles_get_their_data_sets(table, tmp_path):
    write(tmp_path / "a", table)
    write(tmp_path / "b", table)
    page = make_page(collect([tmp_path]))
    assert [entry.title for entry in page.entries] == ["Table 4: made (made)"] * 2
    assert len({entry.key for entry in page.entries}) == 2
    write(tmp_path / "a-", table)
    write(tmp_path / "a+", table)
    keys = [entry.key for entry in make_page(collect([tmp_path])).entries]
    assert len(set(keys)) == len(keys) == 4


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
    assert {path.name for path in folder.iterdir()} == {"page.html", "parts.html", "style.css"}


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
