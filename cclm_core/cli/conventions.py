"""What all commands share: `-h`, `--version`, the groups and the examples in the help, exit codes."""

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cclm_core import __version__
from cclm_core.cli.completion import completing
from cclm_core.runtime.errors import CclmError
from cclm_core.runtime.terminal import printable

CONTEXT = {"help_option_names": ["-h", "--help"]}
"""Settings of a command line; its commands inherit them."""

DATA = "Your data and tasks"
PIPELINE = "The pipeline"
MODELS = "Models"
TEXT = "Texts"
OPERATION = "Operation"
DETAILS = "Settings and stages"

PANELS = (DATA, PIPELINE, MODELS, TEXT, OPERATION, DETAILS)
"""The groups of commands, in the order of the help."""

EXIT_CODES = {
    0: "success",
    1: "a stage, a server or MLflow failed, or a file could not be read or written",
    2: "an error that you can fix: wrong usage, configuration or data",
    3: "the output is complete, except for rows that cannot be used",
    130: "interrupted with Ctrl+C",
}
"""Exit code -> its meaning, for all commands."""

EPILOG = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."


class GroupedCommands(TyperGroup):
    """A command line whose help lists the groups in the order of `PANELS`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands, by group."""
        return sorted(super().list_commands(ctx), key=lambda name: PANELS.index(self.commands[name].rich_help_panel))  # type: ignore[attr-defined]


def examples(*commands: str) -> str:
    """The end of the help of a command: examples, one a line, as the argument `epilog` of Typer."""
    escaped = (command.replace("[", "\\[") for command in commands)  # brackets are markup
    return "\n\n".join(["Examples:" if len(commands) > 1 else "Example:", *escaped])


def version_option(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", is_eager=True, callback=lambda shown: _show(shown)
        ),
    ] = False,
) -> None:
    """The options before the command; the argument is handled before this is called."""


def run_command_line(run: Callable[[], None]) -> None:
    """Runs a command line. An error that the user can fix is printed as one message, with exit code 2."""
    try:
        completing(run)
    except CclmError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, missing permissions, a file in place of a folder
        where = f": {error.filename}" if error.filename else ""
        print(f"error: {printable(f'{error.strerror or error}{where}')}", file=sys.stderr)
        sys.exit(1)


def _show(shown: bool) -> None:
    if shown:
        print(f"cclm {__version__}")
        raise typer.Exit
