"""Keeps dvc.lock whole: DVC writes it in place, so a run that is stopped at that moment leaves a truncated file.

After each stage a valid dvc.lock is copied to `.cclm`. A run that finds dvc.lock damaged restores the newest copy. DVC
restores what the copy does not contain from its run cache.
"""

from cclm_core.runtime.files import atomic_write
from flows.graph.dvc_private import is_valid_lock
from flows.messages import warn
from flows.project import Project

NAME = "dvc.lock"


def keep(project: Project) -> None:
    """Copies dvc.lock to `.cclm` if it is whole; another process may be writing it."""
    content = project.lock_file.read_bytes() if project.lock_file.is_file() else b""
    if is_valid_lock(content):
        atomic_write(project.state() / NAME, content)


def restore(project: Project) -> bool:
    """Replaces a damaged dvc.lock with the newest whole copy, with a warning; returns whether it did."""
    path, copy = project.lock_file, project.state() / NAME
    if not path.is_file() or is_valid_lock(path.read_bytes()):
        return False
    damaged = project.state() / f"{NAME}.damaged"
    path.replace(damaged)
    if copy.is_file():
        atomic_write(path, copy.read_bytes())
    source = "restored its newest copy" if copy.is_file() else "DVC's run cache restores what it can"
    warn(f"dvc.lock was truncated by a run that was stopped; {source} (the damaged file is {damaged}).")
    return True
