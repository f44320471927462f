"""Tables in the width of the terminal: cells are folded at separators, and nothing is cut off."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from rich.box import HEAVY_HEAD, SIMPLE, Box
from rich.markup import escape
from rich.table import Table

__all__ = ["COARSE", "FINE", "folded", "markdown_parts", "tables", "widths"]

Justify = Literal["left", "right"]

#: Cells are folded after the first ones; where that is not enough, after the next as well.
COARSE, FINE, FINEST = (
    re.compile(text)
    for text in (r"(?<=[:,+ ])", r"(?<=[:,+ /=])", r"(?<=[:,+ /=_])|(?<=[a-z]-)(?=\D)")
)

#: Columns of any box: a space before and after each, and a border.
BORDER = 3


def folded(text: str, size: int) -> str:
    r"""Return a text in lines of at most that size, folded after separators.

    >>> folded("splic:rank=6", 7)
    'splic:\nrank=6'
    """
    return "\n".join(line for part in text.split("\n") for line in _lines(part, size))


def _lines(text: str, size: int) -> list[str]:
    pieces = [text]
    for separators in (COARSE, FINE, FINEST):
        pieces = [
            piece
            for whole in pieces
            for piece in ([whole] if len(whole.rstrip()) <= size else separators.split(whole))
        ]
    lines = [""]
    for piece in pieces:
        if len((lines[-1] + piece).rstrip()) > size and lines[-1]:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def widths(columns: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """Return the widths of columns that take no more than the room, or None if it is too small.

    No piece between two separators is broken; the narrowest columns get what they want first.
    """
    sizes = [_least(texts) for texts in columns]
    wanted = [max(len(line) for text in texts for line in text.split("\n")) for texts in columns]
    left = room - sum(sizes)
    if left < 0:
        return None
    for i in sorted(range(len(columns)), key=lambda i: wanted[i] - sizes[i]):
        more = min(left, wanted[i] - sizes[i])
        sizes[i] += more
        left -= more
    return sizes


def _least(texts: Sequence[str]) -> int:
    return max(len(piece.strip()) for text in texts for piece in FINEST.split(text))


def tables(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    justify: Sequence[Justify] | None = None,
    box: Box = HEAVY_HEAD,
    ends: Sequence[int] = (),
    **options: Any,
) -> Iterator[Table]:
    """Yield a table, or several that share the first column where one would be too wide.

    `ends` are the places of rows with a line below them; the options are those of Rich's tables.
    """
    columns = [[name, *(row[i] for row in rows)] for i, name in enumerate(names)]
    first, rest = 0, list(range(1, len(columns)))
    while True:
        chosen = [first]
        while rest and _fit([columns[i] for i in (*chosen, rest[0])], width) is not None:
            chosen.append(rest.pop(0))
        if rest and len(chosen) == 1:  # wider than the terminal, whatever is done
            chosen.append(rest.pop(0))
        shown = [columns[i] for i in chosen]
        sizes = _fit(shown, width) or [_least(texts) for texts in shown]
        table = Table(box=box, **options)
        for place, i in enumerate(chosen):
            side: Justify = "left" if justify is None else justify[i]
            table.add_column(escape(folded(names[i], sizes[place])), justify=side, overflow="fold")
        for number, row in enumerate(rows):
            cells = [folded(row[i], size) for i, size in zip(chosen, sizes, strict=True)]
            table.add_row(*map(escape, cells), end_section=number in ends)
        yield table
        if not rest:
            return


def _fit(columns: Sequence[Sequence[str]], width: int) -> list[int] | None:
    return widths(columns, width - BORDER * len(columns) - 1)


def markdown_parts(text: str, width: int) -> Iterator[str | Table]:
    """Yield the parts of a page of Markdown: its tables laid out, what is between as it is."""
    between: list[str] = []
    lines = [*text.split("\n"), ""]
    place = 0
    while place < len(lines):
        end = place
        while lines[end].startswith("|"):
            end += 1
        if end - place < 2:
            between += lines[place : end + 1]
            place = end + 1
            continue
        yield "\n".join(between)
        between = []
        head, line, *rows = ([_plain(c) for c in _cells(row)] for row in lines[place:end])
        sides: list[Justify] = ["right" if text.endswith(":") else "left" for text in line]
        full = [[*row, *[""] * len(head)][: len(head)] for row in rows]
        yield from tables(head, full, width, justify=sides, box=SIMPLE)
        place = end
    yield "\n".join(between)


def _cells(line: str) -> list[str]:
    return re.split(r"(?<!\\)\|", line.strip().strip("|"))


def _plain(cell: str) -> str:
    """Return a cell without marks of Markdown."""
    return re.sub(r"\*\*|`", "", cell).replace("\\|", "|").strip()
