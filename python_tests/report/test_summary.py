"""The summary of a page: which defences it puts beside each other, and what it leaves out."""

from __future__ import annotations

import dataclasses

import pytest
from helpers.report import make_result, make_row, read, table, write

from splic_ext.report import collect, make_page
from splic_ext.report.views import row_table

__all__ = ["table"]  # a fixture


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
