"""DVC's remote, where others find the outputs: which one it is, and pushing to it.

`dvc.lock` names the outputs, so nothing can be pushed that no stage has recorded. What was pushed last is remembered by
the digest of dvc.lock: a push that failed, or that a bare `dvc repro` left to do, is done by the next run.
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
SHOWN_LINES = 15


class PushError(Exception):
    """Outputs could not be pushed to DVC's remote; they are whole in this clone's cache."""


def default_remote(project: Project) -> tuple[str, str] | None:
    """The name and the full address of the remote that `dvc push` writes to; None if there is no remote.

    Raises:
        ConfigError: DVC's configuration is wrong, e.g. the default remote is not there.
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
        raise ConfigError(f"DVC's configuration is invalid: {error}") from None
    except KeyError:
        raise ConfigError(
            f"DVC's default remote {name} has no address. Set it: `dvc remote add --local {name} ADDRESS`."
        ) from None


def wants_push(project: Project) -> bool:
    """Whether outputs are recorded that were not pushed to the remote; never with `CCLM_PUSH=off`."""
    if environment.is_off(SETTING):
        return False
    remote = default_remote(project)
    return (
        remote is not None and (project.root / "dvc.lock").is_file() and _pushed(project) != _mark(project, remote[1])
    )


def push_outputs(project: Project) -> str | None:
    """Pushes what dvc.lock records, remembers it, and returns the remote's name; None when there is no remote.

    Raises:
        PushError: DVC could not push everything.
        ConfigError: DVC's configuration is wrong.
    """
    remote = default_remote(project)
    if remote is None:
        return None
    if not (project.root / "dvc.lock").is_file():
        raise PushError("dvc.lock not found. Run `cclm run` or `dvc repro` first.")
    mark = _mark(project, remote[1])  # before: what is recorded meanwhile is not pushed
    done = run_dvc(project, "--wait-for-lock", "push", "--remote", remote[0])
    if done.returncode != 0:
        message = "\n".join((done.stderr or done.stdout).strip().splitlines()[-SHOWN_LINES:])
        raise PushError(f"the outputs are not all in DVC's remote {remote[0]} ({remote[1]}):\n{message}")
    write_json(_file(project), mark)
    return remote[0]


def run_dvc(project: Project, *arguments: str, extra: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `dvc` in a clone, without input; its output is captured."""
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
    """Identifies what a push puts where."""
    return {"dvc.lock": hashlib.sha256((project.root / "dvc.lock").read_bytes()).hexdigest(), "remote": address}


def _pushed(project: Project) -> object:
    try:
        return json.loads(_file(project).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
