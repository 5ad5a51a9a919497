"""Shell completion: names of components, compositions, tasks and stages, read from params.yaml and dvc.yaml.

The shell calls `cclm` whenever you press the tab key, so nothing here imports torch or the pipeline. Outside a
project, and if a file cannot be read, there is nothing to complete; the command itself reports what is wrong.
"""

import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from cclm_core.runtime.config import load_yaml
from cclm_core.runtime.errors import ConfigError

Completer = Callable[[str], list[str]]
"""From the beginning of a word to the words that it can become: the argument `autocompletion` of Typer."""

_BASH = "complete_bash"
_VARIABLE = "_CCLM_COMPLETE"


def names(*sections: str) -> Completer:
    """Completes the names in sections of params.yaml, such as `components`."""

    def complete(incomplete: str) -> list[str]:
        """The names that begin with a text."""
        params = _read("params.yaml")
        return _matching(incomplete, (name for section in sections for name in _keys(params.get(section))))

    return complete


def models(*others: str) -> Completer:
    """Completes the names of registered models and of `others`; an empty list lets the shell complete paths."""
    named = names("compositions", "tasks", "ensembles")

    def complete(incomplete: str) -> list[str]:
        """The names that begin with a text."""
        return named(incomplete) + _matching(incomplete, others)

    return complete


def stages(incomplete: str) -> list[str]:
    """Completes stages of dvc.yaml, such as `ingest`, `pretrain` and `pretrain@entities`."""
    return _matching(incomplete, _stages())


def keys(incomplete: str) -> list[str]:
    """Completes keys in params.yaml, level by level: `components.`, `components.entities.`, ..."""
    parent, dot, _ = incomplete.rpartition(".")
    values: Any = _read("params.yaml")
    for part in filter(None, parent.split(".")):
        values = values.get(part) if isinstance(values, dict) else None
    children = values.items() if isinstance(values, dict) else ()
    return _matching(
        incomplete, (f"{parent}{dot}{name}{'.' if isinstance(value, dict) else ''}" for name, value in children)
    )


def completing(run: Callable[[], None]) -> None:
    """Runs the command line. In completion for bash, it undoes that bash splits words at `@` and `=`.

    bash passes `pretrain@ent` as the words `pretrain`, `@` and `ent`, and replaces `@ent` by the answer.
    """
    if os.environ.get(_VARIABLE) != _BASH or not os.environ.get("COMP_CWORD", "").isdecimal():
        run()
        return
    typed = os.environ.get("COMP_WORDS", "").split("\n")[: int(os.environ["COMP_CWORD"]) + 1]
    joined = re.sub(r"(?<=\S)\n([@=])(?:\n|$)", r"\1", "\n".join(typed))
    words = joined.split("\n")
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = joined, str(len(words) - 1)
    answers = io.StringIO()
    try:
        with redirect_stdout(answers):
            run()
    finally:
        value = words[-1].rpartition("=")[2]  # of `--option=value`
        kept = value.rpartition("@")[0]
        sys.stdout.write("".join(f"{answer.removeprefix(kept)}\n" for answer in answers.getvalue().splitlines()))


def _stages() -> Iterator[str]:
    params = _read("params.yaml")
    entries = _read("dvc.yaml").get("stages")
    for stage, entry in entries.items() if isinstance(entries, dict) else ():
        yield stage
        items = entry.get("foreach") if isinstance(entry, dict) else None
        reference = re.fullmatch(r"\$\{(\w+)\}", items) if isinstance(items, str) else None
        yield from (f"{stage}@{name}" for name in _keys(params.get(reference[1]) if reference else items))


def _keys(values: Any) -> list[str]:
    return [str(value) for value in values] if isinstance(values, dict | list) else []


def _matching(incomplete: str, words: Any) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def _read(name: str) -> dict[str, Any]:
    """A YAML file of the project; empty if it is missing or damaged."""
    root = os.environ.get("DVC_ROOT")
    here = Path.cwd()
    for folder in [Path(root)] if root else [here, *here.parents]:
        if (folder / "dvc.yaml").is_file():
            try:
                return load_yaml(folder / name)
            except ConfigError:
                return {}
    return {}
