"""From a template to a file: how every page is made and written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from splic_ext.common.atomic import atomic_path
from splic_ext.common.checks import printable
from splic_ext.common.optional import optional

__all__ = ["check_target", "page_file", "render"]


def render(template: str, page: Any) -> str:
    """Return a page in HTML, by one of the templates of this room."""
    with optional("`splic_ext.report`", "report", "jinja2"):
        from jinja2 import Environment, PackageLoader, StrictUndefined
    templates = Environment(
        loader=PackageLoader("splic_ext.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return printable(templates.get_template(template).render(page=page), keep="\t\n")


def check_target(output: str | os.PathLike[str]) -> Path:
    """Return where a page goes, if it is no folder."""
    target = Path(output)
    if target.is_dir():
        raise ValueError(f"`output` must be a file, got the folder '{target}'; name a file in it")
    return target


@contextmanager
def page_file(target: Path, *, overwrite: bool) -> Iterator[Callable[[str], Any]]:
    """Check a file name before the work that leads to the page; give a function to save it."""
    try:
        with atomic_path(target, overwrite=overwrite) as temporary:
            yield lambda text: temporary.write_bytes(text.encode())
    except OSError as error:
        if error.errno is None:  # it exists, and says so
            raise
        raise OSError(
            f"the page cannot be written to '{target}': {error.strerror or error}; make room or "
            "name another file"
        ) from error
