"""``splic-ext report``: the page, messages, exit codes."""

from __future__ import annotations

import json

import pytest
from helpers.cli import invoke
from helpers.report import make_result, make_row, table, write

from splic_ext.report import write_report

__all__ = ["table"]  # the fixture


@pytest.fixture
def results(table, tmp_path, monkeypatch):
    """A folder of two results, in a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "results", table)
    write(tmp_path / "results" / "svhn", make_result(make_row(), name="frontier"))
    return tmp_path


def report(*arguments, code=0):
    result = invoke("report", *arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    return result.stderr


def test_the_page_is_that_of_the_library(results):
    assert report("results", "-o", "a.html", "--title", "Mine") == "page: a.html, 2 results\n"
    write_report(["results"], "b.html", title="Mine")
    assert (results / "a.html").read_bytes() == (results / "b.html").read_bytes()
    assert "<title>Mine</title>" in (results / "a.html").read_text(encoding="utf-8")


def test_the_default_page_and_a_single_file(results):
    assert report("results/table4.json") == "page: report.html, 1 result\n"
    assert report("results/table4.json", code=1).startswith("error: 'report.html' exists; give --o")
    assert report("results", "--overwrite", "-q") == ""


def test_files_that_cannot_be_used_are_named(results):
    (results / "results" / "x.json").write_text("{")
    told = report("results", "-q", code=1)
    assert told.startswith("error: results/x.json: it is damaged, or no JSON: ")
    assert told.count("\n") == 1
    assert (results / "report.html").exists(), "the others are shown"


@pytest.mark.parametrize("late", [False, True])
def test_each_file_is_named_where_none_can_be_used(results, late):
    """Also one that turns out to be damaged only when it is shown."""
    names = [f"results/{name}.json" for name in "abcd"]
    for name in names:
        (results / name).write_text("{")
    if late:
        empty = {"schema_version": 1, "key": "k", "notes": [], "records": []}
        empty["seconds"] = dict.fromkeys(("attack", "defense", "network", "rest"), 0.0)
        names.append("results/e.json")
        (results / names[-1]).write_text(json.dumps(empty))
    *told, last = report(*names, "-q", code=1).splitlines()
    assert [line.split(": ")[:2] for line in told] == [["error", name] for name in names]
    assert told[-1].endswith("it has no records" if late else "(char 1)")
    assert last == "error: no page was written: none of the files can be used"
    assert not (results / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("none",), 1, "the path 'none' does not exist; check PATH"),
        (("empty",), 2, "PATH must hold a result at least, got 'empty'; make"),
        (("results", "-o", "empty"), 2, "--out must be a file, got the folder 'empty'"),
        (("results", "-o", "results/table4.json/x"), 1, "the page cannot be written to"),
    ],
)
def test_failures_end_with_a_message_and_a_code(results, arguments, code, message):
    (results / "empty").mkdir()
    told = report(*arguments, code=code)
    assert told.startswith(f"error: {message}")
    assert told.count("\n") == 1
    assert not (results / "report.html").exists()


def test_ctrl_c(results, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("splic_ext.report.write_report", interrupted)
    assert report("results", code=130) == "interrupted; no page was written\n"


def test_without_torch(run_python):
    code = """
import sys
sys.modules["torch"] = None
sys.argv = "splic-ext report results".split()
from splic_ext.cli import main
try:
    main()
except SystemExit as end:
    print(end.code)
"""
    assert run_python(code) == "1"
