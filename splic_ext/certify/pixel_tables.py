"""Certificates against changed pixels as tables."""

from __future__ import annotations

from splic_ext.certify.pixel_records import PixelEvaluation
from splic_ext.common.notebook import markdown_of
from splic_ext.evaluation.tables import markdown_table, percent

__all__ = ["MOST_RADIUS", "pixels_to_markdown", "shown_radii"]

#: Numbers of changed pixels in tables are no larger.
MOST_RADIUS = 8


def shown_radii(found: PixelEvaluation) -> range:
    """Return the numbers of changed pixels that tables have: 0, and those that can be proved."""
    return range(min(MOST_RADIUS, found.largest_radius) + 1)


@markdown_of.register
def pixels_to_markdown(found: PixelEvaluation) -> str:
    """Return all reports as one Markdown table, with a line above it.

    Parameters
    ----------
    found : PixelEvaluation
    """
    radii = shown_radii(found)
    names = ["clean % (0 pixels)", *(f"{r} pixel{'s' * (r > 1)} %" for r in radii[1:])]
    rows = [
        (
            report.plan.text,
            name,
            percent(report.abstained),
            *(percent(report.certified_accuracy(radius)) for radius in radii),
            f"{report.seconds.total:.1f}",
        )
        for name, report in found
    ]
    lines = markdown_table([("kept", "encoding", "abstained %", *names, "s"), *rows], left=2)
    notes = ["", *(f"- {note}" for note in found.notes)] if found.notes else []
    return "\n".join([pixel_summary(found), "", *lines, *notes]) + "\n"


def pixel_summary(found: PixelEvaluation) -> str:
    """Say in a line what was certified, and where the time of the run went."""
    first, seconds, data = found.reports[0], found.seconds, found.dataset
    split = "" if data.split is None else f" ({data.split})"
    return (
        f"{data.images} images of {data.name}{split}, {first.network.name}: answers that are "
        f"right, and stay whatever so many pixels become; {first.selection} + {first.draws} draws, "
        f"alpha {first.alpha:g}, seed {first.seed}; {seconds.total:.1f} s in this run: masks "
        f"{seconds.masks:.1f}, encoding {seconds.encoding:.1f}, network {seconds.network:.1f}, "
        f"rest {seconds.rest:.1f}"
    )
