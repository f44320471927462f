"""Curves, bars, clouds of points and pictures of experiments, drawn with Matplotlib.

Figures are objects of their own: nothing here touches the state of ``matplotlib.pyplot``.
"""

from __future__ import annotations

import base64
import io
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from splic_ext.common.optional import optional
from splic_ext.experiments.results.rows import Gallery, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["diagrams", "draw", "draw_gallery", "draw_points", "render", "require_matplotlib"]

#: Okabe and Ito's colours, which tell apart without red and green, with a mark for each.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
#: Curves of more points than this have no marks, but dashes.
MARKED = 20
DASHES = ("-", "--", "-.", ":")
#: From this ratio of the largest to the smallest value on, an axis is logarithmic.
DECADES_X, DECADES_Y = 10.0, 100.0
#: Inches.
DIAGRAM, CELL, SIDE, TOP = (5.0, 4.0), (1.15, 1.45), 1.3, 0.9
NARROWEST = 4.5

Key = tuple[str, str, str]


def require_matplotlib() -> None:
    """Raise the error that names the extra where Matplotlib is not installed."""
    with optional("`splic_ext.experiments`", "report", "matplotlib"):
        import matplotlib  # noqa: F401


def diagrams(points: Sequence[Point]) -> dict[Key, list[Point]]:
    """Return the points of each diagram: those of one section, x axis and y axis."""
    found: dict[Key, list[Point]] = {}
    for point in points:
        found.setdefault((point.section, point.x_name, point.y_name), []).append(point)
    return found


def draw(title: str, points: Sequence[Point], galleries: Sequence[Gallery]) -> Figure:
    """Return a figure of all diagrams, two beside each other, and of the pictures below them."""
    found = list(diagrams(points).values())
    lines = [found[i : i + 2] for i in range(0, len(found), 2)]
    sizes = [(DIAGRAM[0] * len(line), DIAGRAM[1]) for line in lines]
    sizes += [_size(gallery) for gallery in galleries]
    width = max([NARROWEST, *(size[0] for size in sizes)])
    heights = [size[1] for size in sizes] or [DIAGRAM[1]]
    figure = _figure(width, sum(heights) + 0.4)
    figure.suptitle(_wrapped(title, width, 11), fontsize=11)
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, size, line in zip(parts, sizes, lines, strict=False):
        grid = _left(part, size[0], width).subplots(1, len(line), squeeze=False)[0]
        for axes, diagram in zip(grid, line, strict=True):
            _diagram(axes, diagram, titled=True)
    for i, gallery in enumerate(galleries, len(lines)):
        _gallery(_left(parts[i], sizes[i][0], width), gallery)
    return figure


def draw_points(points: Sequence[Point]) -> Figure:
    """Return a figure of one diagram, as :func:`diagrams` groups points, without a title."""
    figure = _figure(*DIAGRAM)
    _diagram(figure.subplots(), points, titled=False)
    return figure


def draw_gallery(gallery: Gallery) -> Figure:
    """Return a figure of a grid of pictures."""
    width, height = _size(gallery)
    figure = _figure(max(width, NARROWEST), height)
    _gallery(figure, gallery)
    return figure


def render(figure: Figure, form: str, *, dpi: int = 110) -> bytes:
    """Return a figure as a PNG or SVG file: the same figure, the same bytes."""
    from matplotlib import rc_context

    file = io.BytesIO()
    metadata = {"Software": None} if form == "png" else {"Date": None, "Creator": None}
    with rc_context({"svg.hashsalt": "splic_ext", "svg.fonttype": "none"}):
        figure.savefig(
            file, format=form, dpi=dpi, metadata=metadata, bbox_inches="tight", pad_inches=0.1
        )
    return file.getvalue()


def _figure(width: float, height: float) -> Figure:
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _left(figure: Any, width: float, whole: float) -> Any:
    """Return the left part of a figure, of that width."""
    if whole - width < 0.5:
        return figure
    return figure.subfigures(1, 2, width_ratios=[width, whole - width])[0]


def _diagram(axes: Axes, points: Sequence[Point], *, titled: bool) -> None:
    first = points[0]
    series = list(dict.fromkeys(point.series for point in points))
    for i, name in enumerate(series):
        some = sorted((p for p in points if p.series == name), key=lambda point: point.x)
        kinds = {"scatter": _cloud, "bar": _bars, "line": _curve}
        kinds[first.kind](axes, some, i, len(series))
    if first.kind != "scatter":
        _scale(axes, points)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    axes.set_xlabel(first.x_name)
    axes.set_ylabel(first.y_name)
    if titled:
        axes.set_title(first.section, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    names = axes.get_legend_handles_labels()[1]
    if len(names) > 1:
        columns = 2 if max(map(len, names)) > 12 else 5
        below = (0.5, {"scatter": -0.08, "bar": -0.25}.get(first.kind, -0.2))
        axes.legend(
            fontsize=7, frameon=False, ncols=columns, loc="upper center", bbox_to_anchor=below
        )


def _curve(axes: Axes, points: Sequence[Point], i: int, _count: int) -> None:
    x, y = [p.x for p in points], [p.y for p in points]
    color = COLORS[i % len(COLORS)]
    marked = len(points) <= MARKED
    style: dict[str, Any] = {"marker": MARKS[i % len(MARKS)] if marked else ""}
    style["linestyle"] = "-" if marked else DASHES[i % len(DASHES)]
    axes.plot(x, y, color=color, markersize=4, linewidth=1.4, label=points[0].series, **style)
    bounded = [p for p in points if p.low is not None and p.high is not None]
    if bounded:
        low, high = [p.low or 0.0 for p in bounded], [p.high or 0.0 for p in bounded]
        axes.fill_between([p.x for p in bounded], low, high, color=color, alpha=0.15, linewidth=0)
    printed = [p for p in points if p.paper is not None]
    if printed:
        x, y = [p.x for p in printed], [p.paper or 0.0 for p in printed]
        label = f"{points[0].series}, paper"
        axes.plot(x, y, ":x", color=color, markersize=5, linewidth=1, label=label)


def _bars(axes: Axes, points: Sequence[Point], i: int, count: int) -> None:
    width = 0.8 / count
    x = np.array([p.x for p in points]) + (i - (count - 1) / 2) * width
    y = np.array([p.y for p in points])
    color = COLORS[i % len(COLORS)]
    hatch = ("", "//", "..", "xx", "\\\\", "++", "oo", "--")[i % 8]
    name = points[0].series
    axes.bar(x, y, width, color=color, edgecolor="white", hatch=hatch, label=name, linewidth=0)
    spread = [(p.y - (p.y if p.low is None else p.low)) for p in points]
    above = [((p.y if p.high is None else p.high) - p.y) for p in points]
    if any(spread) or any(above):
        axes.errorbar(x, y, yerr=[spread, above], fmt="none", ecolor="#333333", linewidth=0.8)
    for place, point in zip(x, points, strict=True):
        if point.paper is not None:
            told = "paper" in axes.get_legend_handles_labels()[1]
            ends = place - width / 2, place + width / 2
            label = "_paper" if told else "paper"
            axes.hlines(point.paper, *ends, color="#000000", linewidth=1.6, label=label)
    if i == count - 1:
        places = sorted({(p.x, p.label) for p in points})
        turned = 20 if len(places) > 4 else 0
        names = [text for _, text in places]
        axes.set_xticks([place for place, _ in places], names, fontsize=8, rotation=turned)


def _cloud(axes: Axes, points: Sequence[Point], i: int, count: int) -> None:
    from matplotlib import colormaps

    color: Any = COLORS[i] if count <= len(COLORS) else colormaps["tab10"](i % 10)
    mark, name = MARKS[i % len(MARKS)], points[0].series
    x, y = [p.x for p in points], [p.y for p in points]
    axes.scatter(x, y, s=9, color=color, marker=mark, linewidths=0, alpha=0.8, label=name)


def _scale(axes: Axes, points: Sequence[Point]) -> None:
    """Choose logarithmic axes, and label the places that have names."""
    low = min(point.y for point in points)
    if low > 0 and max(point.y for point in points) / low > DECADES_Y:
        axes.set_yscale("log")
    elif points[0].y_name.endswith("(%)"):
        axes.set_ylim(0, 100)
    if points[0].kind == "bar":
        return
    places = sorted({point.x for point in points})
    above = [x for x in places if x > 0]
    if places[0] >= 0 and above and above[-1] / above[0] >= DECADES_X and not _even(places):
        if above == places:
            axes.set_xscale("log")
        else:
            axes.set_xscale("symlog", linthresh=above[0], linscale=0.3)
            axes.set_xlim(left=-above[0] / 3)
    if len(places) <= 12:
        names = {point.x: point.label or f"{point.x:g}" for point in points}
        axes.set_xticks(places, [names[x] for x in places], fontsize=8)
        axes.minorticks_off()


def _even(places: Sequence[float]) -> bool:
    steps = np.diff(places)
    return bool(len(steps) > 1 and math.isclose(steps.min(), steps.max(), rel_tol=1e-6))


def _size(gallery: Gallery) -> tuple[float, float]:
    return SIDE + CELL[0] * len(gallery.columns), TOP + CELL[1] * len(gallery.rows)


def _gallery(figure: Any, gallery: Gallery) -> None:
    from matplotlib.image import imread

    figure.suptitle(_wrapped(gallery.title, _size(gallery)[0], 10), fontsize=10)
    grid = figure.subplots(len(gallery.rows), len(gallery.columns), squeeze=False)
    for i, row in enumerate(gallery.rows):
        for j, column in enumerate(gallery.columns):
            axes: Axes = grid[i, j]
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            text, right = gallery.captions[i][j], gallery.right[i][j]
            if right is not None:
                text += " (right)" if right else " (wrong)"
            axes.set_xlabel(text, fontsize=7, color=_color(right), labelpad=2)
            if i == 0:
                axes.set_title(column, fontsize=8, pad=3)
            if j == 0:
                axes.set_ylabel(row, fontsize=8)
            if gallery.images[i][j]:
                picture = imread(io.BytesIO(base64.b64decode(gallery.images[i][j])), format="png")
                axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _wrapped(text: str, width: float, size: float) -> str:
    """Return a title in lines that fit a width in inches."""
    return "\n".join(textwrap.wrap(" ".join(text.split()), max(20, int(110 * width / size))))


def _color(right: bool | None) -> str:
    return "#333333" if right is None else "#00664a" if right else "#b03a00"
