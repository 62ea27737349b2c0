"""Sphinx's configuration; scripts/docs builds the pages."""

from __future__ import annotations

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import reference_pages  # noqa: E402

project = "tfl_research"
author = "the tfl_research authors"
version = release = "0.1.0"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
html_theme = "furo"
html_title = "tfl_research"

# Anchors of headings as repository hosts make them, so that links work on both.
myst_heading_anchors = 3

# Docstrings write `name` for code.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Settings", "params_style")]
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
# A name such as `UserError` is importable from several packages.
suppress_warnings = ["ref.python"]

_ROOT_PAGES = re.compile(r"\]\(\.\./([A-Z_]+)\.md\b")


def _mark_code(app, what, name, obj, options, lines):
    """Marks code in docstrings: an indented block after a paragraph of text."""
    for index in range(len(lines) - 1, 1, -1):
        line, before = lines[index], lines[index - 2]
        deeper = len(line) - len(line.lstrip()) - (len(before) - len(before.lstrip()))
        if not line or lines[index - 1] or not before or deeper < 4:
            continue
        if before.rstrip() == "Example:":
            before = lines[index - 2] = ".. rubric:: Example"
        elif before.lstrip().startswith((">>>", "...", "- ", "* ")):
            continue
        if not before.rstrip().endswith("::"):
            indent = " " * (len(lines[index - 2]) - len(lines[index - 2].lstrip()))
            lines[index - 1 : index] = ["", f"{indent}::", ""]


def _link_root_pages(app, docname, source):
    """Links to the pages of the checkout's root lead to their copies."""
    up = "../" * docname.count("/")
    source[0] = _ROOT_PAGES.sub(
        lambda found: f"]({up}reference/{found[1].lower()}.md", source[0]
    )


def setup(app):
    """Writes the reference before the pages are read."""
    app.connect(
        "builder-inited",
        lambda app: reference_pages.write(pathlib.Path(app.srcdir) / "reference"),
    )
    app.connect("autodoc-process-docstring", _mark_code, priority=100)
    app.connect("source-read", _link_root_pages)
