"""The pages of the documentation: their Python runs, their links lead somewhere."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import json
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

import splic_ext

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
MISSING = "the tests run without the documentation beside them"

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason=MISSING)

PAGES = [*ROOT.glob("README.md"), *sorted(DOCS.rglob("*.md"))]
LINKED = [
    *sorted(ROOT.glob("*.md")),
    *sorted(DOCS.rglob("*.md")),
    *ROOT.glob("benchmarks/README.md"),
    *ROOT.glob("examples/README.md"),
]

FENCE = re.compile(r" *(?P<marks>```+|~~~+) *(?P<language>\w*)")


def relative(path):
    return path.relative_to(ROOT).as_posix()


def split(text):
    """Return the prose of a page, and its fenced blocks as (language, line, code).

    The line is the number of the block's first line, counted from 1.
    """
    prose, blocks, marks = [], [], None
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if marks is None and fence:
            marks = fence["marks"]
            blocks.append((fence["language"], number + 1, []))
        elif marks is None:
            prose.append(line)
        elif line.strip() == marks:
            marks = None
        else:
            blocks[-1][2].append(line)
    assert marks is None, "a code block does not end"
    return "\n".join(prose), [
        (language, line, textwrap.dedent("\n".join(lines)) + "\n")
        for language, line, lines in blocks
    ]


def run_block(code, line, path, namespace):
    """Run a block of code, or of code with prompts and what it prints."""
    if not code.startswith(">>>"):
        # The empty lines make the line numbers of a traceback those of the page.
        exec(compile("\n" * (line - 1) + code, str(path), "exec", dont_inherit=True), namespace)
        return
    test = doctest.DocTestParser().get_doctest(code, {}, path.name, str(path), line - 1)
    test.globs = namespace
    report = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=report.append, clear_globs=False)
    assert result.failed == 0, "".join(report)


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_python_blocks_run(path, tmp_path, monkeypatch):
    """One after the other, in one namespace and an empty folder."""
    _, blocks = split(path.read_text(encoding="utf-8"))
    page = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)  # where pickle and dataclasses look
    monkeypatch.chdir(tmp_path)
    has_torch = importlib.util.find_spec("torch") is not None
    left_out = []
    for language, line, code in blocks:
        if language != "python":
            continue
        if not has_torch and re.search(r"\btorch\b", code):
            left_out.append(str(line))
            continue
        run_block(code, line, path, vars(page))
    if left_out:
        pytest.skip(f"torch is not installed: {path.name}, blocks at lines {', '.join(left_out)}")


def targets(prose):
    """Yield where the links, pictures and HTML tags of a page point."""
    prose = re.sub(r"(`+).+?\1", "", prose)
    yield from re.findall(r"\]\(<?([^\s)>]+)>?(?:\s+\"[^\"]*\")?\)", prose)
    yield from re.findall(r"^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)", prose, re.MULTILINE)
    yield from re.findall(r"\b(?:src|href|srcset)=\"([^\"\s]+)", prose)


def anchors(path):
    """Return the names that GitHub gives to the headings of a page."""
    prose, _ = split(path.read_text(encoding="utf-8"))
    names = set(re.findall(r"\b(?:id|name)=\"([^\"]+)\"", prose))
    seen = {}
    for heading in re.findall(r"^#{1,6} +(.+?)(?: +#+)?$", prose, re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        count = seen[name] = seen.get(name, -1) + 1
        names.add(f"{name}-{count}" if count else name)
    return names


@pytest.mark.skipif(
    not (ROOT / "benchmarks" / "results").is_dir(),
    reason="a source distribution is without the results that pages link to",
)
@pytest.mark.parametrize("path", LINKED, ids=relative)
def test_relative_links_resolve(path):
    prose, _ = split(path.read_text(encoding="utf-8"))
    broken = []
    for target in targets(prose):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        name, _, anchor = target.partition("#")
        place = (path.parent / name) if name else path
        if not place.exists() or (
            anchor and place.suffix == ".md" and anchor not in anchors(place)
        ):
            broken.append(target)
    assert not broken


#: Above a table that is taken from a file of results.
SOURCE = re.compile(r"^ *<!-- from (\S+) --> *\n(?:[ \t]*\n)?((?:.*\S.*\n?)*)", re.MULTILINE)


def rows_that_are_not_there(text, root):
    """Return what stands in tables below `<!-- from PATH -->`, and not in the file PATH."""
    wrong = []
    for name, block in SOURCE.findall(text):
        rows = [line.strip() for line in block.splitlines() if line.lstrip().startswith("|")]
        place = root / name
        known = place.read_text(encoding="utf-8").splitlines() if place.is_file() else None
        if known is None:
            wrong.append(f"{name} does not exist")
        elif not rows:
            wrong.append(f"{name}: no table follows")
        else:
            wrong += [f"{name}: {row}" for row in rows if row not in known]
    marks = text.count("<!-- from ") - len(SOURCE.findall(text))
    return [*wrong, *["a comment is not alone on its line"] * marks]


@pytest.mark.skipif(
    not (ROOT / "results").is_dir(), reason="a source distribution may be without the results"
)
@pytest.mark.parametrize("path", LINKED, ids=relative)
def test_tables_are_those_of_the_results(path):
    assert not rows_that_are_not_there(path.read_text(encoding="utf-8"), ROOT)


@pytest.mark.parametrize(
    ("page", "wrong"),
    [
        ("<!-- from r/t.md -->\n| a | b |\n| --- | ---: |\n| x | 1.0 |\n\n| y | 3 |\n", []),
        ("Text.\n\n<!-- from r/t.md -->\n\n| a | b |\n| --- | ---: |\n| z | 2.0 |", []),
        ("<!-- from r/t.md -->\n| a | b |\n| x | 1.1 |\n", ["r/t.md: | x | 1.1 |"]),
        ("<!-- from r/t.md -->\n| a | c |\n| x | 1.0 |\n", ["r/t.md: | a | c |"]),
        ("<!-- from r/t.md -->\n| --- | --- |\n", ["r/t.md: | --- | --- |"]),
        ("<!-- from r/t.md -->\n| x | 1 |\n", ["r/t.md: | x | 1 |"]),
        ("<!-- from r/u.md -->\n| x | 1.0 |\n", ["r/u.md does not exist"]),
        ("<!-- from r/t.md -->\n", ["r/t.md: no table follows"]),
        ("<!-- from r/t.md -->\n\n\n| x | 1.0 |\n", ["r/t.md: no table follows"]),
        ("So <!-- from r/t.md -->\n| x | 7 |\n", ["a comment is not alone on its line"]),
        (
            "<!-- from r/t.md -->\n| x | 1.0 |\n\n<!-- from r/t.md -->\n| z | 1.0 |\n",
            ["r/t.md: | z | 1.0 |"],
        ),
    ],
)
def test_wrong_tables_are_found(page, wrong, tmp_path):
    (tmp_path / "r").mkdir()
    table = "# T\n\n| a | b |\n| --- | ---: |\n| x | 1.0 |\n| z | 2.0 |\n"
    (tmp_path / "r" / "t.md").write_text(table, encoding="utf-8")
    assert rows_that_are_not_there(page, tmp_path) == wrong


#: Above a table or list whose numbers are taken from files of results, not whole rows.
NUMBERS = re.compile(r"^<!-- numbers from ([^>]+?) -->\n((?:.*\S.*\n?)+)", re.MULTILINE)
#: A percentage, alone or with its interval.
ACCURACY = re.compile(r"\b\d+\.\d+(?: \[\d+\.\d+, \d+\.\d+\])?")


def numbers_that_are_not_there(text, root):
    """Return the numbers below `<!-- numbers from PATH ... -->` that stand in no file PATH."""
    wrong = []
    for names, block in NUMBERS.findall(text):
        known = "\n".join((root / name).read_text(encoding="utf-8") for name in names.split())
        found = ACCURACY.findall(block)
        wrong += [n for n in found if not re.search(rf"(?<![\d.]){re.escape(n)}(?![\d.])", known)]
        if not found:
            wrong.append(f"{names}: no number follows")
    marks = text.count("<!-- numbers from ") - len(NUMBERS.findall(text))
    return [*wrong, *["a comment has no list or table below it"] * marks]


@pytest.mark.skipif(
    not (ROOT / "results").is_dir(), reason="a source distribution may be without the results"
)
@pytest.mark.parametrize("path", LINKED, ids=relative)
def test_numbers_are_those_of_the_results(path):
    assert not numbers_that_are_not_there(path.read_text(encoding="utf-8"), ROOT)


@pytest.mark.parametrize(
    ("page", "wrong"),
    [
        ("<!-- numbers from r.md -->\nAbout 1.0 % or 12.5 [1.0, 2.0].\n\nSo 7.7.\n", []),
        ("<!-- numbers from r.md\nr.md -->\n| 12.5 [1.0, 2.0] | |\n", []),
        ("<!-- numbers from r.md -->\n12.5 [1.0, 2.1]\n", ["12.5 [1.0, 2.1]"]),
        ("<!-- numbers from r.md -->\n2.5, 1.0\n", ["2.5"]),
        ("<!-- numbers from r.md -->\nNone.\n", ["r.md: no number follows"]),
        ("<!-- numbers from r.md -->\n\n1.0\n", ["a comment has no list or table below it"]),
    ],
)
def test_wrong_numbers_are_found(page, wrong, tmp_path):
    (tmp_path / "r.md").write_text("| x | 1.0 |\n| y | 12.5 [1.0, 2.0] (0.5) |\n", "utf-8")
    assert numbers_that_are_not_there(page, tmp_path) == wrong


@pytest.fixture(scope="module")
def readme():
    page = ROOT / "README.md"
    if not page.is_file():
        pytest.skip(MISSING)
    return page.read_text(encoding="utf-8")


def table_rows(text):
    """Yield the cells of each row of the tables of a page."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


GRAY = "results/gray_box/cifar10_lossless/table3.md"
ADAPTIVE = "results/adaptive/cifar10_splic/adaptive.md"
TRAINED = "results/cifar10_jpeg/table2.md"
TV, SPLIC, HARDENED = (
    "total variation, 0.1",
    "SPLIC, paper's constants",
    "SPLIC, adversarial training",
)
#: Where each cell of the README's table comes from: row, column, file, the row and column there.
README_CELLS = (
    *(
        (row, column, GRAY, row, there)
        for row in ("no defence", TV, SPLIC)
        for column, there in (("clean", "clean"), ("gray-box PGD", "PGD"))
    ),
    ("no defence", "adaptive worst", ADAPTIVE, "no defence", "8/255"),
    (TV, "adaptive worst", ADAPTIVE, "total variation denoising, no masks", "exact"),
    (SPLIC, "adaptive worst", ADAPTIVE, "worst of them", "one draw"),
    (SPLIC, "paper", GRAY, SPLIC, -1),
    *(
        (row, column, TRAINED, row, there)
        for row in ("adversarial training", HARDENED)
        for column, there in (("clean", "clean"), ("adaptive worst", "worst of them"))
    ),
    (HARDENED, "paper", TRAINED, HARDENED, "paper"),
)


def cell(text, row, column):
    """Return the accuracy in the first table of a page that has the row and the column."""
    header = []
    for cells in table_rows(text):
        if set("".join(cells)) <= set("-: "):
            continue
        if cells[0] == row and column in (-1, *header):
            return cells[column if column == -1 else header.index(column)].split(" (")[0]
        if cells[0] in ("method", "attack", "CIFAR-10"):
            header = cells
    raise AssertionError(f"no row {row!r} with a column {column!r}")


@pytest.mark.skipif(
    not (ROOT / "results").is_dir(), reason="a source distribution may be without the results"
)
@pytest.mark.parametrize("source", README_CELLS, ids=lambda source: f"{source[0]}: {source[1]}")
def test_table_of_the_readme_is_that_of_the_results(readme, source):
    row, column, name, there, column_there = source
    result = (ROOT / name).read_text(encoding="utf-8")
    assert cell(readme, row, column) == cell(result, there, column_there) != ""


def test_table_of_the_readme_has_no_other_numbers(readme):
    block = NUMBERS.findall(readme)[-1][1]
    rows = [cells for cells in table_rows(block) if set("".join(cells)) - set("-: ")]
    filled = {
        (row[0], name)
        for row in rows[1:]
        for name, text in zip(rows[0][1:], row[1:], strict=True)
        if text
    }
    assert filled == {source[:2] for source in README_CELLS}
    assert len(rows) - 1 <= 5


def test_speed_of_the_readme_is_that_of_the_results(readme):
    path = ROOT / "benchmarks" / "results" / "cpu_epyc.json"
    if not path.is_file():
        pytest.skip("a source distribution is without the results of the benchmarks")
    document = json.loads(path.read_text(encoding="utf-8"))
    paragraph = next(part for part in readme.split("\n\n") if part.startswith("**Speed**"))
    stated = re.findall(r"([\d,.]+)\s+of\s+(\d+) x \2", paragraph)
    measured = {
        result["params"]["size"]: result["images_per_second"]
        for result in document["results"]
        if re.fullmatch(r"test_complete\[\d+x\d+-RGB-stacked-cpu\]", result["name"])
    }
    for speed, size in stated:
        assert float(speed.replace(",", "")) == float(f"{measured[int(size)]:.3g}")
    assert len(stated) == 4
    assert document["date"][:10] in paragraph


#: The README without the two blocks that are not counted.
COMMANDS = re.compile(r"<!-- (?:demo|test)-command -->\n```sh\n.*?\n```\n", re.DOTALL)
MOST_WORDS, MOST_LINES = 900, 120


def test_readme_takes_two_screens(readme):
    """All else counts: prose, cells of tables, Python and BibTeX; comments, not shown, do not."""
    text, blocks = COMMANDS.subn("", readme)
    assert blocks == 2
    assert len(text.splitlines()) <= MOST_LINES
    shown = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    words = [word for word in shown.split() if re.search(r"\w", word)]
    assert len(words) <= MOST_WORDS


def test_readme_defends_and_attacks_in_six_lines(readme):
    _, blocks = split(readme)
    (code,) = [code for language, _, code in blocks if language == "python"]
    tree = ast.parse(code)
    body = [node for node in tree.body if not isinstance(node, (ast.Import, ast.ImportFrom))]
    assert len(body) == sum(node.end_lineno - node.lineno + 1 for node in body) <= 6


def test_options_are_listed_with_their_defaults():
    page = DOCS / "user_guide.md"
    if not page.is_file():
        pytest.skip(MISSING)
    section = page.read_text(encoding="utf-8").split("\n## Options and presets\n")[1]
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \|", section.split("\n## ")[0], re.MULTILINE)
    listed = {name: ast.literal_eval(value.strip("`")) for name, value in rows}
    assert len(listed) == len(rows)
    assert listed == splic_ext.SolverOptions().to_dict()


def test_presets_are_listed_with_what_they_change():
    page = DOCS / "presets.md"
    if not page.is_file():
        pytest.skip(MISSING)
    header, _, _, *rows = list(table_rows(page.read_text(encoding="utf-8")))[:13]
    words = {
        "min(H, W) // 4": None,
        "0.375 min(H, W)": 0.375,
        "0.8 min(H, W)": 0.8,
        "0.28 min(H, W)": 0.28,
        "yes": True,
        "no": False,
    }
    words |= {name: name for name in ("zero", "image", "mean")}
    presets = {name.strip('`"'): {} for name in header[1:]}
    for name, *cells in rows:
        for options, value in zip(presets.values(), cells, strict=True):
            if name.startswith("`"):
                options[name.strip("`")] = words[value] if value in words else float(value)
    assert rows[-1][0] == "all other options"
    assert presets.keys() == splic_ext.options.PRESETS.keys()
    for name, options in presets.items():
        assert splic_ext.SolverOptions(**_whole(options)) == splic_ext.SolverOptions.preset(name)


def _whole(options):
    """Return them with counts as integers."""
    counts = ("n_masks", "inner_iterations", "max_iterations")
    return {name: int(value) if name in counts else value for name, value in options.items()}


# docs/errors.md against the code

#: A message that no user can meet, one that Python words itself, and the name of a feature.
UNDOCUMENTED = (
    "an array on … has no NumPy view",
    "module 'splic_ext' has no attribute …",
    "`splic-ext demo`",
)


def template(node):
    """Return the text of a string in the source, with `…` for each value that is put in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) else "…" for part in node.values
        )
    return ""


def source_trees():
    for path in sorted(Path(splic_ext.__file__).parent.rglob("*.py")):
        yield ast.parse(path.read_text(encoding="utf-8"))


def all_texts():
    texts = [template(node) for tree in source_trees() for node in ast.walk(tree)]
    for native in sorted(
        [*(ROOT / "csrc").glob("c*/*.cpp"), ROOT / "csrc" / "bindings" / "cuda.cpp"]
    ):
        strings = re.sub(r'"\s*\n\s*"', "", native.read_text(encoding="utf-8"))
        texts += re.findall(r'"([^"\n]+)"', strings)
    return [text for text in texts if text]


def raised_messages():
    """Messages of all `raise` statements; those with values only are of other origin."""
    for tree in source_trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                text = template(node.exc.args[0])
                if " " in text.replace("…", ""):
                    yield text


@pytest.fixture(scope="module")
def documented():
    page = DOCS / "errors.md"
    if not page.is_file():
        pytest.skip(MISSING)
    messages = re.findall(r"^\| `` (.+?) `` \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(messages) > 50
    return messages


def pattern(message):
    """Return what a documented message matches: `…` stands for anything."""
    return re.compile(".*".join(map(re.escape, message.split("…"))), re.DOTALL)


def test_documented_messages_are_those_of_the_code(documented):
    texts = all_texts()
    # The end of a message may come from another string.
    unknown = [
        message
        for message in documented
        if not any(pattern(message.rstrip("…")).match(text) for text in texts)
    ]
    assert not unknown


def test_documented_messages_are_distinct(documented):
    """A row of next to nothing but `…` would match every message."""
    vague = [message for message in documented if len(re.findall("[A-Za-z]", message)) < 12]
    assert not vague


def test_every_message_is_documented(documented):
    patterns = [pattern(message) for message in documented]
    missing = [
        text
        for text in raised_messages()
        if text not in UNDOCUMENTED and not any(p.fullmatch(text) for p in patterns)
    ]
    assert not missing


def test_counts_of_the_tools_are_those_of_their_runs():
    page, figures = DOCS / "reliability.md", ROOT / "benchmarks" / "reliability.json"
    _, _, table = page.read_text(encoding="utf-8").partition("<!-- counts from ")
    rows = re.findall(r"^\| `(make .+?)` \| (.+) \|$", table, re.MULTILINE)
    runs = json.loads(figures.read_text(encoding="utf-8"))["runs"]
    assert rows == [(run["command"], run["found"]) for run in runs] != []
