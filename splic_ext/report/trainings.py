"""From the record of a training to what the page shows of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

from splic_ext.experiments import Point
from splic_ext.report.entries import address
from splic_ext.report.figures import draw_diagrams
from splic_ext.report.views import Block, Cell, Entry, Line, Table, one_line, provenance_facts
from splic_ext.training.records import EpochSeconds, TrainingRecord

__all__ = ["training_entry"]

#: Parts of the time that tables name otherwise.
PARTS = {"defense": "defence"}


def training_entry(path: str, record: TrainingRecord) -> Entry:
    """Return the entry of a training."""
    options = record.options
    total = sum((epoch.seconds for epoch in record.history), EpochSeconds())
    spent = tuple(
        Line(PARTS.get(part.name, part.name), (Cell(f"{getattr(total, part.name):,.1f}"),))
        for part in fields(total)
    )
    chosen = tuple(
        Line(name, (Cell("none" if value is None else one_line(str(value))),))
        for name, value in options.to_dict().items()
    )
    data = record.dataset
    behind = options.defense
    if behind == "identity" and not record.defense_repr.startswith("Identity("):
        behind = record.defense_repr  # it was given as an object
    changed = "" if options.adversarial is None else f", attacked by {options.adversarial}"
    if options.cutout is not None:
        changed += f", boxes {options.cutout} filled by {options.fill}"
    if options.ablate is not None:
        changed += f", ablated to {options.ablate}, encoded by {options.encoding}"
    diagrams = draw_diagrams(tuple(_points(record))) if record.history else ()
    return Entry(
        key=address("training", path),
        title=one_line(f"Training of {record.model.name} on {data.name}"),
        subtitle=one_line(
            f"{data.images:,} images behind {behind}{changed}; {len(record.history)} epochs"
        ),
        path=path,
        facts=(
            *provenance_facts(record.provenance),
            ("Processes", str(record.processes)),
            ("Weights", f"SHA-256 {record.model.sha256[:12]}"),
            ("Defence", record.defense_repr),
            *((("Fill", record.fill_repr),) if record.fill_repr is not None else ()),
        ),
        command=record.provenance.command,
        notes=tuple(map(one_line, record.notes)),
        blocks=(
            Block(
                "Loss and accuracy",
                diagrams=tuple(replace(diagram, title="") for diagram in diagrams),
            ),
            Block("Time", (Table("Seconds of all epochs", ("part", "s"), spent),)),
        ),
        details=(Table("Options", ("option", "value"), chosen),),
    )


def _points(record: TrainingRecord) -> Iterator[Point]:
    for epoch in record.history:
        yield Point("training", "loss", "epoch", float(epoch.epoch), "loss", epoch.loss)
    for epoch in record.history:
        found = {"training images": epoch.train_accuracy, "test images": epoch.test_accuracy}
        for series, value in found.items():
            if value is not None:
                x = float(epoch.epoch)
                yield Point("training", series, "epoch", x, "accuracy (%)", 100 * value)
