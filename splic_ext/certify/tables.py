"""Reports of certificates as tables."""

from __future__ import annotations

from splic_ext.certify.records import CertificateReport, PatchRecord
from splic_ext.evaluation.tables import markdown_table, percent

__all__ = ["HEADER", "summary", "table_rows", "to_markdown"]

#: Titles of the columns of :func:`table_rows`.
HEADER = ("patch", "% of area", "masks", "fill", "clean %", "certified %", "pairs", "s")


def table_rows(report: CertificateReport, *, short: bool = False) -> list[tuple[str, ...]]:
    """Return one row of text for each record, in the columns of :data:`HEADER`."""
    return [_row(record, short) for record in report.records]


def _row(record: PatchRecord, short: bool) -> tuple[str, ...]:
    number = f"{record.patches} of " if record.patches > 1 else ""
    return (
        f"{number}{record.patch}",
        f"{100 * record.area:.1f}",
        f"{record.masks} of {record.mask}",
        record.fill,
        percent(record.clean_accuracy, short=short),
        percent(record.certified_accuracy, short=short),
        f"{sum(record.pairs):,}",
        f"{record.seconds.total:.1f}",
    )


def summary(report: CertificateReport) -> str:
    """Say in a line what was certified, and where the time of the run went."""
    first, seconds = report.records[0], report.seconds
    data = first.dataset
    split = "" if data.split is None else f" ({data.split})"
    return (
        f"{data.images} images of {data.name}{split}, {first.model.name}: "
        f"{percent(first.plain_accuracy)} % right without masks; {seconds.total:.1f} s in this "
        f"run: fill {seconds.fill:.1f}, network {seconds.network:.1f}, rest {seconds.rest:.1f}"
    )


def to_markdown(report: CertificateReport) -> str:
    """Return the report as a Markdown table with a line above it.

    Parameters
    ----------
    report : CertificateReport
        With at least one record.
    """
    lines = markdown_table([HEADER, *table_rows(report)], left=4)
    notes = ["", *(f"- {note}" for note in report.notes)] if report.notes else []
    return "\n".join([summary(report), "", *lines, *notes]) + "\n"
