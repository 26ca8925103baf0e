"""How Sphinx builds these pages; they are plain Markdown, made to be read on a code host as well.

So nothing in a page is there for Sphinx alone: the trees of contents are made from the lists in
``index.md``, and the page of the shop from the shop's own README.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes

from celery_durable import __version__

HERE = Path(__file__).resolve().parent
SHOP = HERE.parent / "example_project" / "README.md"

project = "celery-durable"
author = "the authors of celery-durable"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib.mermaid"]
exclude_patterns = ["changelog.d", "examples", "_build"]
suppress_warnings = ["config.cache"]
nitpicky = True

html_theme = "furo"
html_title = "celery-durable"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False

myst_enable_extensions = ["deflist"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 3
mermaid_d3_zoom = False
mermaid_height = "auto"
mermaid_fullscreen_button = "+"

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

#: Classes that are not ours: what is inherited from them is described where they are at home.
FOREIGN = "AsyncResult, Exception, Enum"
#: Parts of ``Durable`` that its other modules use.
INNER = "app, converters, declarations, propagators, registry, runtime"

# -- what is made from the pages -------------------------------------------------------------------

SECTION = re.compile(r"^## (.+?)$\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^## .*`(celery_durable[\w.]*)`", re.MULTILINE)
HEADING = re.compile(r"^## .*`(celery_durable[\w.]*)`", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#]*)\)")
PAGE = re.compile(r"\]\(([\w/-]+)\.md\)")


def with_trees(text: str) -> str:
    """Add a tree of contents for each section of the index, of the pages that it links to."""
    trees = [
        "\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```"])
        for title, body in SECTION.findall(text)
        if (pages := list(dict.fromkeys(PAGE.findall(body))))
    ]
    return "\n\n".join([text, *trees, ""])


def the_shop(_: str) -> str:
    """Return the README of the example project, with its links to these pages."""
    text = SHOP.read_text().replace("](../docs/", "](")
    return re.sub(r"\[([^\]]+)\]\((?:shop|tests)/[\w/.]+\)", r"\1", text)


def with_objects(text: str) -> str:
    """Put what autodoc says of each name in the place of the lists of names."""

    def objects(found: re.Match[str]) -> str:
        module = HEADING.findall(text[: found.start()])[-1]
        entries = [_object(module, name) for name in re.findall(r"`(\w+)`", found[0])]
        return "\n".join(["```{eval-rst}", f".. currentmodule:: {module}", "", *entries, "```"])

    return re.sub(r"(?:^\* `\w+`\n)+", objects, text, flags=re.MULTILINE)


def _object(module: str, name: str) -> str:
    value = getattr(import_module(module), name)
    if isinstance(value, type):
        options = [":members:", f":inherited-members: {FOREIGN}", f":exclude-members: {INNER}"]
        return "\n   ".join([f".. autoclass:: {name}", *options, ""])
    return f".. {'autofunction' if callable(value) else 'autodata'}:: {name}\n"


MADE = {"index": with_trees, "shop": the_shop, "reference/api": with_objects}


def read(app: Any, name: str, content: list[str]) -> None:
    """Let a page be what is made from it, and a link to a file beside ``docs`` be its text."""
    folder = (HERE / name).parent

    def link(found: re.Match[str]) -> str:
        target = (folder / found[2]).resolve()
        if target == SHOP:
            return f"[{found[1]}](/shop.md)"
        return found[0] if target.is_relative_to(HERE) else found[1]

    content[0] = LINK.sub(link, MADE.get(name, str)(content[0]))


def find(app: Any, env: Any, node: Any, text: Any) -> Any:
    """Lead a type in a signature to the public name of its class; leave others without a link."""
    name = node.get("reftarget", "").rpartition(".")[2]
    if node.get("refdomain") != "py" or node.get("reftype") not in ("class", "obj", "data", "exc"):
        return None
    for public in ("celery_durable", "celery_durable.testing"):
        known = env.get_domain("py").objects.get(f"{public}.{name}")
        if known is not None:
            at = app.builder.get_relative_uri(node["refdoc"], known.docname)
            link = nodes.reference("", "", internal=True, refuri=f"{at}#{known.node_id}")
            link += text
            return link
    return text


def setup(app: Any) -> None:
    """Connect what is above to Sphinx."""
    app.connect("source-read", read)
    app.connect("missing-reference", find)
