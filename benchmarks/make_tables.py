"""Draw the benchmark tables of README.md from a condensed result file.

    python benchmarks/make_tables.py [RESULTS.json]   replaces the text between the markers
    python benchmarks/make_tables.py --check          fails if that text is stale

Without a file, the one that README.md names is drawn, or else the newest.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from condense import RESULTS, SCHEMA_FILE, validate

ROOT = RESULTS.parents[1]
README = ROOT / "README.md"
START, END = "<!-- benchmarks:start -->", "<!-- benchmarks:end -->"
METHODS = {
    "cpu": "`cpu`",
    "cuda": "`cuda`",
    "torch.linalg.svd": "torch SVD",
    "torch.linalg.eigh": "torch eigh",
    "numpy.linalg.svd": "NumPy SVD",
    "numpy": "`numpy` (float64)",
}
Result = dict[str, Any]


def number(value: float) -> str:
    """Format with three significant digits, thousands separated, never in powers of ten."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:.3g}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table, its first column to the left and the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def select(document: Result, test: str, **params: Any) -> list[Result]:
    """Return the results of one test function with the parameters given."""
    return [
        result
        for result in document["results"]
        if result["name"].split("[")[0] == test
        and all(result["params"].get(key) == value for key, value in params.items())
    ]


def label(params: dict[str, Any]) -> str:
    """Name a kind of images."""
    kind = "gray" if params["channels"] == 1 else f"RGB, {params['mode']}"
    enlarged = ", enlarged" if params.get("enlarged") else ""
    return f"{params['size']} x {params['size']}, {kind}{enlarged}"


def by_kind(results: list[Result]) -> dict[str, dict[str, Result]]:
    """Return label -> method -> result, in the order of the file."""
    kinds: dict[str, dict[str, Result]] = {}
    for result in results:
        kinds.setdefault(label(result["params"]), {})[result["method"]] = result
    return kinds


def time_table(document: Result, test: str, threads: int) -> str:
    """Microseconds for one iteration of one matrix, by method."""
    kinds = by_kind(select(document, test, threads=threads))
    if not kinds:
        return ""
    present = [m for m in METHODS if any(m in methods for methods in kinds.values())]
    rows = []
    for kind, methods in kinds.items():
        row = [kind, *(_cell(methods.get(m), "us_per_matrix_iteration") for m in present)]
        rows.append([*row, _cell(methods.get("cpu"), "images_per_second")])
    header = ["us", *(METHODS[m] for m in present), "`cpu`, images/s"]
    noun = "thread" if threads == 1 else "threads"
    return f"One iteration of one matrix, {threads} {noun}:\n\n{table(header, rows)}\n"


def speedup_table(document: Result) -> str:
    """How many times faster than the torch peers: ratios measured side by side."""
    results = select(document, "test_speedup")
    if not results:
        return ""
    keys = {"speedup_over_torch_svd": "torch SVD", "speedup_over_torch_eigh": "torch eigh"}
    rows = [
        [label(r["params"]), *(f"{number(r['extra'][key])} x" for key in keys)] for r in results
    ]
    header = ["`cpu` faster than", *keys.values()]
    return f"Ratios, 1 thread, calls of both sides in turn:\n\n{table(header, rows)}\n"


def batch_table(document: Result) -> str:
    """Images per second by batch size and threads."""
    results = select(document, "test_batch")
    if not results:
        return ""
    threads = sorted({r["params"]["threads"] for r in results})
    rows: dict[int, dict[int, Result]] = {}
    for result in results:
        rows.setdefault(result["params"]["batch"], {})[result["params"]["threads"]] = result
    body = [
        [f"{batch:,}", *(_cell(row.get(t), "images_per_second") for t in threads)]
        for batch, row in rows.items()
    ]
    header = ["batch", *(f"{t} thread{'s' if t > 1 else ''}, images/s" for t in threads)]
    text = f"`cpu` by batch size, {label(results[0]['params'])}:\n\n{table(header, body)}\n"
    sentences = []
    for result in results:
        if "latency_ms" in result["extra"] and result["params"]["threads"] == 1:
            latency = number(result["extra"]["latency_ms"])
            sentences.append(f"One image takes {latency} ms.")
    for result in select(document, "test_two_threads_over_one"):
        ratio = number(result["extra"]["speedup_over_one_thread"])
        sentences.append(f"Two threads are {ratio} times as fast as one.")
    return text + ("\n" + " ".join(sentences) + "\n" if sentences else "")


def gradient_table(document: Result) -> str:
    """Forward and backward in units of forward alone, and beside unrolled torch."""
    rows = []
    for result in select(document, "test_gradient"):
        extra = result["extra"]
        gradient = "surrogate" if "surrogate" in result["name"] else "exact"
        slower = (
            f"{number(extra['speedup_over_torch'])} x" if "speedup_over_torch" in extra else "-"
        )
        ratio = f"{number(extra['over_forward'])} x"
        rows.append([f"{label(result['params'])}, {gradient}", ratio, slower])
    if not rows:
        return ""
    header = ["forward and backward, `cpu`", "time of forward alone", "faster than unrolled torch"]
    return f"Gradients, 1 thread:\n\n{table(header, rows)}\n"


def memory_table(document: Result) -> str:
    """Peak memory beyond input and output."""
    results = select(document, "test_memory")
    if not results:
        return ""
    rows = [
        [
            f"{METHODS[r['method']]}, {r['params']['batch']:,} images",
            str(r["params"]["threads"]),
            number(r["extra"]["peak_extra_mb"]),
        ]
        for r in results
    ]
    header = [label(results[0]["params"]), "threads", "MB"]
    return f"Peak memory beyond input and output:\n\n{table(header, rows)}\n"


def error_table(document: Result) -> str:
    """Mean and largest difference from the float64 reference."""
    kinds = by_kind(select(document, "test_complete", threads=1))
    present = [m for m in METHODS if m != "numpy" and any(m in row for row in kinds.values())]
    if not present:
        return ""
    rows = [[kind, *(_errors(methods.get(m)) for m in present)] for kind, methods in kinds.items()]
    header = ["mean / largest", *(METHODS[m] for m in present)]
    return f"Difference from the float64 reference, pixels in [0, 1]:\n\n{table(header, rows)}\n"


def _cell(result: Result | None, key: str) -> str:
    return "-" if result is None else number(result[key])


def _errors(result: Result | None) -> str:
    if result is None:
        return "-"
    return f"{result['extra']['mean_error']:.1e} / {result['extra']['max_error']:.1e}"


def draw(document: Result, name: str) -> str:
    """Return the text that goes between the markers."""
    machine, commit = document["machine"], document["commit"]
    simd = f", {machine['simd']}" if machine["simd"] else ""
    versions = f"Python {machine['python']}, NumPy {machine['numpy']}"
    if machine["torch"]:
        versions += f", torch {machine['torch']}"
    source = (
        f"{machine['cpu']}, {machine['cores']} cores{simd}; {versions}; "
        f"splic_ext {machine['splic_ext']}{f' at {commit[:9]}' if commit else ''}, "
        f"{document['date'][:10]}. "
        f"Source: [`benchmarks/results/{name}`](benchmarks/results/{name})."
    )
    parts = [
        time_table(document, "test_complete", 1),
        speedup_table(document),
        time_table(document, "test_complete_two_threads", 2),
        batch_table(document),
        gradient_table(document),
        memory_table(document),
        error_table(document),
        source + "\n",
    ]
    return "\n".join(part for part in parts if part)


def split(text: str) -> tuple[str, str, str]:
    """Return the text before, between and after the markers.

    Raises
    ------
    ValueError
        The markers are not there, once each and in order.
    """
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise ValueError(f"README.md must have {START} and, after it, {END}, once each")
    before, rest = text.split(START)
    between, after = rest.split(END)
    return before + START, between, END + after


def replace(text: str, tables: str) -> str:
    """Return the text with the tables between its markers."""
    before, _, after = split(text)
    return f"{before}\n\n{tables}\n{after}"


def result_files() -> list[Path]:
    """Return the committed result files."""
    return sorted(path for path in RESULTS.glob("*.json") if path != SCHEMA_FILE)


def load(path: Path) -> Result:
    """Read a result file and check it against the schema."""
    document: Result = json.loads(path.read_text())
    validate(document)
    return document


def choose(text: str) -> Path:
    """Return the result file that the README names, or else the newest.

    Raises
    ------
    ValueError
        There is none.
    """
    named = re.search(r"`benchmarks/results/([\w.-]+\.json)`", split(text)[1])
    if named:
        return RESULTS / named[1]
    files = result_files()
    if not files:
        raise ValueError("no result file; see benchmarks/README.md for how to make one")
    return max(files, key=lambda path: load(path)["date"])


def main() -> None:
    """Replace or check the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="?", help="a file of benchmarks/results")
    parser.add_argument("--check", action="store_true", help="change nothing, fail if stale")
    arguments = parser.parse_args()
    try:
        text = README.read_text()
        path = arguments.results or choose(text)
        fresh = replace(text, draw(load(path), path.name))
    except (OSError, ValueError) as error:
        parser.exit(1, f"{error}\n")
    if arguments.check:
        if fresh != text:
            parser.exit(1, "README.md is stale: run python benchmarks/make_tables.py\n")
    else:
        README.write_text(fresh)


if __name__ == "__main__":
    main()
