"""The table at the end of a run: the solver beside its peers, a line for each size."""

from __future__ import annotations

import re
import textwrap
from typing import Any

WIDTH = 100
#: What a table shows: the solver first, then its peers. The NumPy back end computes in float64.
CPU = {
    "cpu": "SPLIC cpu",
    "torch block iteration": "torch block",
    "torch.linalg.eigh": "torch eigh",
    "torch.linalg.svd": "torch SVD",
    "numpy.linalg.svd": "NumPy SVD",
    "numpy": "SPLIC numpy",
}
GPU = {
    "cuda, arrays on the GPU": "SPLIC cuda",
    "cuda": "from the CPU",
    "torch block iteration on the GPU": "torch block",
    "torch.linalg.eigh on the GPU": "torch eigh",
    "torch.linalg.svd on the GPU": "torch SVD",
}
TESTS = {"test_complete": CPU, "test_complete_two_threads": CPU}
TESTS |= dict.fromkeys(("test_cuda", "test_cuda_options"), GPU)

#: What a line need not say.
USUAL = ("paper", "float32")

#: What a benchmark noted in extra_info, with "test" and "passed".
Row = dict[str, Any]


def label(row: Row) -> str:
    """Return the kind of images, and the threads if they are several."""
    parts = [f"{row['size']}x{row['size']}", "gray" if row["channels"] == 1 else "RGB"]
    parts += ["sep."] * (row["mode"] == "separate") + ["enlarged"] * row["enlarged"]
    parts += [row[key] for key in ("preset", "dtype") if row.get(key) not in (None, *USUAL)]
    return " ".join(parts + [f"{row['threads']} threads"] * (row["threads"] > 1))


def table(rows: list[Row], columns: dict[str, str]) -> list[str]:
    """Return images per second by size and method, how many times faster we are, and the errors."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(label(row), {})[row["method"]] = row
    own = next(iter(columns))
    present = [name for name in columns if any(name in methods for methods in found.values())]
    cells = [["images per second", *(columns[name] for name in present)]]
    for kind, methods in found.items():
        ours = methods.get(own)
        cells.append([kind, *(_rate(methods.get(name), ours) for name in present)])
    for title, key in (("mean error", "mean_error"), ("largest error", "max_error")):
        errors = [[r[key] for r in rows if r["method"] == name and key in r] for name in present]
        cells.append([title, *(f"{max(some):.1e}" if some else "-" for some in errors)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in cells
    ]


def _rate(row: Row | None, ours: Row | None) -> str:
    if row is None:
        return "-"
    if not row["passed"]:
        return "failed"
    if not _timed(row):
        return "checked"
    rate = row["images_per_second"]
    text = f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 10 else f"{rate:.2f}"
    if row is ours or not _timed(ours):
        return text
    ratio = row["us_per_matrix_iteration"] / ours["us_per_matrix_iteration"]
    return f"{text} ({ratio:.{0 if ratio >= 10 else 1}f}x)"


def _timed(row: Row | None) -> bool:
    """Return whether there is a time that counts; none is taken with ``--benchmark-disable``."""
    return row is not None and row["passed"] and "images_per_second" in row


def machine(environment: Row) -> str:
    """Return what the benchmarks ran on, in a sentence."""
    versions = {name: environment[name] for name in ("python", "numpy", "torch", "splic_ext")}
    parts = [environment["cpu"], f"{environment['cores']} cores", environment["simd"]]
    parts += [environment["gpu"], *(f"{name} {v}" for name, v in versions.items() if v)]
    commit = f" at {environment['commit'][:9]}" if environment["commit"] else ""
    return ", ".join(filter(None, parts)) + commit


def summary(rows: list[Row], environment: Row) -> list[str]:
    """Return the lines to print: a table for the CPU, one for a GPU, and how to read them."""
    lines, data = [], dict[str, None]()
    for columns in (CPU, GPU):
        shown = [row for row in rows if TESTS.get(row["test"]) is columns]
        shown = [row for row in shown if row["method"] in columns]
        if shown:
            lines += [*table(shown, columns), ""]
        data |= dict.fromkeys(re.sub(r", (resized to )?\d+ x \d+.*", "", r["data"]) for r in shown)
    if not lines:
        return []
    notes = (
        "(..x): SPLIC is so many times faster, by the time of one iteration of one matrix.",
        "Errors: the worst of all lines; difference from the float64 reference, pixels in [0, 1].",
        f"One thread, unless a line says otherwise. Images: {'; '.join(data)}.",
        machine(environment),
    )
    return [*lines, *(line for note in notes for line in textwrap.wrap(note, WIDTH))]
