"""`python -m infra.stack up|down|ps`: starts, stops and shows the servers and workers of this project."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any
from xmlrpc.client import Fault, ServerProxy

import psutil  # type: ignore[import-untyped]
import typer
from filelock import FileLock
from supervisor.xmlrpc import SupervisorTransport

from cclm_core.runtime.errors import CclmError
from flows import environment
from flows.project import Project
from infra.stack.keeper import HEALTH, POLL_SECONDS
from infra.stack.processes import end, members
from infra.stack.settings import CONF, service_environment

DOWN_SECONDS = 600.0  # more than all services and flows together may take to stop
app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)


class StackError(CclmError):
    """The stack did not start, or did not stop."""


@app.command()
def up(foreground: Annotated[bool, typer.Option("--foreground", help="Stay until SIGTERM.")] = False) -> None:
    """Start PostgreSQL, Prefect, MLflow and the workers, each when the one before is healthy."""
    project = Project.find()
    folder = project.state("stack")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with FileLock(project.state("locks") / "stack.lock"):
            _start(project, folder)
        while foreground and status(folder)["phase"] != "down":
            time.sleep(1)
    except BaseException:
        _stop(folder)
        raise
    if foreground:
        _stop(folder)
        raise StackError(f"supervisord ended; see {folder}/logs/supervisord.log.")
    settings = environment.stack_settings(folder)
    print(f"Prefect {settings['PREFECT_API_URL'].removesuffix('/api')}  MLflow {settings['MLFLOW_TRACKING_URI']}")
    print(f"user names and passwords: {os.path.relpath(folder / environment.CLIENT_FILE)}")


@app.command()
def down() -> None:
    """Stop the workers, their flows, then the servers; also what a killed supervisord left."""
    project = Project.find()
    with FileLock(project.state("locks") / "stack.lock"):
        _stop(project.state("stack"))
    print("the stack is down")


@app.command()
def ps(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show what runs. Exit code 0 if everything is healthy, otherwise 1."""
    found = status(Project.find().state("stack"))
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        for service in found["services"]:
            since = time.strftime("%F %T", time.localtime(service["since"])) if service["since"] else "never"
            print(f"{service['name']:14} {service['state']:10} {service['pid']:8} {since:20} {service['message']}")
        print(f"the stack is {found['phase']}")
    is_well = all(service["state"] in ("healthy", "done") for service in found["services"])
    sys.exit(0 if found["phase"] == "up" and is_well else 1)


def status(folder: Path) -> dict[str, Any]:
    """The state of the stack in `folder` as plain JSON values.

    Returns:
        `phase`: down, starting, up or stopping. `supervisor`: pid, 0 if it does not run. `services`: each with name,
        state (waiting, starting, healthy, unhealthy, done, failed, backoff, fatal, stopping), pid (0 if it does not
        run), since (Unix seconds, 0: never) and message.
    """
    server = ServerProxy("http://_", transport=SupervisorTransport(serverurl=f"unix://{folder}/supervisord.sock"))
    try:
        infos: Any = server.supervisor.getAllProcessInfo()
        state = {
            "phase": "up" if environment.stack_settings(folder) else "starting",
            "supervisor": server.supervisor.getPID(),
        }
    except (OSError, HTTPException, Fault) as error:  # a dying supervisord has no socket
        return {"phase": "stopping" if isinstance(error, Fault) else "down", "supervisor": 0, "services": []}
    health = json.loads((folder / HEALTH).read_text()) if (folder / HEALTH).is_file() else {}
    services = []
    by_name = {info["name"]: info for info in infos}
    for service, (pid, problem) in health.items():
        info = by_name[service]
        running = ("starting" if pid != info["pid"] else "unhealthy" if problem else "healthy", problem)
        exited = ("failed", f"exit code {info['exitstatus']}") if info["exitstatus"] else ("done", "")
        names = {"STARTING": running, "RUNNING": running, "EXITED": exited, "STOPPED": ("waiting", "")}
        name, message = names.get(info["statename"], (info["statename"].lower(), info["spawnerr"]))
        since = info["start"] if info["pid"] else info["stop"]
        services.append({"name": service, "state": name, "pid": info["pid"], "since": since, "message": message})
    return state | {"services": services}


def _start(project: Project, folder: Path) -> None:
    log = folder / "logs" / "keeper.log"
    seen = log.stat().st_size if log.is_file() else 0
    if status(folder)["phase"] in ("stopping", "down"):
        _stop(folder)
        (folder / HEALTH).unlink(missing_ok=True)
        variables = service_environment(project, folder)
        command = [sys.executable, "-m", "supervisor.supervisord", "--configuration", str(folder / CONF)]
        done = subprocess.run(command, cwd=project.root, env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StackError(f"supervisord did not start:\n{done.stderr or done.stdout}")
    before, phase = "", ""
    while not before == phase in ("up", "down"):  # once more, for the rest of the log
        before, phase = phase, status(folder)["phase"]
        if log.is_file():
            with log.open(errors="replace") as stream:
                stream.seek(seen)
                print(stream.read(), end="", flush=True)
                seen = stream.tell()
        time.sleep(POLL_SECONDS)
    if phase == "down":
        raise StackError(f"the stack did not start; see above and {log.parent}.")


def _stop(folder: Path) -> None:
    deadline = time.monotonic() + DOWN_SECONDS
    if supervisord := status(folder)["supervisor"]:
        print("the stack is stopping", flush=True)
        with suppress(psutil.NoSuchProcess):
            psutil.Process(supervisord).terminate()
    while status(folder)["phase"] != "down":
        if time.monotonic() > deadline:
            raise StackError(f"supervisord did not stop within {DOWN_SECONDS:g} s; see {folder}/logs.")
        time.sleep(POLL_SECONDS)
    end(members(folder))  # left by a killed supervisord, or by a crashed service
    (folder / environment.CLIENT_FILE).unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        app()
    except CclmError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
