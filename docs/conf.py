"""Sphinx configuration. `make docs` builds the documentation with warnings as errors."""

from __future__ import annotations

import builtins
import os
from typing import TYPE_CHECKING

from sphinx.ext.autosummary import AutoLink
from sphinx.pycode import ModuleAnalyzer

os.environ["SSECLIENT_DUAL_SPEEDUPS"] = "0"  # the Python code has the docstrings
import sseclient_dual
import sseclient_dual.redis
import sseclient_dual.testing

if TYPE_CHECKING:
    from docutils.nodes import Node, reference, system_message
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "sseclient_dual"
author = "sseclient_dual contributors"
copyright = author  # noqa: A001 - Sphinx's name for it
version = release = sseclient_dual.__version__

extensions = [
    "myst_parser",  # for the changelog, which is Markdown
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",  # for its role `autolink`: a link if the name can be imported
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",  # tabs: the sync API and the async API side by side
]
default_role = "link"
exclude_patterns = ["_build", "benchmarks/*.md"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
pygments_dark_style = "monokai"  # the default underlines the names of modules, as if they were links
html_title = f"sseclient_dual {version}"

# The copy button takes commands, without prompt and output; a block without prompts is copied whole. Pygments cannot
# decide this: it takes output that begins with "#" for a root prompt.
copybutton_prompt_text = "$ "
copybutton_copy_empty_lines = False  # blank lines of output
copybutton_line_continuation_character = "\\"

autoclass_content = "class"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

# The public modules in which each name is documented.
PUBLIC = (sseclient_dual.testing, sseclient_dual.redis, sseclient_dual)
MODULE_OF = {name: module.__name__ for module in PUBLIC for name in module.__all__}

# Links to other projects, without the network: their inventories are stored here. To update one, download objects.inv
# from the address beside it.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", "inventories/python.inv"),
    "urllib3": ("https://urllib3.readthedocs.io/en/stable", "inventories/urllib3.inv"),
}
# Names in signatures and docstrings, and where they are documented.
DOCUMENTED_AS = {
    **{
        name: f"collections.abc.{name}"
        for name in ("AsyncIterator", "Awaitable", "Callable", "Collection", "Iterable", "Iterator", "Mapping")
    },
    "Any": "typing.Any",
    "CookieJar": "http.cookiejar.CookieJar",
    "PoolManager": "urllib3.PoolManager",
    "ssl.SSLContext": "python:ssl.SSLContext",  # urllib3 documents it, too
    "Timeout": "urllib3.util.Timeout",
    "urllib3.Timeout": "urllib3.util.Timeout",
}
# Type variables, and redis-py, which has no inventory here.
nitpick_ignore_regex = [(r"py:.*", r"T|typing\.~_Arguments|(redis\.)?Redis\w*")]


class Link(AutoLink):
    """The role `autolink`, which also knows built-in names, and public names of any module without the module."""

    def run(self) -> tuple[list[Node], list[system_message]]:
        """Return the nodes of a link, or of plain text."""
        if hasattr(builtins, self.text) or self.text.partition(".")[0] in MODULE_OF:
            role = self.env.domains.python_domain.role("obj")
            return role("obj", self.rawtext, self.text, self.lineno, self.inliner, self.options, self.content)
        return super().run()


def find_public_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: reference) -> reference | None:
    """Resolve a public name in a submodule's docstring, and names that are documented in another place."""
    target = node["reftarget"]
    node["reftarget"] = DOCUMENTED_AS.get(target, target)
    module = MODULE_OF.get(target.partition(".")[0])
    if node.get("refdomain") != "py" or module is None:
        return None
    return env.domains.python_domain.resolve_xref(
        env, node["refdoc"], app.builder, "obj", f"{module}.{target}", node, content
    )


def share_docs(package: str, module: str) -> None:
    """Document the constants that a package re-exports: autodoc looks for their docstrings only in its `__init__`."""
    exporting, defining = ModuleAnalyzer.for_module(package), ModuleAnalyzer.for_module(module)
    exporting.analyze()
    defining.analyze()
    exporting.attr_docs |= defining.attr_docs
    exporting.annotations |= defining.annotations


def setup(app: Sphinx) -> None:
    """Register the functions above."""
    share_docs("sseclient_dual.testing", "sseclient_dual.testing.steps")
    app.add_role("link", Link())
    app.connect("missing-reference", find_public_name, priority=400)  # before intersphinx
