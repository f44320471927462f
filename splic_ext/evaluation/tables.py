"""Reports as tables: rows of text, and Markdown."""

from __future__ import annotations

from splic_ext.evaluation.records import Record
from splic_ext.evaluation.reports import EvaluationReport
from splic_ext.evaluation.statistics import Accuracy

__all__ = ["HEADER", "summary", "table_rows", "to_markdown"]

#: Titles of the columns of :func:`table_rows`.
HEADER = (
    "attack",
    "defence",
    "draws",
    "mean %",
    "all draws %",
    "vote %",
    "L-inf /255",
    "L2",
    "s",
)


def table_rows(report: EvaluationReport, *, short: bool = False) -> list[tuple[str, ...]]:
    """Return one row of text for each record, in the columns of :data:`HEADER`.

    Parameters
    ----------
    report : EvaluationReport
    short : bool, default False
        Give the interval of the mean alone.

    Returns
    -------
    list of tuple of str
        Accuracies with their 95 % intervals; largest L-inf and mean L2 of the perturbations.
    """
    return [_row(record, short) for record in report.records]


def _row(record: Record, short: bool) -> tuple[str, ...]:
    size = record.perturbation
    return (
        record.attack or "clean",
        record.defense,
        str(record.draws),
        _percent(record.mean),
        _percent(record.all_draws, short),
        _percent(record.majority, short),
        "" if size is None else f"{255 * size.linf_max:.2f}",
        "" if size is None else f"{size.l2_mean:.3f}",
        f"{record.seconds.total:.1f}",
    )


def _percent(accuracy: Accuracy, short: bool = False) -> str:
    value, low, high = (f"{100 * v:.1f}" for v in (accuracy.value, accuracy.low, accuracy.high))
    return value if short else f"{value} [{low}, {high}]"


def summary(report: EvaluationReport) -> str:
    """Say in a line what was evaluated, and where the time of the run went.

    Parameters
    ----------
    report : EvaluationReport
        With at least one record.

    Returns
    -------
    str
    """
    first, seconds = report.records[0], report.seconds
    data, surrogate = first.dataset, first.surrogate
    split = "" if data.split is None else f" ({data.split})"
    attacked = "" if surrogate is None else f", attacked on {surrogate.name}"
    return (
        f"{first.scenario} box, {data.images} images of {data.name}{split}, "
        f"{first.model.name}{attacked}, seed {first.seed}; {seconds.total:.1f} s in this run: "
        f"attack {seconds.attack:.1f}, defence {seconds.defense:.1f}, network "
        f"{seconds.network:.1f}, rest {seconds.rest:.1f}"
    )


def to_markdown(report: EvaluationReport) -> str:
    """Return the report as a Markdown table with a line above it.

    Parameters
    ----------
    report : EvaluationReport
        With at least one record.

    Returns
    -------
    str
    """
    rows = [HEADER, tuple("---" if i < 2 else "---:" for i in range(len(HEADER)))]
    rows += [tuple(cell.replace("|", "\\|") for cell in row) for row in table_rows(report)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([summary(report), "", *lines, *_notes(report)]) + "\n"


def _notes(report: EvaluationReport) -> list[str]:
    return ["", *(f"- {note}" for note in report.notes)] if report.notes else []
