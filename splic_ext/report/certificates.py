"""From certificates to what the page shows of them: tables, curves, and what was hidden."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from splic_ext.certify import CertificateReport, Examples, PatchRecord, PixelEvaluation, PixelReport
from splic_ext.certify.pixel_tables import shown_radii
from splic_ext.experiments import Gallery, Point
from splic_ext.experiments.results.rows import encode_picture
from splic_ext.report.entries import address
from splic_ext.report.figures import draw_diagrams, show_gallery
from splic_ext.report.sources import Collection, PatchResult
from splic_ext.report.summary import Card, Proved
from splic_ext.report.views import (
    Block,
    Cell,
    Diagram,
    Entry,
    Grid,
    Line,
    Table,
    one_line,
    percent_cell,
    provenance_facts,
)

__all__ = ["patches_entry", "pixels_entry", "proved"]

#: Colour of hidden pixels, Okabe and Ito's blue: no network and no fill sees it.
HIDDEN = (86, 180, 233)
#: Pictures are enlarged to about so many pixels a side.
SIDE = 96
#: Numbers of changed pixels in the summary.
FEW_PIXELS = (1, 3)
CERTIFIED = "certified accuracy (%)"


def patches_entry(path: str, result: PatchResult) -> Entry:
    """Return the entry of certificates against patches."""
    report = result.report
    first, records = report.records[0], report.records
    origin = records[-1].provenance
    plain = first.plain_accuracy
    fills = dict.fromkeys((record.fill, record.fill_repr) for record in records)
    lines = tuple(
        Line(
            f"{_patch(record)}, {one_line(record.fill)}",
            (
                Cell(f"{100 * record.area:.1f}"),
                Cell(f"{record.masks} of {one_line(record.mask)}"),
                percent_cell(record.clean_accuracy),
                percent_cell(record.certified_accuracy),
                Cell(f"{sum(record.pairs):,}"),
                Cell(f"{record.seconds.total:,.1f}"),
            ),
            record in _best_records(records),
        )
        for record in records
    )
    header = ("patch, fill", "% of area", "masks", "clean", "certified", "pairs", "s")
    caption = f"{first.dataset.images:,} images. The fill that certifies most is shaded"
    diagrams = _untitled(draw_diagrams(tuple(_patch_points(records))))
    blocks = [Block("Certified accuracy", (Table(caption, header, lines),), diagrams)]
    if result.examples is not None:
        grids = tuple(_patch_grids(report, result.examples))
        blocks.append(Block("Hidden, filled, decided", grids=grids, text=PICTURES))
    return Entry(
        key=address("patches", path),
        title=one_line(f"Patches that cannot turn {first.model.name} on {first.dataset.name}"),
        subtitle=one_line(
            f"{first.dataset.images:,} images; {100 * plain.value:.1f} % right without masks"
        ),
        path=path,
        facts=provenance_facts(origin),
        command=origin.command,
        notes=tuple(map(one_line, report.notes)),
        blocks=tuple(blocks),
        details=(
            Table("Fills", ("fill", "parameters"), _texts(fills)),
            _sources(first.model.name, first.model.sha256, first.dataset.sha256),
        ),
        data=first.dataset.name,
    )


#: How the pictures are read.
PICTURES = (
    "Of each image the pair of masks under which the network fails, in blue; where the image is "
    "certified, the pair whose answer leads least. Beside it what the fill makes of the visible "
    "pixels, and what the network takes that for."
)


def pixels_entry(path: str, found: PixelEvaluation) -> Entry:
    """Return the entry of certificates against changed pixels."""
    first, data = found.reports[0], found.dataset
    origin = found.reports[-1].provenance
    radii = shown_radii(found)
    best = _best_reports(found)
    lines = tuple(
        Line(
            f"{_kept(report)}, {one_line(name)}",
            (
                percent_cell(report.abstained),
                *(percent_cell(report.certified_accuracy(radius)) for radius in radii),
                Cell(f"{report.seconds.total:,.1f}"),
            ),
            (name, report) in best,
        )
        for name, report in found
    )
    names = ("abstained", "clean", *(_pixels(radius) for radius in radii[1:]), "s")
    caption = (
        f"{data.images:,} images: answers that are right, and stay whatever so many pixels become. "
        "The encoding that certifies most is shaded"
    )
    encodings = dict.fromkeys((name, report.encoding) for name, report in found)
    diagrams = draw_diagrams(tuple(_pixel_points(found)))
    if len({report.plan for report in found.reports}) == 1:
        diagrams = _untitled(diagrams)
    return Entry(
        key=address("pixels", path),
        title=one_line(f"Changed pixels that cannot turn {first.network.name} on {data.name}"),
        subtitle=one_line(
            f"{data.images:,} images; {first.selection:,} + {first.draws:,} draws, seed "
            f"{first.seed}; each certificate is wrong with a probability of {first.alpha:g} at most"
        ),
        path=path,
        facts=provenance_facts(origin),
        command=origin.command,
        notes=tuple(map(one_line, found.notes)),
        blocks=(
            Block("Certified accuracy", (Table(caption, ("kept, encoding", *names), lines),)),
            Block("Over the pixels changed", diagrams=diagrams),
        ),
        details=(
            Table("Encodings", ("encoding", "parameters"), _texts(encodings)),
            _sources(first.network.name, first.network.sha256, data.sha256),
        ),
        data=data.name,
    )


def proved(found: Collection, keys: Mapping[str, tuple[str, str]]) -> Proved:
    """Return what is certified; `keys` has title and key of each path."""
    cards, accuracies = [], []
    for source in found.patches:
        if source.path not in keys:
            continue
        records = source.content.report.records
        best = _best_records(records)
        lines = tuple(
            Line(
                f"{_patch(record)}, {one_line(record.fill)}",
                (percent_cell(record.clean_accuracy), percent_cell(record.certified_accuracy)),
            )
            for record in best
        )
        table = Table("", ("patch, best fill", "clean", "certified"), lines)
        cards.append(Card(*keys[source.path], records[0].dataset.name, table))
        accuracies += [record.certified_accuracy for record in best]
    for evaluated in found.pixels:
        if evaluated.path not in keys:
            continue
        content = evaluated.content
        shown = [radius for radius in FEW_PIXELS if radius <= max(1, content.largest_radius)]
        chosen = _best_reports(content)
        lines = tuple(
            Line(
                f"{_kept(report)}, {one_line(name)}",
                tuple(percent_cell(report.certified_accuracy(radius)) for radius in (0, *shown)),
            )
            for name, report in chosen
        )
        header = ("kept, best encoding", "clean", *map(_pixels, shown))
        cards.append(Card(*keys[evaluated.path], content.dataset.name, Table("", header, lines)))
        accuracies += [report.certified_accuracy(1) for _, report in chosen]
    return Proved(tuple(cards), tuple(accuracies))


def _best_records(records: Sequence[PatchRecord]) -> list[PatchRecord]:
    """Return the record of each patch that certifies most, the first of equal ones."""
    sizes = dict.fromkeys(record.patch for record in records)
    return [
        max((r for r in records if r.patch == size), key=lambda record: sum(record.certified))
        for size in sizes
    ]


def _best_reports(found: PixelEvaluation) -> list[tuple[str, PixelReport]]:
    """Return the report of each amount kept whose radii of right answers add up to most."""
    plans = dict.fromkeys(report.plan for report in found.reports)
    return [
        max(((n, r) for n, r in found if r.plan == plan), key=lambda pair: _total(pair[1]))
        for plan in plans
    ]


def _total(report: PixelReport) -> int:
    return sum((r.radius or 0) + 1 for r in report.records if r.answer == r.label)


def _patch(record: PatchRecord) -> str:
    return f"{record.patches} of {record.patch}" if record.patches > 1 else record.patch


def _kept(report: PixelReport) -> str:
    return f"{report.plan.text} pixels" if report.scheme == "exact-k" else report.plan.text


def _pixels(radius: int) -> str:
    return f"{radius} pixel{'s' if radius > 1 else ''}"


def _patch_points(records: Sequence[PatchRecord]) -> Iterator[Point]:
    """Yield lines over the side of squares, or bars where there are other shapes."""
    sizes = list(dict.fromkeys(record.patch for record in records))
    if len(sizes) < 2:
        return
    squares = all(size.isdecimal() for size in sizes)
    for record in records:
        share = record.certified_accuracy
        yield Point(
            section="patches",
            series=one_line(record.fill),
            x_name="side of the patch (pixels)" if squares else "patch (pixels)",
            x=float(record.patch) if squares else float(sizes.index(record.patch)),
            y_name=CERTIFIED,
            y=100 * share.value,
            low=100 * share.low,
            high=100 * share.high,
            n=share.n,
            label=record.patch,
            kind="line" if squares else "bar",
        )


def _pixel_points(found: PixelEvaluation) -> Iterator[Point]:
    for name, report in found:
        for radius in range(found.largest_radius + 1):
            share = report.certified_accuracy(radius)
            yield Point(
                section=f"{_kept(report)} kept",
                series=one_line(name),
                x_name="pixels changed",
                x=float(radius),
                y_name=CERTIFIED,
                y=100 * share.value,
                low=100 * share.low,
                high=100 * share.high,
                n=share.n,
            )


def _untitled(diagrams: Sequence[Diagram]) -> tuple[Diagram, ...]:
    return tuple(replace(diagram, title="") for diagram in diagrams)


def _patch_grids(report: CertificateReport, examples: Examples) -> Iterator[Grid]:
    """Yield the pictures of each size of patches: images down; fills, hidden and filled, across."""
    magnify = max(1, round(SIDE / max(examples.images.shape[2:])))
    for size in dict.fromkeys(record.patch for record in report.records):
        places = [i for i, record in enumerate(report.records) if record.patch == size]
        pictures, captions, right = [], [], []
        for i, label in enumerate(examples.labels.tolist()):
            row = [encode_picture(_colored(examples.images[i]), magnify=magnify)]
            told, judged = [examples.classes[label]], list[bool | None]([None])
            for r in places:
                decided = int(examples.decided[r, i])
                sure = report.records[r].certified[int(examples.index[i])]
                row += [
                    encode_picture(part, magnify=magnify)
                    for part in (
                        _hidden(examples.images[i], examples.visible[r, i]),
                        _colored(examples.filled[r, i]),
                    )
                ]
                told += [_masks(*examples.pairs[r, i].tolist()), examples.classes[decided]]
                told[-1] += ", certified" if sure else ", not certified"
                judged += [None, decided == label]
            pictures.append(tuple(row))
            captions.append(tuple(told))
            right.append(tuple(judged))
        fills = [one_line(report.records[r].fill) for r in places]
        yield show_gallery(
            Gallery(
                section="",
                title=f"Patches of {_patch(report.records[places[0]])}",
                rows=tuple(f"image {i}" for i in examples.index.tolist()),
                columns=("image", *(t for f in fills for t in (f"{f}: hidden", f"{f}: filled"))),
                images=tuple(pictures),
                captions=tuple(captions),
                right=tuple(right),
            )
        )


def _masks(first: int, second: int) -> str:
    return f"mask {first}" if first == second else f"masks {first}, {second}"


def _colored(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return an image as gray or RGB; of other numbers of channels the first one."""
    return image if len(image) in (1, 3) else image[:1]


def _hidden(image: npt.NDArray[np.uint8], visible: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return an image whose hidden pixels have a colour."""
    shown = _colored(image)
    whole = np.broadcast_to(shown, (3, *shown.shape[1:]))
    color = np.array(HIDDEN, np.uint8)[:, None, None]
    found: npt.NDArray[np.uint8] = np.where(visible, whole, color)
    return found


def _texts(values: Mapping[tuple[str, str], None]) -> tuple[Line, ...]:
    return tuple(Line(one_line(name), (Cell(one_line(text)),)) for name, text in values)


def _sources(network: str, weights: str, images: str) -> Table:
    lines = (
        Line(f"network {one_line(network)}", (Cell(weights[:12]),)),
        Line("images and labels", (Cell(images[:12]),)),
    )
    return Table("Networks and images", ("of", "SHA-256"), lines)
