"""Reports of certificates as tables."""

from __future__ import annotations

from itertools import combinations

from splic_ext.certify.records import CertificateReport, PatchRecord
from splic_ext.common.notebook import markdown_of
from splic_ext.evaluation.statistics import paired_difference
from splic_ext.evaluation.tables import markdown_table, percent

__all__ = ["HEADER", "PAIRED", "paired_rows", "summary", "table_rows", "to_markdown"]

#: Titles of the columns of :func:`table_rows`.
HEADER = ("patch", "% of area", "masks", "fill", "clean %", "certified %", "pairs", "s")


#: Titles of the columns of :func:`paired_rows`.
PAIRED = ("patch", "fill", "other fill", "only it", "only the other", "difference in points")


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


def paired_rows(report: CertificateReport) -> list[tuple[str, ...]]:
    """Return a row for each two fills of a patch, in the columns of :data:`PAIRED`."""
    rows: list[tuple[str, ...]] = []
    for patch in dict.fromkeys(record.patch for record in report.records):
        for first, second in combinations(report.select(patch=patch), 2):
            found = paired_difference(first.certified, second.certified)
            value, low, high = (f"{100 * v:.1f}" for v in (found.value, found.low, found.high))
            shares = (str(found.first), str(found.second), f"{value} [{low}, {high}]")
            rows.append((patch, first.fill, second.fill, *shares))
    return rows


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


@markdown_of.register
def to_markdown(report: CertificateReport) -> str:
    """Return the report as a Markdown table with a line above it.

    Parameters
    ----------
    report : CertificateReport
        With at least one record.
    """
    lines = markdown_table([HEADER, *table_rows(report)], left=4)
    pairs = paired_rows(report)
    if pairs:
        lines += ["", "Certified on the same images:", ""]
        lines += markdown_table([PAIRED, *pairs], left=3)
    notes = ["", *(f"- {note}" for note in report.notes)] if report.notes else []
    return "\n".join([summary(report), "", *lines, *notes]) + "\n"
