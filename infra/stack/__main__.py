"""`python -m infra.stack up|down|ps`: starts, stops and lists the servers and workers of this project."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any
from xmlrpc.client import Fault

import typer
from filelock import FileLock

from cclm_core.runtime.errors import CclmError
from flows import environment, processes
from flows.gate.registry import CHAMPION
from flows.project import Project
from flows.tracking.client import database
from flows.tracking.mlflow_private import local_champions
from infra.stack.keeper import Services, StackError, connect, end, members
from infra.stack.settings import CONF, service_environment, write_private

SUPERVISORD = "supervisor.supervisord"
DOWN_SECONDS = 600.0  # more than all services and flows together may take to stop
CLIENT_PREFIXES = ("PREFECT_API_", "PREFECT_CLIENT_", "MLFLOW_TRACKING_")
app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command()
def up() -> None:
    """Start PostgreSQL, Prefect, MLflow and the workers, each when the one before is healthy."""
    project = Project.find()
    folder = project.state("stack")
    with FileLock(project.state("locks") / "stack.lock"):
        try:
            _start(project, folder)
        except BaseException:
            _stop(folder)
            raise
    settings = environment.stack_settings(folder)
    print(f"Prefect {settings['PREFECT_API_URL'].removesuffix('/api')}  MLflow {settings['MLFLOW_TRACKING_URI']}")
    print(f"user names and passwords: {os.path.relpath(folder / environment.CLIENT_FILE)}")
    if champions := local_champions(database(project), CHAMPION):
        name = database(project).name
        print(f"{name} has champions ({', '.join(champions)}). To copy those that this server does not have:")
        print(f"  cclm promote --import-from {name}")


@app.command()
def down() -> None:
    """Stop the workers, their flows, then the servers; also the processes that a killed supervisord left."""
    project = Project.find()
    with FileLock(project.state("locks") / "stack.lock"):
        _stop(project.state("stack"))
    print("the stack is down")


@app.command()
def ps(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Check and list the services. Exit code 0 if all are healthy, otherwise 1."""
    state = status(Project.find().state("stack"))
    if as_json:
        print(json.dumps(state, indent=2))
    else:
        for service in state["services"]:
            detail = service["problem"] or service["description"] or "healthy"
            print(f"{service['name']:14} {service['statename']:9} {detail}")
        print(f"the stack is {state['phase']}")
    sys.exit(1 if state["phase"] != "up" or any(service["problem"] for service in state["services"]) else 0)


def status(folder: Path) -> dict[str, Any]:
    """The `phase` of a stack and its `services`: supervisord's `getProcessInfo` plus `problem` ("": healthy)."""
    services: list[dict[str, Any]] = []
    with suppress(CclmError, OSError, HTTPException, Fault):  # it is down, or stops just now
        current = Services(folder)
        services = [info | {"problem": current.problem(info)} for info in current.infos().values()]
    return {"phase": phase(folder), "services": services}


def phase(folder: Path) -> str:
    """`down`, `starting`, `up` or `stopping`."""
    try:
        connect(folder).getPID()
    except Fault:
        return "stopping"
    except (OSError, HTTPException):  # supervisord closes its socket before it ends
        return "down"
    return "up" if environment.stack_settings(folder) else "starting"


def _start(project: Project, folder: Path) -> None:
    if phase(folder) == "up":
        return
    _stop(folder)
    variables = service_environment(project, folder)
    command = [sys.executable, "-m", SUPERVISORD, "--configuration", str(folder / CONF)]
    done = subprocess.run(command, cwd=project.root, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(f"supervisord did not start:\n{done.stderr or done.stdout}")
    services = Services(folder)
    for name in services.checks:
        services.start(name)
    clients = {name: value for name, value in variables.items() if name.startswith(CLIENT_PREFIXES)}
    supervisord = {environment.SUPERVISOR: processes.name_of(services.rpc.getPID()) or ""}
    write_private(folder / environment.CLIENT_FILE, supervisord | clients)
    print("the stack is up", flush=True)


def _stop(folder: Path) -> None:
    (folder / environment.CLIENT_FILE).unlink(missing_ok=True)
    if supervisord := [process for process in members(folder) if SUPERVISORD in (process.info["cmdline"] or [])]:
        print("the stack is stopping", flush=True)
        processes.end(supervisord, DOWN_SECONDS)  # it stops its services, the last one first
    end(members(folder))  # leftovers of a killed supervisord or a crashed service


if __name__ == "__main__":
    try:
        app()
    except CclmError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
