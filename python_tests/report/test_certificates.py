"""Certificates on the page: tables, curves, pictures, the summary, damaged files."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.report import read, table, write
from PIL import Image

pytest.importorskip("scipy", reason="scipy is not installed")

from helpers.ablation import fit_ablated
from helpers.evaluation import fit_digits

from splic_ext.certify import (
    CertificateReport,
    Examples,
    evaluate_patches,
    evaluate_pixels,
)
from splic_ext.data import load_dataset
from splic_ext.report import collect, make_page, write_report

__all__ = ["table"]  # a fixture


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """Real certificates of digits."""
    folder, digits = tmp_path_factory.mktemp("certified"), load_dataset("digits", limit=20)
    options = {"progress": False, "model_name": "linear", "command": "splic-ext certify --it"}
    evaluate_patches(
        fit_digits(), digits, fills=["gray:value=0", "mean"], patch=[1, 2], masks=4,
        output=folder / "a", **options,
    )  # fmt: skip
    evaluate_pixels(
        fit_ablated(encoding="mean", classes=10), digits, kept=[8, 0.12],
        encodings=["mean", "gray"], draws=100, output=folder / "b", **options,
    )  # fmt: skip
    return folder


@pytest.fixture
def own(certified, tmp_path):
    return Path(shutil.copytree(certified, tmp_path / "in"))


def texts(line):
    return [cell.text for cell in line.cells]


def percent(accuracy):
    return f"{100 * accuracy.value:.1f}"


def test_patches(certified):
    report = CertificateReport.load(certified / "a" / "certificates.json")
    page = make_page(collect([certified / "a"]))
    (entry,) = page.entries
    assert page.title == entry.title == "Patch certificates of linear on digits"
    plain = 100 * report.records[0].plain_accuracy.value
    assert entry.subtitle == f"20 images; {plain:.1f} % right without masks"
    accuracy, pictures = entry.blocks
    (found,) = accuracy.tables
    for line, record in zip(found.lines, report.records, strict=True):
        assert line.head == f"{record.patch}, {record.fill}"
        assert texts(line)[:2] == [
            percent(record.clean_accuracy), percent(record.certified_accuracy),
        ]  # fmt: skip
        assert line.cells[1].low == pytest.approx(100 * record.certified_accuracy.low)
    best = [line.head.partition(",")[0] for line in found.lines if line.marked]
    assert best == ["1", "2"]
    (diagram,) = accuracy.diagrams
    assert "certified accuracy (%) over side of the patch (pixels): gray:value=0; mean" in (
        diagram.text
    )
    assert len(diagram.table.lines) == 4
    assert "[" in diagram.table.lines[0].cells[1].text, "without its interval"
    assert len(pictures.grids) == 2
    text = read(page.to_html()).text
    for words in (
        "Certified: no attack of the kind can change it", "splic-ext certify --it",
        "A patch of 1 x 1 pixels", "A patch of 2 x 2 pixels", "Mean()", "16 of 2x2",
        "Certificates. They hold against patches of these sizes",
        "Some numbers are of 20 images alone",
    ):  # fmt: skip
        assert words in text


def test_pictures_are_those_of_the_run(certified):
    """What was hidden has a colour, what was filled stands beside it, with what was decided."""
    examples = Examples.load(certified / "a" / "examples.npz")
    report = CertificateReport.load(certified / "a" / "certificates.json")
    (entry,) = make_page(collect([certified / "a"])).entries
    grid = entry.blocks[1].grids[1]
    assert grid.rows == ("whole", "gray:value=0", "mean")
    assert grid.columns[:2] == (f"image {examples.index[0]}", "filled")
    assert grid.judged == 6
    assert grid.right == int((examples.decided[2:] == examples.labels).sum())
    for r, row in zip((2, 3), grid.pictures[1:], strict=True):
        for i, place in enumerate(examples.index.tolist()):
            hidden, filled = row[2 * i], row[2 * i + 1]
            pixels = decoded(hidden.source)[::12, ::12]
            blue = (pixels == (86, 180, 233)).all(axis=2)
            assert np.array_equal(blue, ~examples.visible[r, i])
            assert np.array_equal(pixels[~blue][:, 0], examples.images[i, 0][~blue])
            assert np.array_equal(decoded(filled.source)[::12, ::12], examples.filled[r, i, 0])
            sure = report.records[r].certified[place]
            decided = examples.decided[r, i]
            assert filled.caption == f"{decided}, {'certified' if sure else 'not certified'}"
            assert filled.right == (decided == examples.labels[i])
            assert "mask" in hidden.caption


def decoded(source):
    content = base64.b64decode(source.partition("base64,")[2])
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture)


def test_pixels(certified):
    found = collect([certified / "b"]).pixels[0].content
    page = make_page(collect([certified / "b"]))
    (entry,) = page.entries
    assert entry.title == "Pixel certificates of linear on digits"
    assert entry.subtitle.startswith("20 images; 100 + 100 draws, seed 0; each certificate is wr")
    (shown,) = entry.blocks[0].tables
    assert shown.header[:4] == ("kept, encoding", "abstained", "clean", "1 pixel")
    assert [line.head for line in shown.lines] == [
        "8 pixels, mean", "8 pixels, gray", "0.12, mean", "0.12, gray",
    ]  # fmt: skip
    for line, report in zip(shown.lines, found.reports, strict=True):
        assert texts(line)[0] == percent(report.abstained)
        assert texts(line)[1:4] == [percent(report.certified_accuracy(r)) for r in (0, 1, 2)]
    assert [diagram.title for diagram in entry.blocks[1].diagrams] == ["8 pixels kept", "0.12 kept"]
    assert "over pixels changed: mean; gray" in entry.blocks[1].diagrams[0].text
    assert sum(line.marked for line in shown.lines) == 2


def test_the_summary_has_the_best(certified, table, tmp_path):
    write(tmp_path, table)
    page = make_page(collect([certified, tmp_path]))
    assert [group.key for group in page.groups] == [
        "group-experiments", "group-certified-against-patches",
        "group-certified-against-changed-pixels",
    ]  # fmt: skip
    patches, pixels = page.summary.proved
    records = CertificateReport.load(certified / "a" / "certificates.json").records
    for line, size in zip(patches.table.lines, ("1", "2"), strict=True):
        best = max(r.certified_accuracy.value for r in records if r.patch == size)
        assert texts(line)[1] == f"{100 * best:.1f}"
    assert pixels.table.header == ("kept, best encoding", "clean", "1 pixel", "3 pixels")
    assert [line.head for line in pixels.table.lines] == ["8 pixels, mean", "0.12, mean"]
    html = page.to_html()
    assert f'<a href="#{patches.key}">' in html
    assert not re.search(r'<(script|link rel="style)|src="(?!data:)', html)


def test_one_size_has_no_curve_and_shapes_have_bars(tmp_path):
    digits = load_dataset("digits", limit=4)
    options = {"fills": ["gray"], "masks": 3, "progress": False}
    evaluate_patches(fit_digits(), digits, patch=2, output=tmp_path / "a", **options)
    evaluate_patches(fit_digits(), digits, patch=["1x2,2x1", "2"], output=tmp_path / "b", **options)
    one, two = make_page(collect([tmp_path])).entries
    assert one.title.endswith("on digits, a/certificates.json")
    assert one.blocks[0].diagrams == ()
    (bars,) = two.blocks[0].diagrams
    assert [line.cells[0].text for line in bars.table.lines] == ["1x2,2x1", "2"]
    assert two.blocks[1].grids[0].title == "A patch of 1 x 2 or 2 x 1 pixels"


def damaged(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("a/certificates.json", lambda v: v["records"][0]["plain"].pop(), "a value for each of"),
        (
            "a/certificates.json",
            lambda v: v.update(schema_version=9),
            "the schema version 1, got 9",
        ),
        ("a/certificates.json", lambda v: v.update(records=[]), "with a record at least"),
        ("b/pixels.json", lambda v: v["reports"][0].update(alpha=7.0), "`alpha` must be"),
        ("b/pixels.json", lambda v: v["reports"][0]["records"].pop(), "must have reports of one"),
        ("b/pixels.json", lambda v: v["reports"][0].pop("kept"), "missing kept"),
    ],
)
def test_damaged_reports_are_named(own, name, change, reason):
    damaged(own / name, change)
    page = write_report([own], own / "page.html")
    (file,) = page.unread
    assert file.path.endswith(name)
    assert reason in file.reason
    assert len(page.entries) == 1


def test_damaged_pictures_are_named_and_the_table_is_shown(own):
    path = own / "a" / "examples.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    page = make_page(collect([own / "a"]))
    assert page.unread[0].path.endswith("examples.npz")
    assert "cannot be used" in page.unread[0].reason
    assert [block.title for block in page.entries[0].blocks] == ["Certified accuracy"]
    path.write_bytes(whole)
    damaged(own / "a" / "certificates.json", lambda v: v.update(key="another"))
    page = make_page(collect([own / "a"]))
    assert page.unread[0].reason == ("its pictures are not of the report beside it; certify again")
    path.unlink()
    page = make_page(collect([own / "a"]))
    assert page.unread == ()
    assert len(page.entries[0].blocks) == 1


def test_names_are_no_markup(own):
    evil = '<script>alert("1")</script> $x_{$'

    def change(values):
        for record in values["records"]:
            record["fill"] += evil
            record["model"]["name"] = evil

    damaged(own / "a" / "certificates.json", change)
    reader = read(make_page(collect([own / "a"])).to_html())
    assert not reader.all("script")
    assert 'alert("1")' in reader.text
