"""Pushing outputs to DVC's default remote, from which other clones pull them.

Only outputs recorded in `dvc.lock` are pushed. The digest of dvc.lock at the last push is stored, so that the next run
repeats a failed push and makes up for a bare `dvc repro`.
"""

import hashlib
import json
import subprocess
from pathlib import Path

from cclm_core.runtime.artifacts import write_json
from cclm_core.runtime.errors import ConfigError
from flows import environment
from flows.project import Project

SETTING = "CCLM_PUSH"
NUM_LINES = 15  # of DVC's output in an error


class PushError(Exception):
    """Outputs could not be pushed to DVC's remote. They are complete in this clone's cache."""


def default_remote(project: Project) -> tuple[str, str] | None:
    """The name and full address of the remote that `dvc push` writes to, or None.

    Raises:
        ConfigError: DVC's configuration is invalid, or the default remote is not defined.
    """
    from dvc.config import Config as DvcConfig
    from dvc.config import ConfigError as DvcConfigError

    try:
        config = DvcConfig(str(project.root / ".dvc"))
        name = config["core"].get("remote")
        if not name:
            return None
        return str(name), str(config["remote"][name]["url"])
    except DvcConfigError as error:
        raise ConfigError(f"DVC's configuration in {project.root / '.dvc'} is invalid: {error}. Correct it.") from None
    except KeyError:
        raise ConfigError(
            f"DVC's default remote {name} has no address. Run `dvc remote add --local {name} ADDRESS`."
        ) from None


def wants_push(project: Project) -> bool:
    """Whether dvc.lock has changed since the last push to the remote; False with `CCLM_PUSH=off`."""
    if environment.is_off(SETTING):
        return False
    remote = default_remote(project)
    return (
        remote is not None and (project.root / "dvc.lock").is_file() and _pushed(project) != _mark(project, remote[1])
    )


def push_outputs(project: Project) -> str | None:
    """Pushes the outputs recorded in dvc.lock.

    Returns:
        the name of the remote, or None without a default remote.

    Raises:
        PushError: DVC could not push everything.
        ConfigError: DVC's configuration is invalid.
    """
    remote = default_remote(project)
    if remote is None:
        return None
    if not (project.root / "dvc.lock").is_file():
        raise PushError("dvc.lock not found. Run `cclm run` or `dvc repro` first.")
    mark = _mark(project, remote[1])  # before the push, which may miss outputs recorded meanwhile
    done = run_dvc(project, "--wait-for-lock", "push", "--remote", remote[0])
    if done.returncode != 0:
        message = "\n".join((done.stderr or done.stdout).strip().splitlines()[-NUM_LINES:])
        raise PushError(f"not all outputs are in DVC's remote {remote[0]} ({remote[1]}):\n{message}")
    write_json(_file(project), mark)
    return remote[0]


def run_dvc(project: Project, *arguments: str, extra: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `dvc` in a clone, without input, and captures its output."""
    command = ["dvc", *arguments]
    return subprocess.run(
        command,
        cwd=project.root,
        env=environment.for_children(extra),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _file(project: Project) -> Path:
    return project.state() / "pushed.json"


def _mark(project: Project, address: str) -> dict[str, str]:
    """Identifies a push: the content of dvc.lock and the address of the remote."""
    return {"dvc.lock": hashlib.sha256((project.root / "dvc.lock").read_bytes()).hexdigest(), "remote": address}


def _pushed(project: Project) -> object:
    try:
        return json.loads(_file(project).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
