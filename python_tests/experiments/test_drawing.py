"""Figures: what is drawn, on which axes, and that files are the same each time."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("matplotlib", reason="Matplotlib is not installed")

from splic_ext.errors import MissingExtraError
from splic_ext.experiments import Gallery, Point
from splic_ext.experiments.results.drawing import (
    diagrams,
    draw,
    draw_gallery,
    draw_points,
    render,
)
from splic_ext.experiments.results.rows import encode_picture


def curve(series, values, *, section="s", x_name="rank", y_name="accuracy (%)", **more):
    return [Point(section, series, x_name, x, y_name, y, **more) for x, y in values.items()]


def make_gallery(rows=2, columns=3):
    picture = encode_picture(np.full((3, 4, 4), 0.5))
    return Gallery(
        "s", "Pictures", tuple("ab"[:rows]), tuple("xyz"[:columns]),
        ((picture,) * columns,) * rows, (("cat 0.9",) * columns,) * rows,
        ((True, False, None)[:columns],) * rows,
    )  # fmt: skip


def axes_of(points):
    return draw_points(points).axes[0]


def test_diagrams_are_sections_and_axes():
    points = [
        *curve("a", {1: 2}),
        *curve("b", {1: 3}),
        *curve("a", {1: 2}, section="t"),
        *curve("a", {1: 2}, y_name="dB"),
    ]
    found = diagrams(points)
    assert list(found) == [
        ("s", "rank", "accuracy (%)"), ("t", "rank", "accuracy (%)"), ("s", "rank", "dB"),
    ]  # fmt: skip
    assert [len(part) for part in found.values()] == [2, 1, 1]


def test_curves_in_order_with_intervals_and_the_papers_numbers():
    points = curve("a", {32: 40.0, 4: 30.0}, low=20.0, high=50.0)
    points += curve("b", {4: 35.0}, paper=68.5)
    axes = axes_of(points)
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert lines["a"].get_xdata().tolist() == [4, 32]
    assert lines["a"].get_ydata().tolist() == [30, 40]
    assert lines["b, paper"].get_ydata().tolist() == [68.5]
    assert len(axes.collections) == 1, "one band, of the series with intervals"
    assert axes.get_ylim() == (0, 100)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["4", "32"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "b, paper"]


@pytest.mark.parametrize(
    ("xs", "ys", "scales"),
    [
        ((1, 2, 3), (1, 2, 3), ("linear", "linear")),
        ((1, 2, 3), (1e-4, 1, 3), ("linear", "log")),
        ((0.01, 0.1, 1), (1, 2, 3), ("log", "linear")),
        ((0, 0.01, 1), (1, 2, 3), ("symlog", "linear")),
        (tuple(range(1, 71)), (5,) * 70, ("linear", "linear")),
        ((1, 2, 3), (0, 1e-9, 3), ("linear", "linear")),
    ],
)
def test_scales(xs, ys, scales):
    axes = axes_of(curve("a", dict(zip(xs, ys, strict=True)), y_name="change"))
    assert (axes.get_xscale(), axes.get_yscale()) == scales


def test_bars_beside_each_other():
    points = [
        Point("s", series, "attack", x, "accuracy (%)", y, y - 5, y + 5, paper=90.0,
              label=label, kind="bar")
        for series in ("a", "b") for x, (label, y) in enumerate((("clean", 80.0), ("PGD", 10.0)))
    ]  # fmt: skip
    axes = axes_of(points)
    bars = sorted((bar.get_x(), bar.get_height()) for bar in axes.patches)
    assert [height for _, height in bars] == [80, 80, 10, 10]
    assert bars[0][0] + axes.patches[0].get_width() == pytest.approx(bars[1][0])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["clean", "PGD"]
    assert sum(text.get_text() == "paper" for text in axes.get_legend().get_texts()) == 1


def test_clouds_have_a_mark_for_each_class():
    points = [Point("s", str(c), "t-SNE 1", c, "t-SNE 2", c, kind="scatter") for c in range(10)]
    axes = axes_of(points)
    assert len(axes.collections) == 10
    assert len({tuple(part.get_facecolor()[0]) for part in axes.collections}) == 10
    assert len(axes.get_xticks()) == 0


def test_galleries_tell_right_from_wrong_in_words():
    figure = draw_gallery(make_gallery())
    texts = [axes.get_xlabel() for axes in figure.axes]
    assert texts == ["cat 0.9 (right)", "cat 0.9 (wrong)", "cat 0.9"] * 2
    assert [axes.get_title() for axes in figure.axes] == ["x", "y", "z", "", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == ["a", "", "", "b", "", ""]
    assert all(axes.images for axes in figure.axes)


def test_all_of_a_result():
    points = [*curve("a", {1: 2}), *curve("a", {1: 2}, section="t")]
    figure = draw("Of all " * 20, points, [make_gallery(), make_gallery(1, 2)])
    assert len(figure.axes) == 2 + 6 + 2
    assert "\n" in figure.get_suptitle()
    empty = draw("None", [], [])
    assert render(empty, "png")[1:4] == b"PNG"


def test_files_are_the_same_each_time():
    for form in ("png", "svg"):
        first, second = (
            render(draw("t", curve("a", {1: 2, 2: 3}), [make_gallery()]), form) for _ in range(2)
        )
        assert first == second
    root = ElementTree.fromstring(first)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert b"<dc:date>" not in first


def test_the_state_of_pyplot_is_not_touched(run_python):
    code = """
import sys
from splic_ext.experiments import Point
from splic_ext.experiments.results.drawing import draw, render
render(draw("t", [Point("s", "a", "x", 1.0, "y", 2.0)], []), "png")
print("matplotlib.pyplot" in sys.modules)
"""
    assert run_python(code) == "False"


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="report"):
        draw("t", curve("a", {1: 2}), [])
