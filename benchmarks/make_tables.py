"""Draw the tables of docs/benchmarks.md from a result file; they are those of `splic-ext report`.

    python benchmarks/make_tables.py [RESULTS.json]   replaces the text between the markers
    python benchmarks/make_tables.py --check          fails if that text is stale

Without a file, the one that the page names is drawn, or else the newest.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from condense import RESULTS, SCHEMA_FILE

from splic_ext.report.benchmarks import BATCHES, BenchmarkRun, number, speed_tables
from splic_ext.report.views import Table

PAGE = RESULTS.parents[1] / "docs" / "benchmarks.md"
START, END = "<!-- benchmarks:start -->", "<!-- benchmarks:end -->"


def markdown(table: Table) -> str:
    """Return a table in Markdown, its first column to the left and the others to the right."""
    rows = [[line.head, *(cell.text or "-" for cell in line.cells)] for line in table.lines]
    lines = [table.header, ["---", *["---:"] * (len(table.header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def sentences(run: BenchmarkRun) -> str:
    """Return what is said below the table of batches."""
    found = [
        f"One image takes {number(result.extra['latency_ms'])} ms."
        for result in run.select("test_batch", threads=1, batch=1)
    ]
    for result in run.select("test_two_threads_over_one"):
        ratio = number(result.extra["speedup_over_one_thread"])
        found.append(f"Two threads are {ratio} times as fast as one.")
    return " ".join(found)


def draw(run: BenchmarkRun, name: str) -> str:
    """Return the text that goes between the markers."""
    machine = run.machine
    parts = [machine.cpu, f"{machine.cores} cores", machine.simd, machine.gpu]
    versions = {"Python": machine.python, "NumPy": machine.numpy, "torch": machine.torch}
    versions["splic_ext"] = machine.splic_ext
    parts += [f"{program} {version}" for program, version in versions.items() if version]
    commit = f" at {run.commit[:9]}" if run.commit else ""
    texts = [
        f"Source: [`benchmarks/results/{name}`](../benchmarks/results/{name}), {run.date[:10]}.",
        f"{', '.join(filter(None, parts))}{commit}.",
    ]
    for title, table in speed_tables(run).items():
        caption = "" if table.caption == title else f"{table.caption}:"
        below = sentences(run) if title == BATCHES else ""
        texts += [f"### {title}", caption, markdown(table), below]
    return "\n\n".join(filter(None, texts)) + "\n"


def split(text: str) -> tuple[str, str, str]:
    """Return the text before, between and after the markers, which must be there once each."""
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise ValueError(f"{PAGE.name} must have {START} and, after it, {END}, once each")
    before, rest = text.split(START)
    between, after = rest.split(END)
    return before + START, between, END + after


def replace(text: str, tables: str) -> str:
    """Return the text with the tables between its markers."""
    before, _, after = split(text)
    return f"{before}\n\n{tables}\n{after}"


def load(path: Path) -> BenchmarkRun:
    """Read a result file."""
    return BenchmarkRun.from_json(path.read_text())


def choose(text: str) -> Path:
    """Return the result file that the page names, or else the newest."""
    named = re.search(r"`benchmarks/results/([\w.-]+\.json)`", split(text)[1])
    if named:
        return RESULTS / named[1]
    files = [path for path in RESULTS.glob("*.json") if path != SCHEMA_FILE]
    if not files:
        raise ValueError("no result file; see benchmarks/README.md for how to make one")
    return max(files, key=lambda path: load(path).date)


def main() -> None:
    """Replace or check the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="?", help="a file of benchmarks/results")
    parser.add_argument("--check", action="store_true", help="change nothing, fail if stale")
    arguments = parser.parse_args()
    try:
        text = PAGE.read_text()
        path = arguments.results or choose(text)
        fresh = replace(text, draw(load(path), path.name))
    except (OSError, ValueError) as error:
        parser.exit(1, f"{error}\n")
    if arguments.check:
        if fresh != text:
            parser.exit(1, f"{PAGE.name} is stale: run python benchmarks/make_tables.py\n")
    else:
        PAGE.write_text(fresh)


if __name__ == "__main__":
    main()
