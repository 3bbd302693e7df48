"""How `make docs` builds these pages: Markdown through MyST, the API reference from the docstrings.

Rule of this file: no warning is switched off; a page that cannot be built is mended.
"""

from typing import TYPE_CHECKING

from coordclient import Node

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "coordsvc"
author = "the coordsvc authors"
copyright = "2026, the coordsvc authors"  # noqa: A001  # Sphinx's name for it

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "coordsvc"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def setup(app: "Sphinx") -> None:
    """Leave out the members of named tuples: "Alias for field number 0". The class says what they are."""
    app.connect("autodoc-skip-member", lambda *of: isinstance(of[3], type(Node.path)) or None)
