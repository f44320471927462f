"""Reports as tables: rows of text, and Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from splic_ext.common.notebook import markdown_of
from splic_ext.evaluation.records import Record
from splic_ext.evaluation.reports import EvaluationReport
from splic_ext.evaluation.statistics import Accuracy

__all__ = ["HEADER", "markdown_table", "percent", "summary", "table_rows", "to_markdown"]

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

    If `short`, with the interval of the mean alone.
    """
    return [_row(record, short) for record in report.records]


def _row(record: Record, short: bool) -> tuple[str, ...]:
    size = record.perturbation
    return (
        record.attack or "clean",
        record.defense,
        str(record.draws),
        percent(record.mean),
        percent(record.all_draws, short=short),
        percent(record.majority, short=short),
        "" if size is None else f"{255 * size.linf_max:.2f}",
        "" if size is None else f"{size.l2_mean:.3f}",
        f"{record.seconds.total:.1f}",
    )


def percent(accuracy: Accuracy, *, short: bool = False) -> str:
    """Return an accuracy in % with its interval, or without if `short`."""
    value, low, high = (f"{100 * v:.1f}" for v in (accuracy.value, accuracy.low, accuracy.high))
    return value if short else f"{value} [{low}, {high}]"


def summary(report: EvaluationReport) -> str:
    """Say in a line what was evaluated, and where the time of the run went."""
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


@markdown_of.register
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
    lines = markdown_table([HEADER, *table_rows(report)], left=2)
    return "\n".join([summary(report), "", *lines, *_notes(report)]) + "\n"


def markdown_table(rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    r"""Return the lines of a Markdown table, header first, with some columns aligned to the left.

    Bars are escaped, and line breaks become spaces.

    >>> print(*markdown_table([["a", "b"], ["x|y", "1"]]), sep="\n")
    | a | b |
    | --- | ---: |
    | x\|y | 1 |
    """
    header, *body = ([_cell(text) for text in row] for row in rows)
    rule = ["---" if i < left else "---:" for i in range(len(header))]
    return ["| " + " | ".join(row) + " |" for row in (header, rule, *body)]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _notes(report: EvaluationReport) -> list[str]:
    return ["", *(f"- {note}" for note in report.notes)] if report.notes else []
