"""Links that lead out of the folder of the pages: to the code host, or to copies in the site.

Pages link to code, tests and results by relative paths, as they are read on a code host. A file
that is a page of the site (`included` of `conf.py`) is linked there, others at `repository`. Where
that is not set, a file is offered as a download, and a folder is named without a link.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform


class OutsideLinks(SphinxTransform):
    """Resolves links to files and folders that are no pages of the site."""

    default_priority = 5  # before files are collected for download

    def apply(self) -> None:
        """Change what the parser made of them."""
        source = Path(self.env.srcdir)
        root = source.parent
        for node in [
            *self.document.findall(addnodes.download_reference),
            *self.document.findall(addnodes.pending_xref),
        ]:
            parts = urlsplit(node.get("reftarget", ""))
            page = Path(self.env.doc2path(self.env.docname))
            if node.get("refdomain") == "doc":  # a page by its name, which has no suffix
                place = source / f"{parts.path}.md"
            elif parts.scheme or not parts.path or node.get("refdomain"):
                continue
            else:
                place = Path(os.path.normpath(page.parent / parts.path))
                if not place.exists():  # in a file of the root that a page includes
                    place = root / parts.path
            if not place.exists() or source in place.parents:
                continue
            path = place.relative_to(root).as_posix()
            if path in self.config.included:
                new: nodes.Element = addnodes.pending_xref(
                    "",
                    *node.children,
                    refdomain="std",
                    reftype="doc",
                    reftarget=f"/{self.config.included[path]}",
                    refexplicit=True,
                    refdoc=self.env.docname,
                )
            elif self.config.repository:
                kind = "tree" if place.is_dir() else "blob"
                url = f"{self.config.repository}/{kind}/main/{path}"
                url += f"#{parts.fragment}" if parts.fragment else ""
                new = nodes.reference("", "", *node.children, refuri=url)
            elif place.is_dir():
                new = nodes.inline("", "", *node.children)
            else:
                new = addnodes.download_reference(
                    "", "", *node.children, reftarget=os.path.relpath(place, page.parent)
                )
                new["refdoc"] = self.env.docname
            node.replace_self(new)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the transform."""
    app.add_config_value("repository", "", "env")
    app.add_config_value("included", {}, "env")
    app.add_transform(OutsideLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
