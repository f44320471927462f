"""What the page shows: sections of tables, diagrams and pictures, as its template takes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from splic_ext.evaluation import Accuracy, Provenance
from splic_ext.experiments import Row
from splic_ext.experiments.results.agreement import Agreement, agreement
from splic_ext.experiments.results.keys import CLEAN, attack_title
from splic_ext.experiments.results.rows import is_worst

__all__ = [
    "Block",
    "Cell",
    "Diagram",
    "Entry",
    "Grid",
    "Line",
    "Picture",
    "Table",
    "one_line",
    "percent_cell",
    "provenance_facts",
    "row_table",
]


@dataclass(frozen=True)
class Cell:
    """A cell of a table: text, or an accuracy in % with its interval.

    `paper` is the paper's number, `every` the share of images that are right in every draw.
    """

    text: str
    low: float | None = None
    value: float | None = None
    high: float | None = None
    paper: float | None = None
    every: float | None = None

    @property
    def verdict(self) -> Agreement | None:
        """Where the paper's number lies, if there is one."""
        if self.paper is None or self.low is None or self.high is None:
            return None
        return agreement(self.paper, self.low, self.high)

    @property
    def verdict_text(self) -> str:
        """The same in words, seen from ours."""
        if self.verdict is Agreement.WITHIN or self.paper is None or self.value is None:
            return "agrees"
        side = "lower" if self.value < self.paper else "higher"
        return f"ours {abs(self.value - self.paper):.1f} {side}"


@dataclass(frozen=True)
class Line:
    """A line of a table; `marked` is one to look at."""

    head: str
    cells: tuple[Cell, ...]
    marked: bool = False


@dataclass(frozen=True)
class Table:
    """A table: the first column of `header` is that of the heads of the lines."""

    caption: str
    header: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def bars(self) -> bool:
        """Whether there are accuracies in it."""
        return any(cell.value is not None for line in self.lines for cell in line.cells)


@dataclass(frozen=True)
class Diagram:
    """A diagram as SVG; what it says in words and its numbers, for those who do not see it."""

    title: str
    text: str
    svg: str
    table: Table


@dataclass(frozen=True)
class Picture:
    """An image as a ``data:`` address; `right`: whether a network takes it for what it is."""

    source: str
    width: int
    height: int
    text: str
    caption: str
    right: bool | None


@dataclass(frozen=True)
class Grid:
    """A gallery: titles of rows and columns, and pictures row by row."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    pictures: tuple[tuple[Picture, ...], ...]
    right: int = 0
    judged: int = 0


@dataclass(frozen=True)
class Block:
    """Part of an entry: a heading, what stands below it, and in `text` how to read it."""

    title: str
    tables: tuple[Table, ...] = ()
    diagrams: tuple[Diagram, ...] = ()
    grids: tuple[Grid, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Entry:
    """A result on the page.

    `key` is its address within the page, `warning` why its numbers mean nothing, if they do not;
    `data` names the data sets where the title does not.
    """

    key: str
    title: str
    subtitle: str
    path: str
    facts: tuple[tuple[str, str], ...] = ()
    command: str | None = None
    notes: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()
    details: tuple[Table, ...] = field(default=())
    warning: str = ""
    data: str = ""


def one_line(text: str) -> str:
    """Return a text without line breaks."""
    return " ".join(text.split())


def percent_cell(
    accuracy: Accuracy, *, paper: float | None = None, every: Accuracy | None = None
) -> Cell:
    """Return an accuracy as a cell."""
    low, value, high = (100 * x for x in (accuracy.low, accuracy.value, accuracy.high))
    share = None if every is None else 100 * every.value
    return Cell(f"{value:.1f}", low, value, high, paper, share)


def row_table(rows: Sequence[Row]) -> Table:
    """Return the rows of a section: methods down and attacks across, or attacks down if one."""
    methods = list(dict.fromkeys(row.method for row in rows))
    caption = _caption(rows, methods)
    if len(methods) == 1:
        names = ("attack", "one draw", "every draw", "vote")
        marked = not all(is_worst(row) for row in rows if row.parameters)
        lines = tuple(
            Line(
                one_line(attack_title(row.attack)),
                (
                    percent_cell(row.mean, paper=row.paper),
                    percent_cell(row.all_draws),
                    percent_cell(row.majority),
                ),
                marked and is_worst(row),
            )
            for row in rows
        )
        return Table(caption, names, lines)
    attacks = list(dict.fromkeys(row.attack for row in rows))
    found: Mapping[tuple[str, str], Row] = {(r.method, r.attack): r for r in reversed(rows)}
    lines = tuple(
        Line(one_line(method), tuple(_cell(found.get((method, attack))) for attack in attacks))
        for method in methods
    )
    titles = (one_line(attack_title(attack)) for attack in attacks)
    return Table(caption, ("method", *titles), lines)


def _cell(row: Row | None) -> Cell:
    if row is None:
        return Cell("")
    every = None if row.draws == 1 else row.all_draws
    return percent_cell(row.mean, paper=row.paper, every=every)


def _caption(rows: Sequence[Row], methods: Sequence[str]) -> str:
    most = max(row.mean.n for row in rows)
    fewer = {row.attack: row.mean.n for row in rows if row.mean.n < most}
    data = _all(row.dataset.name for row in rows)
    parts = [f"{most:,} images of {data}", _all(row.model.name for row in rows)]
    parts.append(f"{_all(row.scenario for row in rows if row.attack != CLEAN) or 'no'} box")
    draws = max(row.draws for row in rows)
    if draws > 1:
        parts.append(f"{draws} draws")
    caption = ", ".join(parts)
    caption += "".join(f"; {attack_title(attack)}: the first {n:,}" for attack, n in fewer.items())
    return one_line(f"{methods[0]}: {caption}" if len(methods) == 1 else caption)


def _all(names: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(names))


def provenance_facts(origin: Provenance) -> tuple[tuple[str, str], ...]:
    """Return when, on what and with which versions a result was made."""
    machine = origin.machine
    threads = f"{machine.network_threads} of torch, {machine.solver_threads} of the solver"
    versions = ", ".join(f"{name} {v}" for name, v in origin.versions.items() if v)
    cores = "" if machine.cores is None else f"{machine.cores} cores, "
    return (
        ("Date", origin.date[:10]),
        ("Machine", f"{machine.cpu}, {cores}{machine.system}, {machine.device}"),
        ("Threads", threads),
        ("Versions", versions),
        ("Code", origin.code[:12]),
    )
