"""The solver's speed beside its peers, and the search for the preset "recommended".

Both are files that ``benchmarks/`` writes. Here they are read, and become entries of the page and
tables, which ``benchmarks/make_tables.py`` puts into the documentation as well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from splic_ext.experiments import Point
from splic_ext.report.entries import SMOKE, address
from splic_ext.report.figures import draw_diagrams
from splic_ext.report.views import Block, Cell, Entry, Line, Table, one_line
from splic_ext.runs.plain import decode, not_too_deep, read_versioned

__all__ = [
    "BATCHES",
    "Benchmark",
    "BenchmarkRun",
    "TuningRun",
    "benchmark_entry",
    "number",
    "search_entry",
    "speed_tables",
]

#: Of both JSON forms.
SCHEMA_VERSION = 1
#: Back ends and their peers, in the order of a table, and how it names them.
METHODS = {
    "cpu": "SPLIC, cpu",
    "cuda": "SPLIC, cuda",
    "torch block iteration": "torch block",
    "torch.linalg.eigh": "torch eigh",
    "torch.linalg.svd": "torch SVD",
    "numpy.linalg.svd": "NumPy SVD",
    "numpy": "SPLIC, numpy (float64)",
}
#: Titles of the tables that have diagrams.
ONE_THREAD, BATCHES = "Time, 1 thread", "Throughput by batch"
#: Keys of a search that no table here shows.
OTHERS = ("machine", "versions", "threads", "round_1", "photograph_psnr", "test_report")


@dataclass(frozen=True)
class BenchmarkMachine:
    """What the benchmarks ran on."""

    cpu: str
    cores: int
    system: str
    simd: str | None
    splic_ext: str
    numpy: str
    torch: str | None
    python: str
    gpu: str | None


@dataclass(frozen=True)
class Benchmark:
    """One of them; `extra` has its errors, ratios, latency and memory."""

    group: str
    name: str
    method: str
    data: str
    params: dict[str, Any]
    rounds: int
    median_s: float
    iqr_s: float
    images: int
    matrix_iterations: int
    images_per_second: float
    us_per_matrix_iteration: float
    extra: dict[str, float]

    def __post_init__(self) -> None:
        for key in ("size", "channels", "threads"):
            if type(self.params.get(key)) is not int:
                raise ValueError(
                    f"`params` of a benchmark must have the integer {key!r}, got "
                    f"{self.params.get(key)!r}; take a file as it was written"
                )

    @property
    def test(self) -> str:
        """The test without its parameters."""
        return self.name.partition("[")[0]

    @property
    def method_name(self) -> str:
        """How a table names the method."""
        return METHODS.get(self.method, self.method)

    @property
    def images_kind(self) -> str:
        """Kind of images: size and channels."""
        params = self.params
        kind = "gray" if params["channels"] == 1 else f"RGB, {params.get('mode')}"
        enlarged = ", enlarged" if params.get("enlarged") else ""
        return f"{params['size']} x {params['size']}, {kind}{enlarged}"

    @property
    def batch(self) -> int:
        """Images in a call."""
        return int(self.params.get("batch", self.images))


@dataclass(frozen=True)
class BenchmarkRun:
    """What ``benchmarks/condense.py`` keeps of a run; the numbers of a `quick` one mean nothing."""

    date: str
    commit: str | None
    command: str
    quick: bool
    machine: BenchmarkMachine
    results: tuple[Benchmark, ...]

    @classmethod
    def from_json(cls, text: str) -> BenchmarkRun:
        """Return the run that a text in JSON holds."""
        what = "a result of the benchmarks"
        with not_too_deep(what):
            values = read_versioned(text, SCHEMA_VERSION, what)
            if isinstance(values.get("machine"), dict):
                values["machine"].setdefault("gpu", None)  # of machines that have one
            return decode(cls, values, "benchmarks")

    def select(self, test: str, **params: Any) -> Sequence[Benchmark]:
        """Return those of a test, with these parameters."""
        return [
            result
            for result in self.results
            if result.test == test
            and all(result.params.get(key) == value for key, value in params.items())
        ]


@dataclass(frozen=True)
class Setting:
    """Solver options that were tried, those that differ from "paper"; None is no defence."""

    options: dict[str, Any] | None
    clean: float
    clean_interval: tuple[float, ...]
    fgsm: float
    fgsm_interval: tuple[float, ...]
    pgd: float
    pgd_interval: tuple[float, ...]
    score: float

    @property
    def title(self) -> str:
        """How a table names it."""
        if self.options is None:
            return "no defence"
        changes = (f"{key}={json.dumps(value)}" for key, value in self.options.items())
        return ", ".join(changes) or "preset paper"


@dataclass(frozen=True)
class TuningRun:
    """What decided on the preset: the second round of the search."""

    date: str
    command: str
    data: str
    images: dict[str, int]
    seeds: dict[str, int]
    undefended: Setting
    chosen: dict[str, Any]
    round_2: tuple[Setting, ...]
    versions: dict[str, str | None]
    cpu: str

    @classmethod
    def from_json(cls, text: str) -> TuningRun:
        """Return the search that a text in JSON holds."""
        what = "the search for a preset"
        with not_too_deep(what):
            values = read_versioned(text, SCHEMA_VERSION, what)
            shown = {key: value for key, value in values.items() if key not in OTHERS}
            machine = values.get("machine")
            shown["versions"] = values.get("versions")
            shown["cpu"] = machine.get("cpu") if isinstance(machine, dict) else None
            for key in ("undefended", "round_2"):
                shown[key] = _settings(shown.get(key))
            return decode(cls, shown, "search")


def _settings(values: Any) -> Any:
    """Keep what a :class:`Setting` has."""
    if isinstance(values, list):
        return [_settings(value) for value in values]
    if not isinstance(values, dict):
        return values
    return {key: value for key, value in values.items() if key in Setting.__dataclass_fields__}


def benchmark_entry(path: str, run: BenchmarkRun) -> Entry:
    """Return the entry of a run of the benchmarks."""
    machine = run.machine
    curves = {ONE_THREAD: _sizes(run), BATCHES: _throughput(run)}
    blocks = [
        Block(title, (table,), draw_diagrams(curves.get(title, ())))
        for title, table in speed_tables(run).items()
    ]
    simd = "" if machine.simd is None else f", {machine.simd}"
    gpu = "" if machine.gpu is None else f", {machine.gpu}"
    versions = {name: getattr(machine, name) for name in ("splic_ext", "python", "numpy", "torch")}
    return Entry(
        key=address("speed", path),
        title=f"Solver speed on {machine.cpu}{simd}{gpu}",
        subtitle="the same algorithm around library decompositions, on the same images, masks and "
        "threads; every answer is checked against the float64 reference",
        path=path,
        facts=(
            ("Date", run.date[:10]),
            ("Machine", f"{machine.cpu}, {machine.cores} cores, {machine.system}{gpu}"),
            ("Versions", ", ".join(f"{name} {v}" for name, v in versions.items() if v)),
            ("Commit", (run.commit or "unknown")[:12]),
            ("Images", "; ".join(dict.fromkeys(result.data for result in run.results))),
        ),
        command=run.command,
        blocks=tuple(blocks),
        warning=SMOKE if run.quick else "",
    )


def search_entry(path: str, run: TuningRun) -> Entry:
    """Return the entry of the search for the preset "recommended"."""
    images, seeds = run.images.get("round_2", 0), run.seeds.get("round_2", 0)
    table = Table(
        f"Second round: {images:,} images, {seeds} mask seeds; the score is the mean of the three. "
        "The line that is marked was chosen",
        ("options beside the preset paper", "clean", "FGSM", "PGD", "score"),
        tuple(_setting(setting, run) for setting in (run.undefended, *run.round_2)),
    )
    return Entry(
        key=address("search", path),
        title='The search for the preset "recommended"',
        subtitle=one_line(run.data),
        path=path,
        facts=(
            ("Date", run.date[:10]),
            ("Machine", run.cpu),
            ("Versions", ", ".join(f"{name} {v}" for name, v in run.versions.items() if v)),
        ),
        command=run.command,
        notes=("The network was trained on these images, which flatters all accuracies.",),
        blocks=(Block("", (table,)),),
    )


def _setting(setting: Setting, run: TuningRun) -> Line:
    cells = []
    for kind in ("clean", "fgsm", "pgd"):
        value, interval = getattr(setting, kind), getattr(setting, f"{kind}_interval")
        cells.append(Cell(f"{value:.1f}", min(interval), value, max(interval)))
    cells.append(Cell(f"{setting.score:.1f}"))
    return Line(setting.title, tuple(cells), marked=setting.options == run.chosen)


def number(value: float) -> str:
    """Return a number with three significant digits."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:.3g}"


def speed_tables(run: BenchmarkRun) -> dict[str, Table]:
    """Return the tables of a run that are not empty, by their titles."""
    tables = {
        ONE_THREAD: _times(run.select("test_complete", threads=1)),
        "Time, 2 threads": _times(run.select("test_complete_two_threads", threads=2)),
        "Time, GPU": _times(run.select("test_cuda")),
        BATCHES: _batches(run),
    }
    others = (_ratios(run), _gradients(run), _memory(run), _errors(run))
    tables |= {table.caption: table for table in others}
    return {title: table for title, table in tables.items() if table.lines}


def _grid(
    caption: str, corner: str, names: Iterable[str], rows: Iterable[tuple[str, Mapping[str, str]]]
) -> Table:
    """Return a table of rows that have their texts by the names of columns."""
    names = tuple(names)
    lines = (Line(head, tuple(Cell(found.get(name, "")) for name in names)) for head, found in rows)
    return Table(caption, (corner, *names), tuple(lines))


def _methods(results: Iterable[Benchmark]) -> list[str]:
    known = list(METHODS.values())
    names = dict.fromkeys(result.method_name for result in results)
    return sorted(names, key=lambda name: known.index(name) if name in known else len(known))


def _times(results: Sequence[Benchmark]) -> Table:
    methods = _methods(results)
    own = methods[0] if methods else ""  # the library's own comes first
    rate = f"{own}: images/s"
    kinds: dict[str, dict[str, str]] = {}
    for result in results:
        texts = kinds.setdefault(result.images_kind, {})
        texts[result.method_name] = number(result.us_per_matrix_iteration)
        if result.method_name == own:
            texts[rate] = number(result.images_per_second)
    caption = "Microseconds for one iteration of one matrix"
    return _grid(caption, "images", (*methods, rate), kinds.items())


def _batches(run: BenchmarkRun) -> Table:
    results = run.select("test_batch")
    rates: dict[str, dict[str, str]] = {}
    for result in results:
        texts = rates.setdefault(f"{result.batch:,}", {})
        texts[_threads(result)] = number(result.images_per_second)
    kinds = ", ".join(dict.fromkeys(result.images_kind for result in results))
    threads = dict.fromkeys(map(_threads, results))
    return _grid(f"Images per second, {kinds}", "images in a call", threads, rates.items())


def _threads(result: Benchmark) -> str:
    return f"{result.params['threads']} threads".replace("1 threads", "1 thread")


def _ratios(run: BenchmarkRun) -> Table:
    names = {
        "speedup_over_torch_svd": "torch SVD",
        "speedup_over_torch_eigh": "torch eigh",
        "speedup_over_torch_block": "torch block",
    }
    rows = [(r.images_kind, _times_as(r, names)) for r in run.select("test_speedup")]
    found = (name for name in names.values() if any(name in texts for _, texts in rows))
    return _grid("How many times faster, calls in turn", "images", found, rows)


def _gradients(run: BenchmarkRun) -> Table:
    names = {
        "over_forward": "time of forward alone",
        "speedup_over_torch": "faster than unrolled torch",
    }
    rows = []
    for result in run.select("test_gradient"):
        mode = "surrogate" if "surrogate" in result.name else "exact"
        rows.append((f"{result.images_kind}, {mode}", _times_as(result, names)))
    return _grid("Gradients", "forward and backward", names.values(), rows)


def _times_as(result: Benchmark, names: Mapping[str, str]) -> dict[str, str]:
    """Return ratios of a benchmark by their names."""
    extra = result.extra
    return {name: f"{number(extra[key])} x" for key, name in names.items() if key in extra}


def _memory(run: BenchmarkRun) -> Table:
    names = ("threads", "MB beyond input and output")
    rows = []
    for result in run.select("test_memory"):
        peak = result.extra.get("peak_extra_mb")
        texts = (str(result.params["threads"]), "" if peak is None else number(peak))
        title = f"{result.method_name}, {result.batch:,} images"
        rows.append((title, dict(zip(names, texts, strict=True))))
    return _grid("Memory", "method", names, rows)


def _errors(run: BenchmarkRun) -> Table:
    results = [r for r in run.select("test_complete", threads=1) if r.method != "numpy"]
    kinds: dict[str, dict[str, str]] = {}
    for result in results:
        pair = [result.extra[k] for k in ("mean_error", "max_error") if k in result.extra]
        text = " / ".join(f"{value:.1e}" for value in pair)
        kinds.setdefault(result.images_kind, {})[result.method_name] = text
    caption = "Difference from the float64 reference, pixels in [0, 1]"
    return _grid(caption, "mean / largest", _methods(results), kinds.items())


def _sizes(run: BenchmarkRun) -> list[Point]:
    """Time over the size of the images: colour, stacked, 1 thread."""
    return [
        Point(
            section="colour images, channels stacked",
            series=result.method_name,
            x_name="side of the images (pixels)",
            x=math.log2(result.params["size"]),
            y_name="microseconds per iteration",
            y=result.us_per_matrix_iteration,
            label=str(result.params["size"]),
        )
        for result in run.select("test_complete", threads=1, channels=3, mode="stacked")
        if not result.params.get("enlarged")
    ]


def _throughput(run: BenchmarkRun) -> list[Point]:
    return [
        Point(
            section=result.images_kind,
            series=_threads(result),
            x_name="images in a call",
            x=float(result.batch),
            y_name="images per second",
            y=result.images_per_second,
        )
        for result in run.select("test_batch")
    ]
