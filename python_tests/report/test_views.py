"""Tables, curves, diagrams and pictures of a page."""

from __future__ import annotations

import json
import re

import pytest
from helpers.report import made, make_result, make_row, read, table, write

from splic_ext.experiments import Gallery, Point
from splic_ext.report import collect, make_page, write_report
from splic_ext.report.figures import curve_points, family_points, show_gallery
from splic_ext.report.svg import diagram_svg
from splic_ext.report.views import percent_cell, row_table

__all__ = ["made", "table"]  # fixtures


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
