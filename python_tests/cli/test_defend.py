"""``splic-ext demo defend``: a table, a page, exit codes."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("foolbox", reason="foolbox is not installed")
pytest.importorskip("typer", reason="Typer is not installed")
pytest.importorskip("jinja2", reason="Jinja is not installed")

from helpers.cli import invoke

import splic_ext.experiments
from splic_ext.experiments import LessonSize, teach
from splic_ext.report import lesson_page

TINY = LessonSize(images=40, epochs=1, attacked=6, steps=1, eot=1, draws=1, pictures=1)


@pytest.fixture(scope="module")
def made():
    return teach(TINY, progress=False)


@pytest.fixture
def tiny(monkeypatch, made):
    """The lesson at once, and what it was asked for."""
    asked = []

    def at_once(**given):
        asked.append(given)
        return made

    monkeypatch.setattr(splic_ext.experiments, "teach", at_once)
    return asked


def defended(*arguments, code=0):
    result = invoke("demo", "defend", *arguments)
    assert result.exit_code == code, result.output
    return result


def test_table_and_page(tiny, made, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    page = tmp_path / "a.html"
    shown = defended("-o", page, "--seed", 5)
    assert tiny[0]["seed"] == 5
    assert tiny[0]["progress"] is True
    assert tiny[0]["command"].startswith("splic-ext")
    for name in ("nobody", "black box", "gray box", "white box", "6 test images"):
        assert name in shown.stdout
    words = " ".join(re.sub(r"[│┃┡╇┩├┼┤─]", " ", shown.stdout).split())
    assert made.rows[0].learnt.split()[0] in words
    assert len(shown.stdout.splitlines()) <= 36, "one screen"
    assert "time: drawing the images 0 s, training without SPLIC" in shown.stderr
    assert f"pictures: {page}" in shown.stderr
    html = page.read_text(encoding="utf-8")
    assert html == lesson_page(made).to_html()
    assert html.count('src="data:image/png;base64,') == 2 + 4 + 4
    assert not re.search(r"<script|https?:|src=.(?!data:)", html), "it needs another file"
    for row in made.rows:
        assert row.learnt.replace(" %", "\u00a0%") in html.replace("&#39;", "'")


def test_quiet(tiny, tmp_path):
    shown = defended("-o", tmp_path / "a.html", "-q")
    assert (shown.stdout, shown.stderr) == ("", "")
    assert tiny[0]["progress"] is False
    assert (tmp_path / "a.html").exists()


def test_a_page_that_exists_is_kept(tiny, tmp_path):
    page = tmp_path / "a.html"
    page.write_text("mine")
    refused = defended("-o", page, code=1)
    assert "exists; give --overwrite to replace it" in refused.stderr
    assert page.read_text() == "mine"
    assert not tiny, "it was found out after all the work"
    defended("-o", page, "--overwrite", "-q")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("-o", "."), 2, "--out must be a file, got the folder"),
        (("--seed", "-1"), 2, "--seed"),
    ],
)
def test_failures(tiny, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    assert message in defended(*arguments, code=code).output
    assert not tiny
    assert not list(tmp_path.iterdir())


def test_interrupted(monkeypatch, tmp_path):
    def interrupted(**given):
        raise KeyboardInterrupt

    monkeypatch.setattr(splic_ext.experiments, "teach", interrupted)
    result = defended("-o", tmp_path / "a.html", code=130)
    assert result.stderr == "interrupted; no page was written\n"
    assert not list(tmp_path.iterdir())


def test_options_of_the_other_demonstration_are_not_ignored():
    result = invoke("demo", "--size", 64, "defend")
    assert result.exit_code == 2
    assert "`size` is of `demo` alone; give options of `defend` after its name" in result.output
    assert invoke("demo", "attack").exit_code == 2


@pytest.mark.parametrize("package", ["torch", "jinja2", "foolbox"])
def test_a_missing_package_names_all_extras(run_python, tmp_path, package):
    code = f"""
import sys
sys.modules["{package}"] = None
sys.stderr = sys.stdout
sys.argv = "splic-ext demo defend -q".split()
from splic_ext.cli import main
try:
    main()
except SystemExit as end:
    print(end.code)
"""
    message, code = run_python(code).splitlines()
    assert message.startswith("error: ")
    assert 'pip install "splic-ext[attack,report]"' in message
    assert code == "1"
    assert not list(tmp_path.iterdir())
