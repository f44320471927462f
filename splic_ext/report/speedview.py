"""From a run of the benchmarks to what the page shows of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from splic_ext.experiments import Point
from splic_ext.report.entries import SMOKE, address
from splic_ext.report.figures import draw_diagrams
from splic_ext.report.sources import Source
from splic_ext.report.speed import METHODS, Benchmark, BenchmarkRun
from splic_ext.report.views import Block, Cell, Entry, Line, Table

__all__ = ["benchmark_entry"]

MICROSECONDS = "microseconds per iteration"


def benchmark_entry(source: Source[BenchmarkRun]) -> Entry:
    """Return the entry of a run of the benchmarks.

    Parameters
    ----------
    source : Source

    Returns
    -------
    Entry

    Raises
    ------
    MissingExtraError
        Matplotlib is not installed.
    """
    run = source.content
    machine = run.machine
    blocks = []
    for threads in (1, 2):
        test = "test_complete" if threads == 1 else "test_complete_two_threads"
        found = run.select(test, threads=threads)
        if found:
            noun = "1 thread" if threads == 1 else f"{threads} threads"
            curves = draw_diagrams(_sizes(found)) if threads == 1 else ()
            blocks.append(Block(f"Time, {noun}", (_times(found),), curves))
    batches = run.select("test_batch")
    if batches:
        blocks.append(Block("Throughput by batch", (), draw_diagrams(_throughput(batches))))
    others = (_ratios(run), _gradients(run), _memory(run), _errors(run))
    blocks += [Block(table.caption, (table,)) for table in others if table.lines]
    versions = {name: getattr(machine, name) for name in ("splic_ext", "python", "numpy", "torch")}
    simd = "" if machine.simd is None else f", {machine.simd}"
    return Entry(
        key=address("speed", source.path),
        title=f"Solver speed on {machine.cpu}{simd}",
        subtitle="the same algorithm around library decompositions, on the same images, masks and "
        "threads; every answer is checked against the float64 reference",
        path=source.path,
        facts=(
            ("Date", run.date[:10]),
            ("Machine", f"{machine.cpu}, {machine.cores} cores, {machine.system}"),
            ("Versions", ", ".join(f"{name} {v}" for name, v in versions.items() if v)),
            ("Commit", (run.commit or "unknown")[:12]),
            ("Images", "; ".join(dict.fromkeys(result.data for result in run.results))),
        ),
        command=run.command,
        blocks=tuple(blocks),
        warning=SMOKE if run.quick else "",
    )


def number(value: float) -> str:
    """Return a number with three significant digits.

    Examples
    --------
    >>> number(14523.0), number(0.26571)
    ('14,500', '0.266')
    """
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:.3g}"


def _by_kind(results: Sequence[Benchmark]) -> dict[str, dict[str, Benchmark]]:
    kinds: dict[str, dict[str, Benchmark]] = {}
    for result in results:
        kinds.setdefault(result.images_kind, {})[result.method] = result
    return kinds


def _methods(results: Sequence[Benchmark]) -> list[str]:
    found = {result.method for result in results}
    return [name for name in METHODS if name in found] + sorted(found - METHODS.keys())


def _times(results: Sequence[Benchmark]) -> Table:
    methods = _methods(results)
    lines = []
    for kind, found in _by_kind(results).items():
        cells = [
            Cell(number(found[m].us_per_matrix_iteration)) if m in found else Cell("")
            for m in methods
        ]
        own = found.get("cpu")
        cells.append(Cell("" if own is None else number(own.images_per_second)))
        lines.append(Line(kind, tuple(cells)))
    header = ("images", *(METHODS.get(m, m) for m in methods), "SPLIC, cpu: images/s")
    return Table("Microseconds for one iteration of one matrix", header, tuple(lines))


def _sizes(results: Sequence[Benchmark]) -> list[Point]:
    """Time over the size of the images, colour, stacked."""
    return [
        Point(
            section="colour images, channels stacked",
            series=METHODS.get(result.method, result.method),
            x_name="side of the images (pixels)",
            x=math.log2(result.params["size"]),
            y_name=MICROSECONDS,
            y=result.us_per_matrix_iteration,
            label=str(result.params["size"]),
        )
        for result in results
        if (result.params["channels"], result.params.get("mode")) == (3, "stacked")
        and not result.params.get("enlarged")
    ]


def _throughput(results: Sequence[Benchmark]) -> list[Point]:
    return [
        Point(
            section=results[0].images_kind,
            series=f"{result.params['threads']} threads".replace("1 threads", "1 thread"),
            x_name="images in a call",
            x=float(result.params.get("batch", result.images)),
            y_name="images per second",
            y=result.images_per_second,
        )
        for result in results
    ]


def _ratios(run: BenchmarkRun) -> Table:
    keys = {"speedup_over_torch_svd": "torch SVD", "speedup_over_torch_eigh": "torch eigh"}
    lines = [
        Line(result.images_kind, tuple(_times_as(result.extra.get(key)) for key in keys))
        for result in run.select("test_speedup")
    ]
    return Table("How many times faster, calls in turn", ("images", *keys.values()), tuple(lines))


def _gradients(run: BenchmarkRun) -> Table:
    lines = []
    for result in run.select("test_gradient"):
        mode = "surrogate" if "surrogate" in result.name else "exact"
        cells = (result.extra.get("over_forward"), result.extra.get("speedup_over_torch"))
        lines.append(Line(f"{result.images_kind}, {mode}", tuple(map(_times_as, cells))))
    header = ("forward and backward", "time of forward alone", "faster than unrolled torch")
    return Table("Gradients", header, tuple(lines))


def _memory(run: BenchmarkRun) -> Table:
    lines = []
    for result in run.select("test_memory"):
        images = f"{result.params.get('batch', result.images):,} images"
        title = f"{METHODS.get(result.method, result.method)}, {images}"
        peak = result.extra.get("peak_extra_mb")
        text = "" if peak is None else number(peak)
        lines.append(Line(title, (Cell(str(result.params["threads"])), Cell(text))))
    header = ("method", "threads", "MB beyond input and output")
    return Table("Memory", header, tuple(lines))


def _errors(run: BenchmarkRun) -> Table:
    results = run.select("test_complete", threads=1)
    methods = [m for m in _methods(results) if m != "numpy"]
    lines = []
    for kind, found in _by_kind(results).items():
        cells = []
        for method in methods:
            extra = found[method].extra if method in found else {}
            pair = (extra.get("mean_error"), extra.get("max_error"))
            cells.append(Cell(" / ".join(f"{value:.1e}" for value in pair if value is not None)))
        lines.append(Line(kind, tuple(cells)))
    header = ("mean / largest", *(METHODS.get(m, m) for m in methods))
    return Table("Difference from the float64 reference, pixels in [0, 1]", header, tuple(lines))


def _times_as(ratio: float | None) -> Cell:
    return Cell("" if ratio is None else f"{number(ratio)} x")
