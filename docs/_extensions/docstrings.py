"""What autodoc does not do for constants, private bases and citations.

A constant is documented by the `#:` comment above it, wherever it is defined. A base whose name
begins with an underscore gives way to its own bases. Tables of summaries are without citations,
whose list is on another page.
"""

from __future__ import annotations

import sys
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import PycodeError
from sphinx.ext.autosummary import autosummary_table
from sphinx.pycode import ModuleAnalyzer


def comment(package: str, constant: str) -> list[str]:
    """Return the lines of the comment above a constant that a package exports."""
    for name in sorted(sys.modules):
        if name != package and not name.startswith(f"{package}."):
            continue
        try:
            documented = ModuleAnalyzer.for_module(name).find_attr_docs()
        except PycodeError:  # compiled
            continue
        if ("", constant) in documented:
            return list(documented["", constant])
    return []


def describe(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Put the comment in the place of the docstring, which is that of the constant's type."""
    if what == "data":
        lines[:] = comment(*name.rsplit(".", 1))


def public(bases: list[type]) -> list[type]:
    """Return bases that users may name, in order."""
    found: list[type] = []
    for base in bases:
        name = getattr(base, "__name__", "")
        parts = public(list(base.__bases__)) if name.startswith("_") else [base]
        found += [part for part in parts if part not in found]
    return found


def leave_out(app: Sphinx, name: str, obj: Any, options: Any, bases: list[type]) -> None:
    """Show public bases alone."""
    shown = public(bases)
    bases[:] = [base for base in shown if base is not object] or shown


def drop_citations(app: Sphinx, document: nodes.document) -> None:
    """Remove citations from the tables of autosummary, and the space before them."""
    for table in document.findall(autosummary_table):
        for node in list(table.findall(addnodes.pending_xref)):
            if node["refdomain"] != "citation":
                continue
            line = node.parent
            place = line.index(node)
            if place and isinstance(line[place - 1], nodes.Text):
                line[place - 1] = nodes.Text(line[place - 1].rstrip())
            line.remove(node)


def setup(app: Sphinx) -> dict[str, bool]:
    """Listen to autodoc, before numpydoc does."""
    app.connect("autodoc-process-docstring", describe, priority=1)
    app.connect("autodoc-process-bases", leave_out)
    app.connect("doctree-read", drop_citations)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
