"""What notebooks show of options and reports: HTML that parses, and runs nothing."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

import pytest

from splic_ext import SolverOptions
from splic_ext.common.notebook import html_table, markdown_of, markdown_to_html
from splic_ext.options import PRESETS

EVIL = "<script>alert('&')</script>"


def parse(shown):
    """The HTML of an object, which is well-formed."""
    html = shown if isinstance(shown, str) else shown._repr_html_()
    assert "<script" not in html
    return ElementTree.fromstring(f"<div>{html}</div>")


def text_of(node):
    return "".join(node.itertext())


def table_of(node):
    return [[text_of(cell) for cell in row] for row in node.iter("tr")]


def test_options_with_what_is_changed():
    page = parse(SolverOptions(tv_weight=0.5, start="image"))
    header, *rows = table_of(page)
    assert header == ["option", "value", "default"]
    assert [row[0] for row in rows] == [f.name for f in dataclasses.fields(SolverOptions)]
    shown = {name: (value, default) for name, value, default in rows}
    assert shown["tv_weight"] == ("0.5", "no: 0.02")
    assert shown["start"] == ("'image'", "no: 'zero'")
    assert shown["rank"] == ("None", "yes")
    assert sorted(text_of(bold) for bold in page.iter("b")) == ["'image'", "0.5"]
    assert text_of(page.find(".//caption")) == 'SolverOptions, nearest preset "paper"'


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_options_name_their_preset(name):
    caption = text_of(parse(SolverOptions.preset(name)).find(".//caption"))
    assert caption == f'SolverOptions, preset "{name}"'
    changed = SolverOptions.preset(name).replace(n_masks=7)
    caption = text_of(parse(changed).find(".//caption"))
    assert caption == f'SolverOptions, nearest preset "{name}"'


def test_tables_escape_and_align():
    page = parse(html_table([["a", "b"], [EVIL, "`x<y`"]], [False, True], EVIL))
    assert table_of(page) == [["a", "b"], [EVIL, "x<y"]]
    assert text_of(page.find(".//caption")) == EVIL
    assert [cell.get("style") for cell in page.iter("td")] == [None, "text-align: right"]


def test_markdown():
    text = (
        f"# T {EVIL}\n\nOne\ntwo **bold**\n\n![x](x.png)\n\n- a `b`\n- {EVIL}\n\n"
        f"| n | % |\n| --- | ---: |\n| x\\|y {EVIL} | 1 |\n|  | 2 |\n"
    )
    page = parse(markdown_to_html(text))
    assert [child.tag for child in page] == ["h3", "p", "ul", "table"]
    assert text_of(page.find("h3")) == f"T {EVIL}"
    assert [text_of(item) for item in page.iter("li")] == ["a b", EVIL]
    assert table_of(page) == [["n", "%"], [f"x|y {EVIL}", "1"], ["", "2"]]
    assert text_of(page.find(".//b")) == "bold"


def test_what_has_no_form_is_an_error():
    with pytest.raises(NotImplementedError):
        markdown_of(object())


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


def test_an_evaluation(torch):
    from helpers.evaluation import run

    from splic_ext.evaluation import to_markdown
    from splic_ext.evaluation.tables import HEADER, table_rows

    report = run()
    evil = dataclasses.replace(
        report,
        records=tuple(dataclasses.replace(r, defense=EVIL) for r in report.records),
        notes=(EVIL,),
    )
    for one in (report, evil):
        page = parse(one)
        assert table_of(page) == [list(row) for row in (HEADER, *table_rows(one))]
        assert text_of(page.find("p")) == to_markdown(one).split("\n")[0]
    assert text_of(page.find(".//li")) == EVIL


def test_an_experiment(torch):
    from helpers.results import make_result, make_row

    page = parse(make_result(make_row(), make_row(method=EVIL), title=EVIL))
    assert text_of(page.find("h3")) == EVIL
    assert EVIL in [row[0] for row in table_of(page)]


def test_certificates_of_patches(torch):
    from helpers.evaluation import make_dataset, make_network

    from splic_ext.certify import evaluate_patches
    from splic_ext.certify.tables import HEADER, table_rows

    report = evaluate_patches(
        make_network(), make_dataset(3), patch=2, masks=3, fills=["gray"], progress=False
    )
    page = parse(dataclasses.replace(report, notes=(EVIL,)))
    assert table_of(page)[:2] == [list(row) for row in (HEADER, *table_rows(report))]
    assert text_of(page.find(".//li")) == EVIL


def test_certificates_of_pixels(torch):
    pytest.importorskip("scipy", reason="SciPy is not installed")
    from helpers.ablation import brightness, certify

    from splic_ext.certify import evaluate_pixels
    from splic_ext.data import Dataset

    rows = table_of(parse(report := certify()))
    assert rows[0] == ["pixels changed", "certified accuracy"]
    assert len(rows) == 1 + report.largest_radius + 1

    images = torch.full((4, 1, 8, 8), 200, dtype=torch.uint8).numpy()
    digits = Dataset("<script>x", images, [0] * 4, ("dark", "bright"))
    found = evaluate_pixels(
        brightness(), digits, kept=6, encodings=["mean"], selection=10, draws=100, progress=False
    )
    page = parse(found)
    assert "<script>x" in text_of(page.find("p"))
    assert table_of(page)[1][:2] == [found.reports[0].plan.text, "mean"]
