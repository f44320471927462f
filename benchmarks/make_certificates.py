"""Put the certificates of all runs side by side: results/certify/tables.md.

    python benchmarks/make_certificates.py [results/certify]

A run is a folder with `certificates.json` or `pixels.json`, and is called by its name. Where two
runs have the same images, patch and masks, and other networks, each with one fill, as after
training for it, they are compared image by image.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from splic_ext.certify import CertificateReport, PixelEvaluation
from splic_ext.certify.records import PatchRecord
from splic_ext.common.atomic import write_text
from splic_ext.evaluation.statistics import paired_difference
from splic_ext.evaluation.tables import markdown_table, percent

RESULTS = Path(__file__).resolve().parents[1] / "results" / "certify"
PATCHES, PIXELS, TABLES = "certificates.json", "pixels.json", "tables.md"
RADII = range(9)

Runs = Mapping[str, CertificateReport]
Row = tuple[str, ...]


def rows_of(runs: Runs, accuracy: str, fills: Sequence[str]) -> list[Row]:
    """Return a row for each run and patch, with an accuracy for each fill."""
    rows: list[Row] = [("run", "images", "patch", "% of area", *fills)]
    for name, report in runs.items():
        for patch in dict.fromkeys(record.patch for record in report.records):
            found = {record.fill: record for record in report.select(patch=patch)}
            first = next(iter(found.values()))
            shown = [
                percent(getattr(found[fill], f"{accuracy}_accuracy")) if fill in found else ""
                for fill in fills
            ]
            rows.append((name, str(first.dataset.images), patch, f"{100 * first.area:.1f}", *shown))
    return rows


def compared(first: PatchRecord, second: PatchRecord) -> Row:
    """Return what only one and only the other certifies, and the difference in points."""
    found = paired_difference(first.certified, second.certified)
    value, low, high = (f"{100 * v:.1f}" for v in (found.value, found.low, found.high))
    return str(found.first), str(found.second), f"{value} [{low}, {high}]"


def pairs_of(runs: Runs) -> list[Row]:
    """Return SPLIC, or else the last fill, beside each other fill of a run and patch."""
    rows: list[Row] = [
        ("run", "patch", "fill", "other fill", "only it", "only the other", "difference in points")
    ]
    for name, report in runs.items():
        for patch in dict.fromkeys(record.patch for record in report.records):
            found = {record.fill: record for record in report.select(patch=patch)}
            mine = found.get("splic")
            if mine is not None:
                rows += [
                    (name, patch, "splic", fill, *compared(mine, other))
                    for fill, other in found.items()
                    if other is not mine
                ]
    return rows


def trained_of(runs: Runs) -> list[Row]:
    """Return each two networks that were each certified with one fill, on the same images."""
    rows: list[Row] = [("run", "other run", "patch", "only it", "only the other", "difference")]
    single = {
        name: report for name, report in runs.items() if len({r.fill for r in report.records}) == 1
    }
    for (name, one), (other, two) in combinations(single.items(), 2):
        for first in one.records:
            for second in two.select(patch=first.patch):
                if (first.dataset.sha256, first.masks) == (second.dataset.sha256, second.masks):
                    rows.append((name, other, first.patch, *compared(first, second)))
    return rows


def pixels_of(runs: Mapping[str, PixelEvaluation]) -> list[Row]:
    """Return a row for each run, amount kept and encoding."""
    head = [f"{radius} px" for radius in RADII]
    rows: list[Row] = [("run", "images", "kept", "encoding", "abstained", *head)]
    for name, found in runs.items():
        for encoding, report in found:
            most = report.largest_radius
            shown = [
                percent(report.certified_accuracy(radius)) if radius <= most else "0"
                for radius in RADII
            ]
            images = str(found.dataset.images)
            row = (name, images, report.plan.text, encoding, percent(report.abstained), *shown)
            rows.append(row)
    return rows


def draw(folder: Path) -> str:
    """Return the page of a folder of runs."""
    runs = {
        path.parent.name: CertificateReport.load(path)
        for path in sorted(folder.glob(f"*/{PATCHES}"))
    }
    pixels = {
        path.parent.name: PixelEvaluation.load(path) for path in sorted(folder.glob(f"*/{PIXELS}"))
    }
    if not runs and not pixels:
        raise ValueError(f"no run below '{folder}': it has no {PATCHES} and no {PIXELS}")
    # In the order of the run that has most of them; SPLIC behind the others.
    most = sorted(runs.values(), key=lambda report: -len({r.fill for r in report.records}))
    found = dict.fromkeys(record.fill for report in most for record in report.records)
    fills = sorted(found, key=lambda fill: fill.startswith("splic"))
    tables = {
        "Certified %": rows_of(runs, "certified", fills),
        "Clean % of the vote": rows_of(runs, "clean", fills),
        "SPLIC beside other fills, certified on the same images": pairs_of(runs),
        "Networks that were trained for a fill, certified on the same images": trained_of(runs),
        "Certified % against so many changed pixels": pixels_of(pixels),
    }
    commands = [f"- `{name}`: `{command}`" for name, command in commands_of(runs, pixels)]
    parts = ["# Certificates", "With 95 % intervals. Runs:", "\n".join(commands)]
    for title, rows in tables.items():
        if len(rows) > 1:
            parts += [f"## {title}", "\n".join(markdown_table(rows, left=4))]
    return "\n\n".join(parts) + "\n"


def commands_of(runs: Runs, pixels: Mapping[str, PixelEvaluation]) -> Iterable[tuple[str, str]]:
    """Yield the name and the command of each run."""
    for name, report in runs.items():
        yield name, report.records[0].provenance.command or "from Python"
    for name, found in pixels.items():
        yield name, found.reports[0].provenance.command or "from Python"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=RESULTS, help="of the runs")
    folder = parser.parse_args().folder
    try:
        write_text(folder / TABLES, draw(folder))
    except (OSError, ValueError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
