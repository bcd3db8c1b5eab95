"""Settings of the documentation; built with warnings as errors (`make docs`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sseclient_dual

if TYPE_CHECKING:
    from docutils.nodes import reference
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "sseclient_dual"
author = "sseclient_dual contributors"
copyright = author  # noqa: A001 - Sphinx's name for it
version = release = sseclient_dual.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",  # for its role `autolink`: a link where the name is known, else plain code
    "sphinx.ext.napoleon",
    "sphinx_design",  # two faces side by side
]
default_role = "autolink"
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"sseclient_dual {version}"

autoclass_content = "class"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

# Names of the standard library and of urllib3 have nothing to link to, as no other project's index is
# fetched; every name of our own must be found.
OURS = "|".join(["sseclient_dual", *sseclient_dual.__all__])
nitpick_ignore_regex = [(r"py:.*", rf"(?!({OURS})\b).*")]


def find_public_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: reference) -> reference | None:
    """Find a public name that a submodule's docstring uses: it is documented where users import it from."""
    target = node["reftarget"]
    if node.get("refdomain") != "py" or target.partition(".")[0] not in sseclient_dual.__all__:
        return None
    return env.domains.python_domain.resolve_xref(
        env, node["refdoc"], app.builder, "obj", f"sseclient_dual.{target}", node, content
    )


def setup(app: Sphinx) -> None:
    """Give Sphinx the above."""
    app.connect("missing-reference", find_public_name)
