"""The site that Sphinx makes of the pages: without a warning, and with nothing left out."""

from __future__ import annotations

import html
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.browser import open_chromium

import splic_ext

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
NEEDED = ("sphinx", "myst_parser", "numpydoc", "pydata_sphinx_theme", "sphinx_design")
LINKED = ("benchmarks", "csrc", "docs", "python_tests", "results", "splic_ext")
ABSENT = [name for name in (*NEEDED, "torch", "typer", "art") if not importlib.util.find_spec(name)]

pytestmark = [
    pytest.mark.skipif(not DOCS.is_dir(), reason="the tests run without the documentation"),
    pytest.mark.skipif(bool(ABSENT), reason=f"the extra docs or test: no {', '.join(ABSENT)}"),
    pytest.mark.skipif(not (ROOT / "results").is_dir(), reason="pages link to the results"),
]


def sphinx(source, target):
    """Build the site, in a process of its own; return what it says about problems."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", source, target]
    package = str(Path(splic_ext.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([package, *sys.path])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (not done.stderr), done.stdout + done.stderr
    return done.stderr


def checkout(folder):
    """Copy the pages and what they link to: the site's own pages of the API are written there."""
    kept = shutil.ignore_patterns("generated", "__pycache__", "*.so", "work")
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
        elif path.name in LINKED:
            shutil.copytree(path, folder / path.name, ignore=kept)
    return folder / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkout")
    assert sphinx(checkout(folder), folder / "site") == ""
    return folder / "site"


def text(page):
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_every_page_is_there(site):
    pages = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert pages
    assert not [str(page) for page in pages if not (site / page).is_file()]


def test_every_public_name_of_the_library_has_a_page(site):
    names = set(splic_ext.__all__) - {"__version__"}
    assert not [n for n in names if not (site / f"generated/splic_ext.{n}.html").is_file()]


def test_commands_are_those_of_the_program(site):
    from typer.main import get_command

    from splic_ext.cli.app import app

    def shown_as(parameter):
        """An option by its first spelling, an argument by its name in capitals."""
        argument = parameter.param_type_name == "argument"
        return [parameter.metavar or parameter.human_readable_name] if argument else parameter.opts

    shown = text(site / "command_line.html")
    for name, command in get_command(app).commands.items():
        assert f"splic-ext {name} [OPTIONS]" in shown
        assert not [name for p in command.params for name in shown_as(p)[:1] if name not in shown]


def test_nothing_is_fetched_from_elsewhere(site):
    pages = [site / "index.html", site / "generated" / "splic_ext.complete.html"]
    for page in pages:
        source = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|iframe)[^>]* src=\"https?:", source)
        assert not re.findall(r"<link[^>]* rel=\"stylesheet\"[^>]* href=\"https?:", source)
    assert "<math" in source


#: Text and pictures of an article that end right of the window, and cannot be scrolled to.
CUT_OFF = """
() => {
  const scrolls = (e) => e && (["auto", "scroll"].includes(getComputedStyle(e).overflowX)
    || (e.tagName !== "ARTICLE" && scrolls(e.parentElement)));
  const cut = [];
  for (const element of document.querySelectorAll(".bd-article *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own && element.tagName !== "IMG") continue;
    const range = document.createRange();
    range.selectNode(element);
    if (range.getBoundingClientRect().right > window.innerWidth + 1 && !scrolls(element))
      cut.push([element.tagName, element.textContent.slice(0, 40)]);
  }
  return cut;
}
"""
SHOWN = (
    *("index", "tutorial", "results", "concepts", "architecture", "errors", "command_line"),
    *("generated/splic_ext.attacks", "generated/splic_ext.training.TrainingOptions"),
)


def test_pages_fit_a_phone(site):
    with open_chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        cut = {}
        for name in SHOWN:
            page.goto((site / f"{name}.html").as_uri())
            cut[name] = page.evaluate(CUT_OFF)
    assert not {name: found for name, found in cut.items() if found}


def test_a_wrong_page_is_a_failure(tmp_path):
    """As small a site as there is, with the settings of the large one."""
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("conf.py", "_extensions", "_static", "_templates"):
        (docs / name).symlink_to(DOCS / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    page = docs / "index.md"
    page.write_text("# Title\n\n[data](../data.txt) and [folder](../data)\n", encoding="utf-8")
    (tmp_path / "data").mkdir()
    (tmp_path / "data.txt").write_text("1", encoding="utf-8")
    assert sphinx(docs, tmp_path / "right") == ""
    page.write_text("# Title\n\n[nothing](missing.md) `-v`\n", encoding="utf-8")
    assert "missing.md" in sphinx(docs, tmp_path / "wrong")
