"""Outputs that DVC's default remote lacks: another machine could not use them."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import yaml

from flows import environment
from flows.doctor.finding import Finding, Project, UncheckedError
from flows.lockfile import NAME

SHOWN = 5


def check(project: Project) -> Iterator[Finding]:
    """Yields a finding for what was not pushed, and one for what is nowhere; while a run works, that is its business.

    Raises:
        UncheckedError: the remote does not answer.
    """
    from dvc.repo import Repo

    if project.working:
        return
    with Repo(str(project.root)) as repo:
        if not repo.config["core"].get("remote"):
            return
        cache = repo.cache.local
    status: dict[str, Any] = json.loads(_dvc(project, "status", "--cloud", "--json").stdout or "{}")
    if new := sorted(name for name, value in status.items() if value == "new"):
        yield Finding(
            subject="DVC's default remote",
            problem=f"it lacks {len(new)} objects of this project: {_some(new)}",
            remedy="pushes them",
            repair=lambda: _push(project),
        )
    # To compare a folder, DVC gets its list from the remote when its cache lacks it; when that lacks it too, it is
    # silent.
    lost = [path for path, oid in _outputs(project) if not cache.exists(oid)]
    if missing := sorted({*lost, *(name for name, value in status.items() if value == "missing")}):
        yield Finding(
            subject="DVC's cache and its default remote",
            problem=f"neither has what dvc.lock names: {_some(missing)}",
            remedy="push it from where it was made; or make it anew, `cclm run --force STAGE`",
        )


def _outputs(project: Project) -> Iterator[tuple[str, str]]:
    path = project.root / NAME
    stages = (yaml.safe_load(path.read_bytes()) or {}).get("stages", {}) if path.is_file() else {}
    for stage in stages.values():
        yield from ((out["path"], out["md5"]) for out in stage.get("outs", []) if "md5" in out)


def _push(project: Project) -> str:
    done = _dvc(project, "push")
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "pushed them"


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _dvc(project: Project, *arguments: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        ["dvc", "--wait-for-lock", *arguments],
        cwd=project.root,
        env=environment.for_children(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = [line for line in done.stderr.strip().splitlines() if "ERROR" in line] or done.stderr.splitlines()[-1:]
        raise UncheckedError(f"`dvc {' '.join(arguments)}` failed: {' '.join(said)}")
    return done
