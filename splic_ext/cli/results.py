"""The table of an evaluation, in the width of the terminal: no word is broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from splic_ext.cli.console import printable
from splic_ext.cli.layout import FINE, folded

if TYPE_CHECKING:  # brings torch
    from splic_ext.evaluation import EvaluationReport

__all__ = ["evaluation_table"]

#: Columns of texts, before those of numbers.
TEXTS = 2
#: Columns that are left out where the terminal is too narrow, the first one first.
DROPPED = ("s", "L2", "L-inf /255", "draws", "vote %", "all draws %")


def evaluation_table(report: EvaluationReport, width: int | None = None) -> Table:
    """Lay out the records of an evaluation; `width` is that of the terminal."""
    from splic_ext.evaluation.tables import HEADER, summary, table_rows

    width = Console().width if width is None else width
    rows = [tuple(map(printable, row)) for row in table_rows(report, short=True)]
    left_out: list[str] = []
    while True:
        kept = [i for i, name in enumerate(HEADER) if name not in left_out]
        columns = [[row[i] for row in rows] for i in kept]
        sizes = _sizes([HEADER[i] for i in kept], columns, width)
        if sizes is not None or len(left_out) == len(DROPPED):
            break
        left_out.append(DROPPED[len(left_out)])
    more = f"; not shown in so narrow a terminal: {', '.join(left_out)}" if left_out else ""
    table = Table(
        title="accuracy, with the 95 % interval of the mean",
        caption=escape(printable(summary(report)) + more),
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for place, i in enumerate(kept):
        justify: Any = "left" if place < TEXTS else "right"
        name = HEADER[i] if sizes is None else folded(HEADER[i], sizes[place])
        table.add_column(name, justify=justify, overflow="fold", no_wrap=sizes is not None)
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        cells = [row[i] for i in kept]
        if sizes is not None:
            cells = [folded(text, size) for text, size in zip(cells, sizes, strict=True)]
        table.add_row(*map(escape, cells), end_section=after is None or after[0] != row[0])
    return table


def _sizes(names: Sequence[str], columns: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """Return the widths of the columns, or None if no folding at separators makes them fit."""
    widest = [max(map(len, texts)) for texts in columns]
    least = [
        max(len(piece) for text in texts for piece in FINE.split(text)) for texts in columns[:TEXTS]
    ]
    words = [max(map(len, name.split())) for name in names]
    least = [max(pair) for pair in zip(least, words, strict=False)]
    numbers = [max(pair) for pair in zip(widest[TEXTS:], words[TEXTS:], strict=True)]
    # Two spaces between columns, one on either side.
    room = width - sum(numbers) - 2 * len(names)
    wanted = [max(pair) for pair in zip(widest[:TEXTS], words, strict=False)]
    if sum(least) > room:
        return None
    first = min(wanted[0], max(least[0], room // 2, room - wanted[1]), room - least[1])
    return [first, min(wanted[1], room - first), *numbers]
