"""DVC's own locks, left by processes that are gone.

Its repository lock and ours are released by the operating system, so their files are harmless. Its list of readers and
writers is not: an entry whose number was given to another process blocks a stage for ever.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from flows.doctor.finding import Finding, Project


def check(project: Project) -> Iterator[Finding]:
    """Yields a finding for each process that is gone and still listed, and one when the list cannot be read."""
    folder = project.root / ".dvc" / "tmp"
    path = folder / "rwlock"
    if not path.is_file():
        return
    written = path.stat().st_mtime
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        dead = sorted({pid for pid in _pids(entries) if _is_gone(pid, written)})
    except (ValueError, AttributeError, KeyError, TypeError):
        if not project.working:  # else DVC may be writing it
            yield Finding(
                subject=".dvc/tmp/rwlock",
                problem="it cannot be read, so DVC refuses every stage",
                since=written,
                remedy="removes it: nothing is at work",
                repair=lambda: _remove(folder),
            )
        return
    for pid in dead:
        yield Finding(
            subject=f".dvc/tmp/rwlock, process {pid}",
            problem="it is listed as reading or writing outputs, and is gone",
            since=written,
            remedy="takes it off the list",
            repair=lambda pid=pid: _take_off(folder, pid),  # type: ignore[misc]
        )


def _pids(entries: dict[str, Any]) -> Iterator[int]:
    for info in entries.get("write", {}).values():
        yield int(info["pid"])
    for infos in entries.get("read", {}).values():
        yield from (int(info["pid"]) for info in infos)


def _is_gone(pid: int, written: float) -> bool:
    """Whether the process that an entry means has ended: none has its number, or one that is younger than the list."""
    try:
        process = psutil.Process(pid)
        return bool(process.status() == psutil.STATUS_ZOMBIE or process.create_time() > written + 1)
    except psutil.NoSuchProcess:
        return True


def _take_off(folder: Path, pid: int) -> str:
    from dvc.lock import make_lock

    path = folder / "rwlock"
    with make_lock(str(folder / "rwlock.lock"), tmp_dir=str(folder), wait=True):
        entries = json.loads(path.read_text(encoding="utf-8"))
        write = {name: info for name, info in entries.get("write", {}).items() if int(info["pid"]) != pid}
        read = {
            name: left
            for name, infos in entries.get("read", {}).items()
            if (left := [info for info in infos if int(info["pid"]) != pid])
        }
        path.write_text(json.dumps({"write": write, "read": read}), encoding="utf-8")
    return "took it off the list"


def _remove(folder: Path) -> str:
    from dvc.lock import make_lock

    with make_lock(str(folder / "rwlock.lock"), tmp_dir=str(folder), wait=True):
        (folder / "rwlock").unlink(missing_ok=True)
    return "removed it"
