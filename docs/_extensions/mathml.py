"""Formulas as MathML, which browsers show by themselves: no script, no internet."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util.math import get_node_equation_number

#: Commands that docutils does not know, and what it knows instead.
OTHERS = {r"\texttt": r"\mathtt", r"\iff": r"\Longleftrightarrow", r"\Big/": "/"}


def translate(formula: str, as_block: bool = False) -> str:
    """Return the MathML of a formula in TeX."""
    for unknown, known in OTHERS.items():
        formula = formula.replace(unknown, known)
    return str(tex2mathml(formula, as_block=as_block))


def inline(writer: Any, node: nodes.math) -> None:
    """Write a formula within a line."""
    writer.body.append(translate(node.astext()))
    raise nodes.SkipNode


def display(writer: Any, node: nodes.math_block) -> None:
    """Write a formula on lines of its own, which scrolls where the window is narrow."""
    number = get_node_equation_number(writer, node) if node["number"] else ""
    formula = translate(node.astext(), as_block=True)
    writer.body.append(f'<div class="formula">{formula}{number}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the renderer "mathml"."""
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
