"""Checks of DVC: site cache, dvc.lock, list of readers and writers, remote."""

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows import environment
from flows.doctor.finding import Finding, Inspection, UncheckedError
from flows.graph import dvc_private
from flows.graph.dvc_private import is_valid_lock
from flows.graph.lockfile import restore
from flows.graph.outputs import is_cached, missing_outputs, restore_outputs

MAX_SHOWN = 5


def site_cache(inspection: Inspection) -> Iterator[Finding]:
    """Yields a finding if other users can access DVC's site cache.

    DVC unpickles files from it, so anyone who can write to it can run code as this user.

    Source: CVE-2025-69872 (diskcache, which DVC uses).
    """
    with dvc_private.open_repository(inspection.project) as repo:
        cache = Path(repo.site_cache_dir)
    if not cache.exists():
        return
    for folder in (cache, *cache.parents):  # DVC opens its cache to everyone, so a parent folder must be private
        if _is_private(folder):
            return
    ours = cache.stat().st_uid == os.getuid()
    remedy = "makes it private" if ours else "set core.site_cache_dir in .dvc/config to a folder of your own"
    yield Finding(
        subject=str(cache),
        problem="other users can write to DVC's site cache or own it, and DVC runs code from it (CVE-2025-69872)",
        remedy=remedy,
        repair=(lambda: _close(cache)) if ours else None,
    )


def lock_file(inspection: Inspection) -> Iterator[Finding]:
    """Yields a finding if dvc.lock is damaged. Skipped during a run, which may be writing it."""
    path = inspection.project.lock_file
    if inspection.working or not path.is_file() or is_valid_lock(path.read_bytes()):
        return

    def repair() -> str:
        """Restores dvc.lock, or moves it away."""
        restore(inspection.project)
        return "restored its newest intact copy" if path.is_file() else "moved it away; DVC's run cache has the results"

    yield Finding(
        subject=path.name,
        problem="it is truncated or empty, so DVC cannot tell which stages are up to date",
        since=path.stat().st_mtime,
        remedy="restores the newest intact copy that `cclm run` kept; without one, moves the file away",
        repair=repair,
    )


def readers(inspection: Inspection) -> Iterator[Finding]:
    """Yields a finding for each dead process in DVC's list of readers and writers, or one if the list is damaged."""
    root = inspection.project.root
    path = root / dvc_private.RWLOCK
    try:
        pids = dvc_private.gone_processes(root)
    except dvc_private.DamagedListError:
        if not inspection.working:  # otherwise DVC may be writing it
            yield Finding(
                subject=dvc_private.RWLOCK,
                problem="it cannot be parsed, so DVC refuses to run any stage",
                since=path.stat().st_mtime,
                remedy="deletes it: nothing is running",
                repair=lambda: _delete_list(root),
            )
        return
    for pid in pids:
        yield Finding(
            subject=f"{dvc_private.RWLOCK}, process {pid}",
            problem="the list names it as a reader or writer of outputs, but it has ended",
            since=path.stat().st_mtime,
            remedy="removes it from the list",
            repair=lambda pid=pid: _remove(root, pid),  # type: ignore[misc]
        )


def outputs(inspection: Inspection) -> Iterator[Finding]:
    """Yields a finding for each stage whose recorded outputs are missing from the folder but in DVC's cache.

    DVC deletes outputs before it runs a stage, so a killed run leaves them deleted. Skipped during a run.
    """
    project = inspection.project
    content = project.lock_file.read_bytes() if project.lock_file.is_file() else b""
    if inspection.working or not is_valid_lock(content):
        return
    for stage in dvc_private.recorded_stages(content):
        paths = [path for path, md5 in missing_outputs(project, stage) if is_cached(project, md5)]
        if paths:
            yield Finding(
                subject=stage,
                problem=f"its recorded outputs are missing: {_some(paths)}",
                remedy="restores them from DVC's cache",
                repair=lambda stage=stage: f"restored {_some(restore_outputs(project, stage))}",  # type: ignore[misc]
            )


def unpushed(inspection: Inspection) -> Iterator[Finding]:
    """Yields a finding for outputs missing from the default remote, and one for outputs missing from the cache too.

    Skipped during a run, which pushes its outputs at the end.

    Raises:
        UncheckedError: the remote does not answer.
    """
    if inspection.working:
        return
    with dvc_private.open_repository(inspection.project) as repo:
        if not repo.config["core"].get("remote"):
            return
        cache = repo.cache.local
    status: dict[str, Any] = json.loads(_dvc(inspection, "status", "--cloud", "--json").stdout or "{}")
    if new := sorted(name for name, value in status.items() if value == "new"):
        yield Finding(
            subject="DVC's default remote",
            problem=f"{len(new)} objects of this project are missing from it: {_some(new)}",
            remedy="pushes them",
            repair=lambda: _push(inspection),
        )
    # DVC compares a folder by its list of files. If cache and remote both lack the list, DVC reports nothing.
    path = inspection.project.lock_file
    recorded = dvc_private.recorded_outputs(path.read_bytes()) if path.is_file() else []
    lost = [out["path"] for out in recorded if "md5" in out and not cache.exists(out["md5"])]
    if missing := sorted({*lost, *(name for name, value in status.items() if value == "missing")}):
        yield Finding(
            subject="DVC's cache and its default remote",
            problem=f"both lack outputs recorded in dvc.lock: {_some(missing)}",
            remedy="push them from the clone that made them, or make them again with `cclm run --force STAGE`",
        )


def _delete_list(root: Path) -> str:
    dvc_private.remove_list(root)
    return "deleted it"


def _remove(root: Path, pid: int) -> str:
    dvc_private.remove_process(root, pid)
    return "removed it from the list"


def _is_private(folder: Path) -> bool:
    status = folder.stat()
    return status.st_uid == os.getuid() and not stat.S_IMODE(status.st_mode) & 0o077


def _close(cache: Path) -> str:
    cache.chmod(0o700)
    return "made it private"


def _push(inspection: Inspection) -> str:
    done = _dvc(inspection, "push")
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "pushed them"


def _some(names: list[str]) -> str:
    return ", ".join(names[:MAX_SHOWN]) + (", ..." if len(names) > MAX_SHOWN else "")


def _dvc(inspection: Inspection, *arguments: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        ["dvc", "--wait-for-lock", *arguments],
        cwd=inspection.project.root,
        env=environment.for_children(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        errors = [line for line in done.stderr.strip().splitlines() if "ERROR" in line]
        errors = errors or done.stderr.splitlines()[-1:]
        raise UncheckedError(f"`dvc {' '.join(arguments)}` failed: {' '.join(errors)}")
    return done
