"""Protects dvc.lock from truncation: DVC writes it in place, so killing a run at that moment damages it.

After each stage, `back_up` copies dvc.lock to `.cclm`. Before each run, `restore` replaces a damaged dvc.lock with that
copy. DVC restores stages that are missing from the copy from its run cache.
"""

from cclm_core.runtime.files import atomic_write
from flows.graph.dvc_private import is_valid_lock
from flows.messages import warn
from flows.project import Project

NAME = "dvc.lock"


def back_up(project: Project) -> None:
    """Copies dvc.lock to `.cclm` if it is complete. It may not be if another process is writing it."""
    content = project.lock_file.read_bytes() if project.lock_file.is_file() else b""
    if is_valid_lock(content):
        atomic_write(project.state() / NAME, content)


def restore(project: Project) -> bool:
    """Replaces a damaged dvc.lock with the last backup and prints a warning.

    Returns:
        Whether dvc.lock was damaged.
    """
    path, copy = project.lock_file, project.state() / NAME
    if not path.is_file() or is_valid_lock(path.read_bytes()):
        return False
    damaged = project.state() / f"{NAME}.damaged"
    path.replace(damaged)
    if copy.is_file():
        atomic_write(path, copy.read_bytes())
    action = "Restored the last backup" if copy.is_file() else "There is no backup; DVC restores from its run cache"
    warn(f"dvc.lock was truncated, probably because a run was killed. {action}. The damaged file is now {damaged}.")
    return True
