"""Constants are documented by the `#:` comment above them, wherever they are defined."""

from __future__ import annotations

import sys
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import PycodeError
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


def setup(app: Sphinx) -> dict[str, bool]:
    """Listen, before numpydoc does."""
    app.connect("autodoc-process-docstring", describe, priority=1)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
