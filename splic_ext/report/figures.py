"""Diagrams and pictures for the page: numbers as curves, galleries as PNG files in place."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from splic_ext.experiments import Gallery, Point, Row
from splic_ext.experiments.results.drawing import diagrams
from splic_ext.experiments.results.keys import CLEAN, attack_title
from splic_ext.experiments.results.rows import is_worst
from splic_ext.report.svg import diagram_svg
from splic_ext.report.views import Cell, Diagram, Grid, Line, Picture, Table, one_line

__all__ = ["curve_points", "draw_diagrams", "family_points", "show_gallery"]

#: Most lines of the table below a diagram.
MOST = 60
#: Names of attacked parameters -> what the axis of a curve says, and a factor.
AXES: Mapping[str, tuple[str, float]] = {
    "eot": ("draws of the masks for each gradient", 1.0),
    "epsilon": ("radius, times 255", 255.0),
    "steps": ("steps", 1.0),
    "step_size": ("step size, times 255", 255.0),
    "restarts": ("restarts", 1.0),
    "queries": ("queries", 1.0),
}
#: Least number of points of a curve, and of curves, to be drawn.
CURVE, FAMILY = 3, 3


def draw_diagrams(points: Sequence[Point], *, joined: bool = True) -> tuple[Diagram, ...]:
    """Draw each diagram of the points; curves are lines, or points where not joined."""
    return tuple(_diagram(some, joined) for some in diagrams(points).values())


def curve_points(rows: Sequence[Row]) -> tuple[Point, ...]:
    """Return the curve of a section whose attacks differ in one number, such as the radius."""
    methods = {row.method for row in rows}
    attacked = [row for row in rows if row.parameters]
    single = [row for row in attacked if not is_worst(row)]  # none where each point is a worst
    given = [(row, _flat(json.loads(row.parameters))) for row in single or attacked]
    if len(methods) != 1 or len(given) < CURVE:
        return ()
    names = {name for _, values in given for name in values}
    missing = object()
    changed = [n for n in names if len({repr(v.get(n, missing)) for _, v in given}) > 1]
    if sorted(changed) == ["epsilon", "step_size"] and all(
        f"{v['step_size'] / v['epsilon']:.9g}" == "0.125" for _, v in given
    ):
        changed = ["epsilon"]  # the steps grow with it
    if len(changed) != 1 or changed[0] not in AXES:
        return ()
    (name,) = changed
    title, factor = AXES[name]
    points = [Point.from_row(row, title, factor * float(v[name])) for row, v in given if name in v]
    if name == "epsilon":
        points += [Point.from_row(row, title, 0.0) for row in rows if row.attack == CLEAN]
    return tuple(points) if len({point.x for point in points}) >= CURVE else ()


def family_points(rows: Sequence[Row]) -> tuple[Point, ...]:
    """Return accuracy under attack over clean accuracy, where methods come in several strengths."""
    clean = {row.method: row for row in rows if row.attack == CLEAN}
    families: dict[str, list[str]] = {}
    for method in clean:
        families.setdefault(_family(method), []).append(method)
    if max(map(len, families.values()), default=0) < FAMILY:
        return ()
    points = []
    for row in rows:
        if row.attack == CLEAN or row.method not in clean:
            continue
        points.append(
            Point.from_row(
                row,
                "clean accuracy (%)",
                100 * clean[row.method].mean.value,
                series=_family(row.method),
                y_name=f"accuracy under {attack_title(row.attack)} (%)",
            )
        )
    return tuple(points)


def _family(method: str) -> str:
    """Return the name of a method without the numbers that say how strong it is."""
    return re.sub(r",? \d+(\.\d+)?\b", "", method).replace("SPLIC, lambda", "SPLIC")


def show_gallery(gallery: Gallery) -> Grid:
    """Return a gallery for the page; an image that is no PNG file is a ValueError."""
    lines = []
    for i, row in enumerate(gallery.rows):
        line = []
        for j, column in enumerate(gallery.columns):
            caption, right = one_line(gallery.captions[i][j]), gallery.right[i][j]
            text = ", ".join(filter(None, (row, column, caption, _judgement(right))))
            where = f"row {i + 1}, column {j + 1} of the gallery {gallery.title!r}"
            source, width, height = _png(gallery.images[i][j], where)
            line.append(Picture(source, width, height, one_line(text), caption, right))
        lines.append(tuple(line))
    judged = [right for line in gallery.right for right in line if right is not None]
    return Grid(
        one_line(gallery.title),
        tuple(map(one_line, gallery.rows)),
        tuple(map(one_line, gallery.columns)),
        tuple(lines),
        sum(judged),
        len(judged),
    )


def _judgement(right: bool | None) -> str:
    return "" if right is None else "right" if right else "wrong"


def _png(text: str, where: str) -> tuple[str, int, int]:
    """Return a picture as an address in the page, with its size, once it has been decoded."""
    from PIL import Image

    if not text:
        return "", 0, 0
    try:
        content = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            width, height = picture.size
            picture.load()
    except (binascii.Error, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise ValueError(
            f"the image in {where} is no PNG file; take a file as it was written"
        ) from None
    return f"data:image/png;base64,{base64.b64encode(content).decode()}", width, height


def _flat(values: Any) -> dict[str, Any]:
    """Return the innermost values by their names; of several attacks those of the last."""
    if not isinstance(values, dict):
        return {}
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name == "attacks" and isinstance(value, list):
            for part in value:
                found |= _flat(part)
        else:
            found |= _flat(value) if isinstance(value, dict) else {name: value}
    return found


def _diagram(points: Sequence[Point], joined: bool) -> Diagram:
    first = points[0]
    series = list(dict.fromkeys(point.series for point in points))
    text = f"{first.y_name} over {first.x_name}" if first.kind != "scatter" else "A cloud of points"
    names = one_line("; ".join(series[:8]) + ("; and others" if len(series) > 8 else ""))
    text = one_line(f"{text}: {names}. {_span(points)}")
    return Diagram(
        one_line(first.section), text, diagram_svg(points, joined=joined), _numbers(points)
    )


def _span(points: Iterable[Point]) -> str:
    values = [point.y for point in points]
    return f"Values from {min(values):.4g} to {max(values):.4g}."


def _numbers(points: Sequence[Point]) -> Table:
    first = points[0]
    shown = points
    if len(points) > MOST:
        shown = [points[round(i * (len(points) - 1) / (MOST - 1))] for i in range(MOST)]
    header = ["series", first.x_name, first.y_name, "images", "paper"]
    lines = [Line(one_line(point.series), tuple(_number_cells(point))) for point in shown]
    kept = [k for k in range(4) if any(line.cells[k].text for line in lines)]
    few = "" if len(shown) == len(points) else f"{len(shown)} of {len(points)} points"
    return Table(
        few,
        (header[0], *(header[k + 1] for k in kept)),
        tuple(Line(line.head, tuple(line.cells[k] for k in kept)) for line in lines),
    )


def _number_cells(point: Point) -> list[Cell]:
    interval = ""
    if point.low is not None and point.high is not None:
        interval = f" [{point.low:.4g}, {point.high:.4g}]"
    return [
        Cell(point.label or f"{point.x:.4g}"),
        Cell(f"{point.y:.4g}{interval}"),
        Cell("" if point.n is None else f"{point.n:,}"),
        Cell("" if point.paper is None else f"{point.paper:g}"),
    ]
