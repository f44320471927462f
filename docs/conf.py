"""How the site is made of these pages, by `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

import tomllib

import splic_ext

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_extensions"))

project = "splic_ext"
author = "The splic_ext developers"
version = release = splic_ext.__version__
_urls = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: Where files outside this folder can be seen; without it the site brings copies of them.
repository = _urls.get("urls", {}).get("Repository", "").rstrip("/")
#: Files beside this folder that are pages of the site, and the pages that include them.
included = {
    "CHANGELOG.md": "sections/changes",
    "CONTRIBUTING.md": "sections/contributing",
    "SECURITY.md": "sections/security",
}

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_design",
    "commands",
    "docstrings",
    "mathml",
    "outside",
]
exclude_patterns = ["_extensions", "_static", "_templates"]
templates_path = ["_templates"]
nitpicky = True
smartquotes = False  # they would join the two hyphens of a flag

# Pages

myst_enable_extensions = ["attrs_inline", "colon_fence"]
myst_heading_anchors = 4  # links lead to headings by the names that code hosts give them

# Reference

autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
python_maximum_signature_line_length = 80
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings have shapes and ranges, too
numpydoc_show_class_members = False
nitpick_ignore_regex = [  # bases and types of other libraries, and such as users never name
    ("py:.*", r"(torch|art)\..*"),
    ("py:class", r"splic_ext\.(runs|experiments\.bench|defenses\.menet|common)\..*"),
    ("py:class", r"abc\.ABC"),
    ("py:class", r".*\._\w+"),
    ("py:obj", r".*\.Content"),
]

# Look

html_theme = "pydata_sphinx_theme"
html_title = "splic_ext"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "splic_ext"},
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_center": [],
    "footer_end": ["theme-version"],
    "icon_links": [
        {"name": "Source", "url": repository, "icon": "fa-solid fa-code-branch"},
    ]
    if repository
    else [],
}
copyright = author
html_sidebars = {"index": []}
