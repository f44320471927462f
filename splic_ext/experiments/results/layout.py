"""Results of experiments as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from splic_ext.evaluation import Provenance
from splic_ext.evaluation.tables import markdown_table, percent
from splic_ext.experiments.results.keys import attack_title, note_title
from splic_ext.experiments.results.rows import Point, Row

__all__ = ["head", "point_tables", "points_to_csv", "row_table", "rows_to_csv"]

ACCURACIES = ("mean", "all_draws", "majority")
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
    if len(methods) == 1:
        caption = f"{first.method}: {caption}"
    lines = _by_attack(rows) if len(methods) == 1 else _by_method(rows, list(methods))
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
    attacks = list(dict.fromkeys(row.attack for row in rows))
    printed = {row.attack for row in rows if row.paper is not None}
    header = ["method"]
    for attack in attacks:
        header += [attack_title(attack), *(["paper"] if attack in printed else [])]
    lines = [header]
    several = len({row.model.name for row in rows}) > 1
    for method in methods:
        name = next(row.model.name for row in rows if row.method == method)
        line = [f"{method} ({name})" if several else method]
        for attack in attacks:
            found = [row for row in rows if (row.method, row.attack) == (method, attack)]
            line.append(_cell(found[0]) if found else "")
            if attack in printed:
                paper = found[0].paper if found else None
                line.append("" if paper is None else f"{paper:.1f}")
        lines.append(line)
    return lines


def _cell(row: Row) -> str:
    text = percent(row.mean)
    return text if row.draws == 1 else f"{text} ({100 * row.all_draws.value:.1f})"


def _curves(points: Sequence[Point]) -> list[str]:
    first = points[0]
    places = sorted({(point.x, point.label) for point in points})
    series = list(dict.fromkeys(point.series for point in points))
    printed = {point.series for point in points if point.paper is not None}
    header = [first.x_name]
    for name in series:
        header += [name, "paper"] if name in printed else [name]
    kept = places
    if len(places) > MOST:
        kept = [places[round(i * (len(places) - 1) / (MOST - 1))] for i in range(MOST)]
    lines = [header]
    by_place = {(point.x, point.label, point.series): point for point in points}
    for x, label in kept:
        line = [label or f"{x:g}"]
        for name in series:
            point = by_place.get((x, label, name))
            line.append("" if point is None else _number(point))
            if name in printed:
                paper = None if point is None else point.paper
                line.append("" if paper is None else f"{paper:g}")
        lines.append(line)
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
