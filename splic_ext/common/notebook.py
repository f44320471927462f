"""How options and reports look in a notebook: HTML without styles of its own, all text escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import singledispatch
from html import escape

__all__ = ["InNotebook", "html_table", "markdown_of", "markdown_to_html"]

RIGHT = ' style="text-align: right"'


def html_table(rows: Sequence[Sequence[str]], right: Sequence[bool] = (), caption: str = "") -> str:
    """Return a table of HTML; header first. Cells and caption are inline Markdown.

    Parameters
    ----------
    rows : sequence of sequences of str
    right : sequence of bool, optional
        For each column, whether it is aligned to the right; default: to the left.
    caption : str, optional

    Examples
    --------
    >>> html_table([["a"], ["`x<y`"]])
    '<table><thead><tr><th>a</th></tr></thead><tbody><tr><td><code>x&lt;y</code></td></tr></tbody></table>'
    """
    sides = [*right, *[False] * len(rows[0])]

    def line(tag: str, cells: Sequence[str]) -> str:
        made = ""
        for cell, side in zip(cells, sides, strict=False):
            made += f"<{tag}{RIGHT if side else ''}>{inline(cell)}</{tag}>"
        return f"<tr>{made}</tr>"

    head, body = line("th", rows[0]), "".join(line("td", row) for row in rows[1:])
    title = f"<caption>{inline(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead>{head}</thead><tbody>{body}</tbody></table>"


def inline(text: str) -> str:
    """Return a line of Markdown as HTML: code and bold text, all else escaped."""
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\*\*([^*<]+)\*\*", r"<b>\1</b>", escaped)


def markdown_to_html(text: str) -> str:
    r"""Return a report in Markdown as HTML: headings, tables, lists and paragraphs.

    Pictures are left out: they lie in files beside the report. HTML in the text is shown as text.

    Examples
    --------
    >>> markdown_to_html("# R & D\n\n- one\n- two")
    '<h3>R &amp; D</h3><ul><li>one</li><li>two</li></ul>'
    """
    return "".join(_block(part.split("\n")) for part in re.split(r"\n{2,}", text.strip("\n")))


def _block(lines: Sequence[str]) -> str:
    """Return what stands between two empty lines as HTML."""
    first = lines[0]
    if first.startswith("|") and len(lines) > 1:
        head, rule, *rows = ([cell.strip() for cell in _cells(line)] for line in lines)
        texts = [[cell.replace("\\|", "|") for cell in row] for row in (head, *rows)]
        return html_table(texts, [cell.endswith(":") for cell in rule])
    if first.startswith("- "):
        return f"<ul>{''.join(f'<li>{inline(line[2:])}</li>' for line in lines)}</ul>"
    if found := re.fullmatch(r"(#{1,4}) (.+)", first):
        level = len(found[1]) + 2
        rest = _block(lines[1:]) if lines[1:] else ""
        return f"<h{level}>{inline(found[2])}</h{level}>{rest}"
    if first.startswith("!["):
        return ""
    return f"<p>{'<br/>'.join(map(inline, lines))}</p>"


def _cells(line: str) -> list[str]:
    return re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))


@singledispatch
def markdown_of(shown: object) -> str:
    """Return a report as Markdown; the module that makes its table registers how."""
    raise NotImplementedError


class InNotebook:
    """What Jupyter and its kin show as HTML, by :func:`markdown_of`."""

    def _repr_html_(self) -> str:
        return markdown_to_html(markdown_of(self))
