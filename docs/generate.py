"""Writes the pages that come from code: `python docs/generate.py` (part of `make docs`).

docs/params.md and docs/commands.md are in git, so that they can be read on a repository host; tests compare them with
the code. The pages of the Python interface are written by the build only: on a host, the docstrings are in the source.
"""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from cclm_core.runtime.config import Config

ROOT = Path(__file__).parents[1]

NAVIGATION = {
    "First steps": ["docs/first-run", "docs/own-data", "docs/walkthrough", "docs/install", "docs/glossary"],
    "How to": [
        "docs/tasks",
        "docs/labeled",
        "docs/ensembles",
        "docs/pipeline",
        "docs/transfer",
        "docs/blocks",
        "docs/shelf",
        "docs/huggingface",
        "docs/serving",
        "docs/production",
        "docs/doctor",
        "infra/README",
        "infra/kubernetes/README",
    ],
    "Reference": ["docs/params", "docs/commands", "docs/api/index", "docs/settings", "docs/library", "docs/objectives"],
    "Explanation": [
        "docs/results",
        "docs/report",
        "docs/gate",
        "docs/noise",
        "docs/text",
        "docs/corpus",
        "docs/contract",
        "docs/encoders",
        "docs/composition",
        "docs/parts",
        "docs/contexts",
        "docs/recipe",
        "benchmarks/README",
    ],
    "Help": ["docs/troubleshooting", "CHANGELOG", "docs/migrating", "SECURITY", "CONTRIBUTING", "docs/licenses"],
}
"""Heading -> its pages, in the order of the navigation."""

API = {
    "cclm_core": "Names at the top",
    "cclm_core.pretraining": "Train components",
    "cclm_core.finetuning": "Models of tasks",
    "cclm_core.composition": "Compositions",
    "cclm_core.applications": "Generate and correct",
    "cclm_core.noise": "Noise",
    "cclm_core.text": "Text",
    "cclm_core.corpus": "Corpora",
    "cclm_core.evaluation": "Evaluation",
    "cclm_core.huggingface": "Hugging Face",
    "cclm_core.shelf": "The shelf",
    "cclm_core.runtime.blocks": "Your own blocks",
    "cclm_core.runtime.errors": "Errors",
}
"""Public module -> the title of its page."""


HEAD = """\
# Every command

<!-- Written by `make docs` from the commands. Do not edit. -->

`cclm --help` lists the commands by group, and `cclm COMMAND -h` shows one. Results go to standard output, everything
else to standard error. With `--json`, a command prints its results as JSON. Without a terminal, or with `NO_COLOR`,
there are no colors; tables fit the width of the terminal or `COLUMNS`.

`cclm --install-completion` installs completion for your shell: commands, options, and the names of components,
compositions, tasks, stages and keys of your project. In a server's shell profile, use
`source <(cclm --show-completion bash)`.

## Exit codes

| code | meaning |
|---|---|
"""


def toctrees() -> str:
    """The navigation in the syntax of MyST."""
    return "".join(
        "\n```{toctree}\n:hidden:\n:caption: " + heading + "\n\n" + "".join(f"/{page}\n" for page in pages) + "```\n"
        for heading, pages in NAVIGATION.items()
    )


def api_pages(folder: Path) -> None:
    """Writes a page for each public module; Sphinx fills them with docstrings."""
    folder.mkdir(exist_ok=True)
    pages = {module.replace(".", "_"): (module, title) for module, title in API.items()}
    index = "# Python interface\n\nEvery public name, with shapes, units and what it raises. "
    index += (
        "[library.md](../library.md) has examples.\n\n```{toctree}\n:maxdepth: 1\n\n"
        + "".join(f"{name}\n" for name in pages)
        + "```\n"
    )
    _write(folder / "index.md", index)
    for name, (module, title) in pages.items():
        content = "\n".join([f".. automodule:: {module}", "", *_directives(module)])
        _write(folder / f"{name}.md", f"# {title}: {module}\n\n```{{eval-rst}}\n{content}\n```\n")


def _directives(module: str) -> Iterator[str]:
    """A directive for each public class and function, in the order of `__all__`, otherwise of the module's text.

    Names at the top that belong to another page are links to it.
    """
    loaded = import_module(module)
    for name in _public_names(loaded):
        member = getattr(loaded, name)
        homes = [other for other in API if other != "cclm_core" and vars(import_module(other)).get(name) is member]
        if module == "cclm_core" and homes:
            yield f"\n* :py:obj:`{name} <{homes[0]}.{name}>`"
        elif isinstance(member, type):
            is_config = issubclass(member, Config)  # its keys are in params.md
            yield f"\n.. autoclass:: {module}.{name}{'(**keys)' if is_config else ''}"
            yield from () if is_config else ("   :members:",)
        elif callable(member):
            yield f"\n.. autofunction:: {module}.{name}"


def _public_names(module: ModuleType) -> list[str]:
    """`__all__`, or the names that a package imports as its own (`import X as X`), or that a module defines."""
    text = Path(str(module.__file__)).read_text(encoding="utf-8")
    exported = re.findall(r"import (\w+) as \1$", text, re.MULTILINE)
    defined = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return getattr(module, "__all__", None) or exported or [name for name in defined if not name.startswith("_")]


def committed_pages() -> dict[str, str]:
    """File name in docs/ -> content of the pages that are in git."""
    from cclm_core.cli import reference

    return {"params.md": reference.page(), "commands.md": commands_page()}


def commands_page() -> str:
    """The page of all commands: exit codes, then usage, arguments, options and examples of each command."""
    import typer
    from typer.cli import get_docs_for_click

    from cclm_core.cli.conventions import EXIT_CODES
    from flows.cli import app

    command = typer.main.get_command(app)
    command.epilog, command.help = None, None
    _show_examples(command)
    listed = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="cclm"), name="cclm", title="cclm")
    rows = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())
    return HEAD + rows + "\n## Commands\n\n" + listed.replace("\\[", "[").removeprefix("# cclm\n\n").rstrip() + "\n"


def _show_examples(command: Any) -> None:
    """Puts the examples of a command and of all commands in it into blocks."""
    for part in getattr(command, "commands", {}).values():
        part.short_help = part.help.partition("\n\n")[0].replace("\n", " ")  # otherwise cut after 45 characters
        _show_examples(part)
    if command.epilog:
        title, *lines = command.epilog.replace("\\[", "[").split("\n\n")
        command.epilog = f"**{title.rstrip(':')}**:\n\n```sh\n" + "\n".join(lines) + "\n```"


def _write(path: Path, text: str) -> None:
    """Writes a file only if it changes, so that Sphinx reads again only what changed."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for name, text in committed_pages().items():
        _write(ROOT / "docs" / name, text)
