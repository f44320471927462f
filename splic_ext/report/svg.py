"""Diagrams as SVG elements that take their colours and fonts from the page."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from splic_ext.experiments import Point
from splic_ext.experiments.results.drawing import COLORS, draw_points, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["diagram_svg", "themed"]

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
#: Characters that XML does not allow.
NO_XML = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: Size of the names in a legend; the drawing's own is too small for a telephone.
LEGEND = 8
#: Names of places on an axis that have more letters in all are turned.
WIDE = 28
#: Colours of the drawing -> those of the style sheet, which has them light and dark.
PALETTE = {color: f"var(--plot-{i})" for i, color in enumerate(COLORS)}
PALETTE |= {
    "#dddddd": "var(--grid)",
    "#333333": "currentColor",
    "#000000": "currentColor",
    "#ffffff": "var(--page)",
}


def diagram_svg(points: Sequence[Point], *, joined: bool = True) -> str:
    """Draw a diagram as an SVG element; points that are not joined show their intervals."""
    from matplotlib import rc_context

    # Signs of dollars in names are no formulas, and the page's fonts have glyphs of their own.
    with warnings.catch_warnings(), rc_context({"text.parse_math": False}):
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure = draw_points(points)
        figure.patch.set_visible(False)
        for axes in figure.axes:
            axes.patch.set_visible(False)
            if not joined:
                _part(axes, points)
            legend = axes.get_legend()
            for name in () if legend is None else legend.get_texts():
                name.set_fontsize(LEGEND)
            places = axes.get_xticklabels()
            if sum(len(place.get_text()) for place in places) > WIDE:
                for place in places:
                    place.set(rotation=20, horizontalalignment="right", rotation_mode="anchor")
            for axis in (axes.xaxis, axes.yaxis):
                if axis.get_scale() == "log":
                    axis.set_major_formatter("{x:g}")
        drawn = render(figure, "svg").decode("utf-8")
    return themed(drawn, hashlib.sha256(drawn.encode()).hexdigest()[:8])


def _part(axes: Axes, points: Sequence[Point]) -> None:
    """Show the points of curves on their own."""
    for band in list(axes.collections):
        band.remove()
    for line in axes.lines:
        line.set_linestyle("none")
        for point in points:
            if line.get_label() != point.series or point.low is None or point.high is None:
                continue
            color = line.get_color()
            axes.vlines(point.x, point.low, point.high, color=color, alpha=0.35, linewidth=1)


def themed(text: str, key: str) -> str:
    """Return an SVG file of Matplotlib as an element for a page.

    Colours become variables of the style sheet, fonts those of the page. Names that nothing refers
    to go, the others begin with the key, so that several elements can stand on one page.
    """
    root = ElementTree.fromstring(NO_XML.sub("\ufffd", text))
    for parent in root.iter():
        for child in list(parent):
            if child.tag in (f"{SVG}metadata", f"{SVG}style"):
                parent.remove(child)
    referred = set(re.findall(r"(?:href=\"|url\()#([^\")]+)", text))
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        values = dict(element.attrib)
        element.attrib.clear()
        for name, value in values.items():
            if name == "id" and value not in referred:
                continue
            element.set(*_attribute(name.removeprefix(XLINK), value, key))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    return ElementTree.tostring(root, encoding="unicode").strip()


def _mix(color: str) -> str:
    """Return a colour that is no part of the palette, drawn towards that of text."""
    return f"color-mix(in srgb, {color} 75%, var(--ink))"


def _attribute(name: str, value: str, key: str) -> tuple[str, str]:
    if name == "id":
        return name, f"{key}-{value}"
    if name == "href":
        return name, f"#{key}-{value[1:]}"
    if name == "clip-path":
        return name, value.replace("url(#", f"url(#{key}-")
    if name in ("style", "fill", "stroke"):
        value = re.sub(r"font-family: [^;]*;?\s*", "", value)
        value = re.sub(r"font: (.*?)(\d[\d.]*px) [^;]*", r"font-size: \2", value)
        value = re.sub(r"#[0-9a-f]{6}", lambda found: PALETTE.get(found[0], _mix(found[0])), value)
        value = re.sub(r"url\(#", f"url(#{key}-", value)
    return name, " ".join(value.split())
