"""Draw architecture.svg: the rooms of architecture.md as a house, floor upon floor.

python docs/draw_architecture.py
"""

from __future__ import annotations

import re
import textwrap
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

PAGE = Path(__file__).with_name("architecture.md")
PICTURE = PAGE.with_suffix(".svg")

LEFT, WIDTH, GAP, ROOF = 40, 900, 6, 34
BESIDE = 6  # rooms in a row, at most
LINE, LETTER = 14, 5.9  # height of a line, width of a letter, of the small text
FILL = {True: ("#fdebd3", "#c77d1e"), False: ("#dcebf7", "#3d7ab0")}
STONE = ("#e6e6e3", "#777772")
NATIVE = "compiled from csrc/, "


class Room(NamedTuple):
    """A row of the table: floor, name, what it holds, whether torch must be installed."""

    floor: int
    name: str
    holds: str
    torch: bool


def rooms(page: str) -> list[Room]:
    """Return the rooms of the page, from the top floor down."""
    row = re.compile(r"^\| (\d+) \| `(\w+)` \| (.+?) \| .*? \| (.*?) ?\|$", re.MULTILINE)
    return [
        Room(int(floor), name, holds.replace("`", ""), "torch" in needs)
        for floor, name, holds, needs in row.findall(page)
    ]


def text(x: float, y: float, words: str, style: str) -> str:
    """Return a line of text."""
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{style}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, colours: tuple[str, str]) -> str:
    """Return a rounded box."""
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="5" '
        f'fill="{colours[0]}" stroke="{colours[1]}"/>'
    )


def band(y: float, boxes: list[tuple[str, str, tuple[str, str]]], lines: list[str]) -> float:
    """Add boxes side by side, each with a name and wrapped text; return where they end."""
    width = (WIDTH - GAP * (len(boxes) - 1)) / len(boxes)
    wrapped = [textwrap.wrap(holds, int((width - 20) / LETTER)) for _, holds, _ in boxes]
    height = 28 + LINE * max(map(len, wrapped))
    for number, (name, _, colours) in enumerate(boxes):
        x = LEFT + number * (width + GAP)
        lines.append(box(x, y, width, height, colours))
        lines.append(text(x + 10, y + 18, name, "name"))
        lines += [
            text(x + 10, y + 33 + LINE * k, part, "small") for k, part in enumerate(wrapped[number])
        ]
    return y + height


def draw(page: str) -> str:
    """Return the picture."""
    y: float = ROOF + 12
    peak = LEFT + WIDTH / 2
    lines = [
        f'<path d="M{LEFT - 16} {ROOF + 6} L{peak:.0f} 6 L{LEFT + WIDTH + 16} {ROOF + 6} Z" '
        f'fill="{STONE[0]}" stroke="{STONE[1]}"/>',
        text(peak - 30, ROOF - 2, "splic_ext", "name"),
    ]
    for floor, group in groupby(rooms(page), key=lambda room: room.floor):
        boxes = [(room.name, room.holds, FILL[room.torch]) for room in group]
        rows = -(-len(boxes) // BESIDE)
        each, top = -(-len(boxes) // rows), y
        for row in range(rows):
            y = band(y, boxes[row * each : (row + 1) * each], lines) + GAP
        lines.append(text(LEFT - 26, (top + y - GAP) / 2 + 5, str(floor), "floor"))
    native = [
        ("_core", NATIVE + "the CPU solver", STONE),
        ("_cuda", NATIVE + "the CUDA solver", STONE),
    ]
    y = band(y, native, lines) + 24
    for torch, words in ((False, "imports without torch"), (True, "needs torch")):
        x = LEFT + 200 * torch
        lines += [box(x, y - 11, 14, 14, FILL[torch]), text(x + 20, y, words, "small")]
    right = LEFT + WIDTH + 24
    lines += [
        f'<path d="M{right} {ROOF + 40} V{y - 70:.0f} m-5 -9 l5 9 l5 -9" fill="none" '
        f'stroke="{STONE[1]}" stroke-width="2"/>',
        f'<text class="small" transform="translate({right + 16} {y / 2:.0f}) rotate(90)">'
        "imports run down</text>",
    ]
    height, full = y + 12, right + 26
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {full} {height:.0f}" '
            f'width="{full}" height="{height:.0f}" role="img" font-family="sans-serif">',
            "<style>.name { font: bold 14px monospace } .small { font-size: 11.5px }"
            " .floor { font-size: 13px } text { fill: #222 }</style>",
            f'<rect width="{full}" height="{height:.0f}" fill="white"/>',
            *lines,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
