"""Sphinx builds the documentation: `make docs`. The pages are the Markdown files of the repository, where they are.

Links between files work on a repository host and in the built site, which loads nothing from the network.
"""

import re
import sys
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer
from sphinx.errors import ExtensionError

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from generate import NAVIGATION, api_pages, toctrees  # noqa: E402
from offline import remote_resources  # noqa: E402

import cclm_core  # noqa: E402

project = "CCLM"
author = "the authors of CCLM"
version = release = cclm_core.__version__
root_doc = "README"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
pages = [page for listed in NAVIGATION.values() for page in listed]
include_patterns = ["README.md", "docs/api/*.md", *(f"{page}.md" for page in pages)]
exclude_patterns = [
    path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("docs", "infra", "benchmarks")
]
default_role = "literal"  # docstrings write code as `code`
highlight_language = "text"  # of blocks that name no language
nitpicky = False

html_theme = "furo"
html_title = f"CCLM {release}"
html_copy_source = False
html_show_sourcelink = False
html_permalinks_icon = "#"
html_static_path = ["style"]
html_css_files = ["wide.css"]
html_theme_options = {"footer_icons": [], "navigation_with_keys": True}

myst_heading_anchors = 4
myst_enable_extensions = []

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True
napoleon_custom_sections = [("Source", "returns_style"), ("Shapes", "notes_style")]


def setup(app: Any) -> None:
    """Adds the navigation to the first page, and an index.html that leads to it."""
    api_pages(ROOT / "docs" / "api")
    app.connect("autodoc-process-docstring", _code_as_rst, priority=100)  # before napoleon
    for language in ("csv", "conll"):  # Pygments does not know them
        app.add_lexer(language, TextLexer)
    app.connect("source-read", _add_navigation)
    app.connect("build-finished", _add_index)


def _add_navigation(_app: Any, name: str, source: list[str]) -> None:
    if name == root_doc:
        source[0] += toctrees()


def _add_index(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.name == "html":
        page = f'<!doctype html><meta http-equiv="refresh" content="0; url={root_doc}.html"><title>{project}</title>\n'
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")
        if remote := list(remote_resources(Path(app.outdir))):
            raise ExtensionError(f"the pages must load nothing from the network, got {', '.join(remote)}")


def _code_as_rst(_app: Any, _kind: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Docstrings write code as Markdown does: `name`, and blocks between lines of three backticks."""
    text = re.sub(r"^( *)```\w*\n(.*?)^ *```$", _block, "\n".join(lines), flags=re.MULTILINE | re.DOTALL)
    parts = re.split(r"(^ *>>> .*$)", text, flags=re.MULTILINE)  # lines of examples stay as they are
    parts[::2] = [re.sub(r"(?<!`)`([^`]+)`(?!`)(\w?)", _literal, part) for part in parts[::2]]
    lines[:] = "".join(parts).split("\n")


def _block(match: re.Match[str]) -> str:
    indented = "".join(f"    {line}\n" if line else "\n" for line in match[2].splitlines())
    return f"{match[1]}::\n\n{indented}"


def _literal(match: re.Match[str]) -> str:
    return f"``{match[1]}``" + (f"\\ {match[2]}" if match[2] else "")
