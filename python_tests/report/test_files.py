"""Files of results: what is found and read, what is refused, what is written."""

from __future__ import annotations

import errno
import json
import pickle
import re
from pathlib import Path

import pytest
from helpers.report import benchmarks, made, read, search, table, write

from splic_ext.evaluation import EvaluationReport
from splic_ext.experiments import ExperimentResult
from splic_ext.report import NoResultError, collect, make_page, write_report

__all__ = ["made", "table"]  # fixtures


def test_all_kinds_are_told_apart(made, tmp_path):
    found = collect([made])
    assert [Path(source.path).name for source in found.results] == ["figure8.json"]
    assert [Path(source.path).parent.name for source in found.evaluations] == ["evaluation"]
    assert (len(found.benchmarks), len(found.searches), len(found)) == (1, 1, 4)
    assert found.unread == ()
    assert isinstance(found.results[0].content, ExperimentResult)
    assert isinstance(found.evaluations[0].content, EvaluationReport)


def test_what_is_passed_over(table, tmp_path):
    """Finished parts, hidden files, schemas, cached copies, and what is reached twice."""
    path = write(tmp_path / "b", table)
    for place in ("b/work/networks", "parts", ".hidden"):
        write(tmp_path / place, table)
    write(tmp_path, table, ".table")
    (tmp_path / "schema.json").write_text('{"$schema": "x", "type": "object"}')
    for suffix in ("npy", "json"):
        (tmp_path / f"copy.{suffix}").write_text("{}")
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
    old = text.replace('"schema_version": 3', '"schema_version": 99')
    report = json.loads((made / "evaluation" / "report.json").read_text())
    files = {
        "a.json": (text[:-40], "it is damaged, or no JSON: "),
        "b.json": ("[1, 2]", "it holds no result of splic_ext"),
        "c.json": (old, "must have the schema version 3, got 99"),
        "d.json": (text.replace('"draws": 1,', "", 1), "missing draws, unknown none"),
        "e.json": ("[" * 100_000, "nested too deeply"),
        "f.json": (json.dumps(benchmarks(results=[{}])), r"`benchmarks.results\[0\]` must have"),
        "g.json": (json.dumps(search(round_2=3)), "`search.round_2` must be a list, got 3"),
        "h.json": (json.dumps(report | {"records": []}), "it has no records"),
        "l.json": (text.replace('"value": 0.41', '"value": 5.0', 1), "an accuracy must be in"),
        "i.json": ("", "it is damaged, or no JSON: "),
    }
    for name, (content, _) in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "j.json").write_bytes(b"\xff\xfe{}")
    (tmp_path / "k.json").symlink_to(tmp_path / "gone")
    page = make_page(collect([tmp_path]))
    reasons = {Path(file.path).name: file.reason for file in page.unread}
    assert len(reasons) == 12
    for name, (_, reason) in files.items():
        assert re.search(reason, reasons[name]), reasons[name]
    assert reasons["j.json"] == "it is no text in UTF-8"
    assert reasons["k.json"] == "No such file or directory"
    assert [entry.title for entry in page.entries] == ["Table 4: made"]
    html = read(page.to_html())
    assert "Files that could not be used" in html.text
    assert all(name in html.text for name in reasons)
    assert "12 files could not be used" in html.text


def test_what_is_refused(table, tmp_path, monkeypatch):
    path = write(tmp_path, table)
    out = tmp_path / "page.html"
    with pytest.raises(TypeError, match=r"`paths` must be a list, got '.*'; put a single one"):
        write_report(str(path), out)
    with pytest.raises(FileNotFoundError, match=r"the path '.*none' does not exist; check"):
        write_report([path, tmp_path / "none"], out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"a result at least, got '.*empty'; make .*reproduce`$"):
        write_report([tmp_path / "empty"], out)
    with pytest.raises(ValueError, match=r"a result at least, got no path; make one"):
        write_report([], out)
    for name in "abcde":
        (tmp_path / "empty" / f"{name}.json").write_text("{}")
    message = r"reproduce`; '.*a.json': it holds no result .*c.json': [^;]*; and 2 more$"
    with pytest.raises(NoResultError, match=message) as caught:
        write_report(iter([tmp_path / "empty"]), out)
    assert [Path(file.path).stem for file in caught.value.unread] == list("abcde")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.unread) == (str(caught.value), caught.value.unread)
    with pytest.raises(ValueError, match="`output` must be a file, got the folder"):
        write_report([path], tmp_path / "empty")
    with pytest.raises(OSError, match=r"the page cannot be written to '.*json/page.html': "):
        write_report([path], path / "page.html")
    assert not out.exists()


def test_the_page_appears_at_once_and_replaces_nothing_unasked(table, tmp_path, monkeypatch):
    path, out = write(tmp_path / "in", table), tmp_path / "deep" / "page.html"
    write_report([path], out)
    first = out.read_bytes()
    with pytest.raises(FileExistsError, match=r"page.html' exists; give `overwrite=True`"):
        write_report([path], out)
    write_report([path], out, overwrite=True, title="Another")
    second = out.read_bytes()
    assert first != second

    def fill_up(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    with pytest.raises(OSError, match=r"be written to '.*page.html': No space left on devi"):
        write_report([path], out, overwrite=True)
    assert out.read_bytes() == second
    assert [file.name for file in out.parent.iterdir()] == ["page.html"]


def test_the_same_files_give_the_same_page(made, tmp_path):
    pages = [write_report([made], tmp_path / name) for name in ("a.html", "b.html")]
    assert pages[0] == pages[1]
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
