"""From a result to what the page shows of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from splic_ext.evaluation import EvaluationReport
from splic_ext.evaluation.tables import HEADER, table_rows
from splic_ext.experiments import ExperimentResult, Row
from splic_ext.experiments.results import keys
from splic_ext.report.figures import curve_points, draw_diagrams, family_points, show_gallery
from splic_ext.report.views import (
    Block,
    Cell,
    Entry,
    Line,
    Table,
    one_line,
    provenance_facts,
    row_table,
)

__all__ = [
    "SMOKE",
    "address",
    "evaluation_entry",
    "evaluation_rows",
    "result_entry",
]

#: Why a smoke test is no result.
SMOKE = "A smoke test: it shows that all of it runs. Its numbers mean nothing."
#: Section of the adaptive protocol, by its key -> how its numbers are read.
READING = {
    "gradients": "The worst of them is the result: an upper bound of the robust accuracy.",
    "still": "Must be near 0 %: otherwise the attack is broken, and all other numbers say nothing.",
    "draws": "Must be flat at the end: otherwise more draws would find more.",
    "losses": "If another is far below PGD with cross-entropy, the gradients above are too kind.",
    "steps": "Must be flat: otherwise more steps would find more.",
    "radius": "Must fall towards 0 %: an attack that may do anything and does not succeed is "
    "broken.",
    "queries": "Must not be below the gradients: otherwise these are masked.",
    "transfer": "Must not be below the gradients: otherwise these are masked.",
    "surrogates": "Likewise.",
    "parts": "What the defence has of each part.",
    "broken": "Must fall: what leaves these standing is no attack.",
}
#: Heading of the only part of an entry.
ACCURACY = "Accuracy"


def result_entry(path: str, result: ExperimentResult) -> Entry:
    """Return the entry of an experiment."""
    sections = dict.fromkeys(
        [row.section for row in result.rows]
        + [point.section for point in result.points]
        + [gallery.section for gallery in result.galleries]
    )
    data = [f"{row.dataset.name}, {row.model.name}" for row in result.rows]
    data += [info.name for info in result.datasets]
    names = {info.name for info in result.datasets} if result.rows else set()
    images = [row.dataset.name for row in result.rows] + [info.name for info in result.datasets]
    return Entry(
        key=address(result.name, path),
        title=one_line(result.title),
        subtitle=one_line("; ".join(d for d in dict.fromkeys(data) if d not in names)),
        path=path,
        facts=provenance_facts(result.provenance),
        command=result.provenance.command,
        notes=tuple(one_line(keys.note_title(note)) for note in result.notes),
        blocks=_side_by_side([_block(result, section) for section in sections]),
        details=_details(result.rows),
        warning=SMOKE if result.budget == keys.SMOKE else "",
        data=one_line(", ".join(dict.fromkeys(images))),
    )


def evaluation_rows(report: EvaluationReport) -> tuple[Row, ...]:
    """Return the records of an evaluation as rows."""
    return tuple(
        Row.from_record(record, ACCURACY, record.defense, record.attack or keys.CLEAN)
        for record in report.records
    )


def evaluation_entry(path: str, report: EvaluationReport) -> Entry:
    """Return the entry of an evaluation."""
    if not report.records:
        raise ValueError("it has no records")
    rows = evaluation_rows(report)
    first = report.records[0]
    title = f"Evaluation of {first.model.name} on {first.dataset.name}, {first.scenario} box"
    lines = [_text_line(values) for values in table_rows(report, short=True)]
    sizes = Table("Perturbations and times", HEADER, tuple(lines))
    facts = provenance_facts(report.records[-1].provenance)
    surrogate = "" if first.surrogate is None else f", attacked on {first.surrogate.name}"
    return Entry(
        key=address("evaluation", path),
        title=one_line(title),
        subtitle=one_line(f"{first.dataset.images:,} images, seed {first.seed}{surrogate}"),
        path=path,
        facts=facts,
        command=report.records[-1].provenance.command,
        notes=tuple(map(one_line, report.notes)),
        blocks=(Block(ACCURACY, (row_table(rows),), draw_diagrams(curve_points(rows))),),
        details=(sizes, *_details(rows)),
    )


def address(name: str, path: str) -> str:
    """Return a name within the page, of letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", f"{name} {path}".lower()).strip("-")


def _block(result: ExperimentResult, section: str) -> Block:
    rows = result.select(section=section)
    points = [point for point in result.points if point.section == section]
    diagrams = draw_diagrams(points)
    if rows and not points:  # what follows from the rows
        diagrams = draw_diagrams(curve_points(rows))
        diagrams += draw_diagrams(family_points(rows), joined=False)
    galleries = [gallery for gallery in result.galleries if gallery.section == section]
    adaptive = result.name == keys.ADAPTIVE
    return Block(
        one_line(section[:1].upper() + section[1:] if adaptive else section),
        (row_table(rows),) if rows else (),
        tuple(replace(diagram, title="") for diagram in diagrams),
        tuple(map(show_gallery, galleries)),
        READING.get(keys.section_key(section) or "", "") if adaptive else "",
    )


def _side_by_side(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Put blocks that are diagrams alone together with their neighbours of this kind."""
    found: list[Block] = []
    for block in blocks:
        alone = bool(block.diagrams) and not (block.tables or block.grids or block.text)
        if not alone:
            found.append(block)
            continue
        titled = tuple(replace(diagram, title=block.title) for diagram in block.diagrams)
        last = found[-1] if found else None
        if last is not None and not (last.title or last.tables or last.grids):
            found[-1] = replace(last, diagrams=last.diagrams + titled)
        else:
            found.append(Block("", diagrams=titled))
    return tuple(found)


def _details(rows: Sequence[Row]) -> tuple[Table, ...]:
    if not rows:
        return ()
    defenses = dict.fromkeys((row.method, row.defense) for row in rows)
    attacks = dict.fromkeys(
        (keys.attack_title(row.attack), row.parameters) for row in rows if row.parameters
    )
    networks = dict.fromkeys((row.model.name, row.model.sha256[:12]) for row in rows)
    data = {
        (info.name if info.split is None else f"{info.name}/{info.split}"): (
            f"{info.images:,}",
            " x ".join(map(str, info.shape)),
            info.sha256[:12],
        )
        for info in (row.dataset for row in rows)
    }
    found = [
        Table("Defences", ("method", "parameters"), _lines(defenses)),
        Table("Attacks", ("attack", "parameters"), _lines(attacks)),
        Table("Networks", ("network", "SHA-256"), _lines(networks)),
        Table(
            "Images",
            ("data set", "images", "shape", "SHA-256"),
            _lines((name, *values) for name, values in data.items()),
        ),
    ]
    return tuple(table for table in found if table.lines)


def _lines(values: Iterable[Sequence[str]]) -> tuple[Line, ...]:
    return tuple(map(_text_line, values))


def _text_line(values: Sequence[str]) -> Line:
    head, *others = map(one_line, values)
    return Line(head, tuple(map(Cell, others)))
