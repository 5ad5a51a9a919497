"""Names for processes that stay unique across hosts, reboots and reused process IDs.

Stage records, locks and open runs store the name of their owner, `host:pid:start`. On Linux, `start` is the number of
clock ticks from boot to the start of the process, plus the boot ID: unlike the times of `psutil`, it does not depend on
the system clock. Zombies count as ended.
"""

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]

# Internal environment variables through which the processes of a run find each other: see docs/settings.md.
DRIVER_VARIABLE = "CCLM_DRIVER"
FOLLOWED_VARIABLE = "CCLM_FOLLOWED"
PARENT_RUN_VARIABLE = "CCLM_PARENT_RUN"
REPORT_VARIABLE = "CCLM_REPORT"
RESTORE_ONLY_VARIABLE = "CCLM_RESTORE_ONLY"


def own_name() -> str:
    """The name of this process, `host:pid:start`."""
    return name_of(os.getpid()) or f"{platform.node()}:{os.getpid()}:"


def name_of(pid: int) -> str | None:
    """The name `host:pid:start` of a process on this machine; None if it has ended."""
    started = _start(pid)
    return f"{platform.node()}:{pid}:{started}" if started else None


def is_gone(name: str) -> bool:
    """Whether a process of this machine has ended. False for other machines, whose processes are unknown."""
    host, pid, started = split(name)
    return host == platform.node() and _start(pid) != started


def is_current(pid: int) -> bool:
    """Whether `pid` is the ID of this process."""
    return pid == os.getpid()


def split(name: str) -> tuple[str, int, str]:
    """Splits a process name into host, process ID and start.

    >>> split("node-1:4711:99-boot")
    ('node-1', 4711, '99-boot')
    """
    rest, _, started = name.rpartition(":")
    host, _, pid = rest.rpartition(":")
    return host, int(pid) if pid.isdigit() else 0, started


def of_this_user() -> Iterator[psutil.Process]:
    """The running processes of this user, without this process and its ancestors."""
    ancestors = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    for process in psutil.process_iter(["uids", "status"]):
        uids = process.info["uids"]
        if uids and uids.real == os.getuid() and process.pid not in ancestors and not _is_dead(process):
            yield process


def environment_variable(process: psutil.Process, name: str) -> str | None:
    """An environment variable from the start of a process; None if it is unset or unreadable."""
    try:
        value = process.environ().get(name)
    except psutil.Error:
        return None
    return str(value) if value is not None else None


def lock_holder(lock: Path) -> int | None:
    """The ID of the process that holds a lock file; None if it is free. Does not acquire the lock.

    Works only on Linux; always None on other systems.
    """
    if not lock.is_file() or not sys.platform.startswith("linux"):
        return None
    status = lock.stat()
    inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
        words = line.split()
        if inode in words and "->" not in words:  # an arrow marks a process that waits for the lock
            return int(words[words.index(inode) - 1])
    return None


def end(processes: list[psutil.Process], seconds: float = 10) -> None:
    """Terminates processes, then kills those that are still running after `seconds`."""
    for process in processes:
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    for process in psutil.wait_procs(processes, timeout=seconds)[1]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=seconds)


def _start(pid: int) -> str | None:
    """The start of a process, independent of the system clock; None if it has ended."""
    if not sys.platform.startswith("linux"):
        try:
            process = psutil.Process(pid)
            return None if _is_dead(process) else f"{process.create_time():.0f}"
        except psutil.NoSuchProcess:
            return None
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # Fields 3 and 22 of /proc/PID/stat, see proc(5): the state, and the ticks from boot to start.
    return None if words[0] in "ZX" else f"{words[19]}-{boot[:8]}"


def _is_dead(process: psutil.Process) -> bool:
    try:
        return bool(process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
    except psutil.NoSuchProcess:
        return True
