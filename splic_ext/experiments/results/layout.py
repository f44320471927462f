"""Results of experiments as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from splic_ext.evaluation import Provenance
from splic_ext.evaluation.records import ACCURACIES
from splic_ext.evaluation.tables import markdown_table, percent
from splic_ext.experiments.results.keys import attack_title, note_title
from splic_ext.experiments.results.rows import Point, Row

__all__ = ["head", "point_tables", "points_to_csv", "row_table", "rows_to_csv"]

#: Most lines of a table of points.
MOST = 12


def head(provenance: Provenance, notes: Sequence[str], *, accuracies: bool) -> list[str]:
    """Return how a result came about, and how to read its accuracies if there are any."""
    versions = ", ".join(
        f"{name} {version}" for name, version in provenance.versions.items() if version
    )
    machine = provenance.machine
    lines = [
        "Accuracy in %, mean over the draws, with 95 % Wilson intervals over the images; in round "
        "brackets the share of images that are right in every draw.",
        "",
    ]
    lines = lines if accuracies else []
    lines += [f"- {provenance.date[:10]}, {machine.cpu}, {machine.cores} cores; {versions}"]
    if provenance.command is not None:
        lines.append(f"- `{provenance.command}`")
    return lines + [f"- {note_title(note)}" for note in notes]


def rows_to_csv(rows: Iterable[Row]) -> str:
    """Return one line for each row, accuracies in %."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["section", "dataset", "images", "network", "scenario", "method", "attack", "draws"]
        + [f"{name}{end}" for name in ACCURACIES for end in ("", "_low", "_high")]
        + ["paper", "defense", "parameters"]
    )
    for row in rows:
        values = [getattr(row, name) for name in ACCURACIES]
        writer.writerow(
            [row.section, row.dataset.name, row.mean.n, row.model.name, row.scenario]
            + [row.method, attack_title(row.attack), row.draws]
            + [f"{100 * x:.2f}" for a in values for x in (a.value, a.low, a.high)]
            + ["" if row.paper is None else row.paper, row.defense, row.parameters]
        )
    return text.getvalue()


def points_to_csv(points: Iterable[Point]) -> str:
    """Return one line for each point."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("section", "series", "x_name", "x", "label", "y_name", "y", "low", "high", "n")
    writer.writerow([*names, "paper", "dataset"])
    for point in points:
        values = [getattr(point, name) for name in (*names, "paper", "dataset")]
        writer.writerow(["" if value is None else value for value in values])
    return text.getvalue()


def row_table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of a section: methods down and attacks across, or attacks down."""
    first = rows[0]
    most = max(row.mean.n for row in rows)
    fewer = {row.attack: row.mean.n for row in rows if row.mean.n < most}
    methods = dict.fromkeys(row.method for row in rows)
    networks = dict.fromkeys(row.model.name for row in rows)
    network = first.model.name if len(networks) == 1 else "networks in brackets"
    caption = f"{most:,} images of {first.dataset.name}, {network}"
    caption += "".join(f"; {attack_title(attack)}: the first {n:,}" for attack, n in fewer.items())
    lines = _by_method(rows, list(methods))
    if len(methods) == 1:
        caption, lines = f"{first.method}: {caption}", _by_attack(rows)
    return [f"{' '.join(caption.split())}.", "", *markdown_table(lines)]


def point_tables(points: Sequence[Point]) -> list[str]:
    """Return the lines of a section: for each diagram x down and series across.

    Clouds of points have none, and of long curves some values must do.
    """
    lines: list[str] = []
    for key in dict.fromkeys((point.x_name, point.y_name) for point in points):
        some = [p for p in points if (p.x_name, p.y_name) == key and p.kind != "scatter"]
        if some:
            lines += [*([""] if lines else []), *_curves(some)]
    return lines


def _by_attack(rows: Sequence[Row]) -> list[list[str]]:
    lines = [["attack", "one draw", "every draw", "vote"]]
    for row in rows:
        cells = map(percent, (row.mean, row.all_draws, row.majority))
        lines.append([attack_title(row.attack), *cells])
    return lines


def _by_method(rows: Sequence[Row], methods: Sequence[str]) -> list[list[str]]:
    found = {(row.method, row.attack): row for row in reversed(rows)}  # of equals, the first
    several = len({row.model.name for row in rows}) > 1
    networks = {row.method: row.model.name for row in reversed(rows)}
    return _grid(
        "method",
        {method: f"{method} ({networks[method]})" if several else method for method in methods},
        {row.attack: attack_title(row.attack) for row in rows},
        {place: _cell(row) for place, row in found.items()},
        {place: f"{row.paper:.1f}" for place, row in found.items() if row.paper is not None},
    )


def _grid(
    corner: str,
    lines: Mapping[Any, str],
    columns: Mapping[str, str],
    cells: Mapping[tuple[Any, str], str],
    paper: Mapping[tuple[Any, str], str],
) -> list[list[str]]:
    """Return a table, with the paper's numbers beside the columns that have some."""
    printed = {column for _, column in paper}
    header = [corner]
    for column, title in columns.items():
        header += [title, "paper"] if column in printed else [title]
    table = [header]
    for key, head in lines.items():
        line = [head]
        for column in columns:
            line.append(cells.get((key, column), ""))
            if column in printed:
                line.append(paper.get((key, column), ""))
        table.append(line)
    return table


def _cell(row: Row) -> str:
    text = percent(row.mean)
    return text if row.draws == 1 else f"{text} ({100 * row.all_draws.value:.1f})"


def _curves(points: Sequence[Point]) -> list[str]:
    first = points[0]
    places = sorted({(point.x, point.label) for point in points})
    kept = places
    if len(places) > MOST:
        kept = [places[round(i * (len(places) - 1) / (MOST - 1))] for i in range(MOST)]
    found = {((point.x, point.label), point.series): point for point in points}
    lines = _grid(
        first.x_name,
        {(x, label): label or f"{x:g}" for x, label in kept},
        {point.series: point.series for point in points},
        {place: _number(point) for place, point in found.items()},
        {place: f"{point.paper:g}" for place, point in found.items() if point.paper is not None},
    )
    counts = [(point.label, point.n) for point in points if point.n is not None]
    caption = first.y_name
    if counts:
        most = max(n for _, n in counts)
        caption += f"; {most:,} images"
        fewer = {label: n for label, n in counts if n < most}
        caption += "".join(f"; {label}: the first {n:,}" for label, n in fewer.items() if label)
    if len(kept) < len(places):
        caption += f"; {len(kept)} of {len(places)} places"
    return [f"{' '.join(caption.split())}.", "", *markdown_table(lines)]


def _number(point: Point) -> str:
    if point.low is None or point.high is None:
        return f"{point.y:.4g}"
    return f"{point.y:.1f} [{point.low:.1f}, {point.high:.1f}]"
