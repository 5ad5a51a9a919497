"""`cclm stack`: the servers and workers of this project."""

import json
import os
import subprocess
import sys
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cclm_core.runtime.errors import ConfigError
from flows.project import Project
from flows.stack import control
from flows.stack.credentials import ENVIRONMENT, read_settings
from flows.stack.state import StackState, folder_of, read_state

app = typer.Typer(help="Start, stop and show the servers and workers of this project.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def up(
    foreground: Annotated[bool, typer.Option(help="Stay, for systemd or a container; SIGTERM ends it.")] = False,
) -> None:
    """Start PostgreSQL, Prefect, MLflow and the workers, each when the one before is healthy."""
    root = Project.find().root
    if foreground:
        control.foreground(root, print)
    state = control.up(root, lambda line: print(line, flush=True))
    _addresses(state)


@app.command()
def down() -> None:
    """Stop them all, the workers first."""
    control.down(Project.find().root, lambda line: print(line, flush=True))
    print("the stack is down")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Say what runs. Exit code 0 when all is healthy, else 1."""
    state = read_state(folder_of(Project.find().root))
    if as_json:
        print(json.dumps(state.as_json(), indent=2))
    elif state.phase == "down":
        print("the stack is down")
    else:
        table = Table()
        for column in ("service", "state", "for", "process", "restarts", "why"):
            table.add_column(column)
        for name, service in state.services.items():
            pid = str(service.pid or "")
            table.add_row(name, service.state, _ago(service.since), pid, str(service.restarts), service.message)
        Console().print(table)
        print(f"the stack is {state.phase}")
        _addresses(state)
    well = state.phase == "up" and all(one.state in ("healthy", "done") for one in state.services.values())
    sys.exit(0 if well else 1)


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def exec(service: str, command: list[str]) -> None:
    """Run a command as one of the services sees the world: its addresses, its database, its passwords."""
    environment = control.service_environment(folder_of(Project.find().root), service)
    try:
        sys.exit(subprocess.run(command, env=environment, check=False).returncode)
    except OSError as error:
        raise ConfigError(f"{command[0]} must be a program that can be run: {error}") from None


@app.command()
def environment() -> None:
    """Print the addresses and passwords for other programs: eval "$(cclm stack environment)"."""
    settings = read_settings(folder_of(Project.find().root) / ENVIRONMENT)
    if not settings:
        raise ConfigError("The stack must have been started once; it was not. Run `cclm stack up`.")
    for name, value in settings.items():
        print(f"export {name}={value}")


@app.command()
def rotate() -> None:
    """Forget the passwords, while the stack is down; the next start makes new ones."""
    control.forget_passwords(folder_of(Project.find().root))
    print("the next `cclm stack up` makes new passwords")


def _addresses(state: StackState) -> None:
    folder = folder_of(Project.find().root)
    settings = read_settings(folder / ENVIRONMENT)
    if state.phase == "up" and settings:
        prefect, mlflow = settings["PREFECT_API_URL"].removesuffix("/api"), settings["MLFLOW_TRACKING_URI"]
        print(f"Prefect {prefect}  MLflow {mlflow}  user names and passwords: {os.path.relpath(folder / ENVIRONMENT)}")


def _ago(since: float) -> str:
    seconds = int(time.time() - since) if since else 0
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"
