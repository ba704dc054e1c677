"""How `make docs` builds these pages; they read well without it, on a repository page, too."""

from __future__ import annotations

from pallets_sphinx_themes import get_version

project = "Flask-Spooler"
copyright = "the Flask-Spooler authors"
release, version = get_version(project)

extensions = [
    "myst_parser",
    "pallets_sphinx_themes",
    "sphinx.ext.autodoc",
    "sphinx_click",
]
exclude_patterns = ["_build"]

# Sections can be linked to as on a repository page.
myst_heading_anchors = 3

# Docstrings put every name into single backticks: a link where it is documented, else just code.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True

# Every link has to lead somewhere. What is let through: names in backticks that are no page, and
# the types of other projects, whose inventories would have to be fetched from the network.
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", r".*"),
    ("py:(class|exc|data)", r"(?!flask_spooler\.).*"),
    ("py:class", r"flask_spooler\.\w+\.(P|R|Seconds|When|Backoff|Record|SpoolEngine|Home|Handler)"),
]
# The theme brings two domains of its own, which nothing here refers to.
suppress_warnings = ["myst.domains"]

html_theme = "flask"
html_title = "Flask-Spooler"
html_sidebars = {
    "index": ["localtoc.html", "searchbox.html"],
    "**": ["localtoc.html", "relations.html", "searchbox.html"],
}
html_show_sourcelink = False
