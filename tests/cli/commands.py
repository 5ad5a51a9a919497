"""Every command of a Typer application, and how the shells ask for completions."""

import io
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import typer

from cclm_core.cli.completion import completing


def commands(app: typer.Typer) -> Iterator[tuple[str, Any]]:
    """The commands of an application with their names, such as `shelf publish`."""

    def below(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        """The commands of a group, or the command itself."""
        if hasattr(command, "commands"):
            for part, member in command.commands.items():
                yield from below(member, f"{name} {part}".strip())
        else:
            yield name, command

    yield from below(typer.main.get_command(app), "")


def examples(app: typer.Typer) -> Iterator[tuple[str, list[str]]]:
    """The examples in the help of each command: the name of the command, and the words after `cclm`."""
    for name, command in commands(app):
        for line in (command.epilog or "").replace("\\[", "[").split("\n\n")[1:]:
            words = shlex.split(re.sub(r"\s<\s.*", "", line.rpartition(" | ")[2]))
            assert words[0] == "cclm", line
            yield name, words[1:]


def parse(app: typer.Typer, words: list[str]) -> str:
    """Parses the words after `cclm`, which must be valid, without running the command; returns the command's name."""
    command: Any = typer.main.get_command(app)
    name: list[str] = []
    while hasattr(command, "commands"):
        name.append(words[0])
        command, words = command.commands[words[0]], words[1:]
    command.make_context(" ".join(name), list(words))
    return " ".join(name)


def complete(app: typer.Typer, line: str, folder: Path) -> list[str]:
    """What bash is offered after a tab at the end of a line that begins with `cclm`.

    Args:
        app: the application.
        line: what is typed; bash splits words at spaces and at `@` and `=`.
        folder: the working directory.
    """
    words = [word for word in re.split(r" +|([@=]+)", line) if word]
    if line[-1] in " ":
        words.append("")
    environment = {
        "_CCLM_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    output, errors = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, environment),
        chdir(folder),
        redirect_stdout(output),
        redirect_stderr(errors),
        suppress(SystemExit),
    ):
        completing(lambda: app(prog_name="cclm"))
    assert errors.getvalue() == ""
    return output.getvalue().split()
