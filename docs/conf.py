"""How `make docs` builds these pages; they read well without it, on a repository page, too."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from pallets_sphinx_themes import get_version
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

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

# Docstrings put every name into single backticks: see `link_names`.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True

# Every link has to lead somewhere, but for the types of other projects, whose inventories would
# have to be fetched from the network, and for those that are no affair of the reader.
nitpicky = True
nitpick_ignore_regex = [
    ("py:(class|exc|data)", r"(?!flask_spooler\.).*"),
    ("py:class", r"flask_spooler\.\w+\.(P|R\w*|Seconds|When|Backoff|SpoolEngine|Home|Handler)"),
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


def link_names(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Element | None:
    """Make a name in backticks a link where one thing of that name is documented, else code."""
    if node.get("reftype") != "obj":
        return None
    name = node["reftarget"]
    domain: Any = env.get_domain("py")
    found = {
        (entry.docname, entry.node_id)
        for _, entry in domain.find_obj(env, None, None, name, None, 1)
    }
    if len(found) != 1:
        return nodes.literal(text=name)
    [(page, place)] = found
    return make_refnode(app.builder, node["refdoc"], page, place, content)


def setup(app: Sphinx) -> None:
    """Take part in the build."""
    app.connect("missing-reference", link_names)
