"""Identity of processes, across processes and hosts: records, locks and open runs name the process that owns them.

A process is named `host:pid:start`, so that a reused number, a reboot or another machine is never mistaken for it.
`psutil` compares start times only within one process, and its times depend on the system clock; here they are ticks
since the boot, with the id of the boot. A killed process whose parent has not noticed it yet counts as gone.
"""

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]

# Internal environment variables, by which the processes of a run find each other; docs/settings.md explains them.
DRIVER_VARIABLE = "CCLM_DRIVER"
FOLLOWED_VARIABLE = "CCLM_FOLLOWED"
PARENT_RUN_VARIABLE = "CCLM_PARENT_RUN"
REPORT_VARIABLE = "CCLM_REPORT"
RESTORE_ONLY_VARIABLE = "CCLM_RESTORE_ONLY"


def own() -> str:
    """This process's name."""
    return name_of(os.getpid()) or f"{platform.node()}:{os.getpid()}:"


def name_of(pid: int) -> str | None:
    """`host:pid:start` of a process of this machine; None if it has ended."""
    started = _start(pid)
    return f"{platform.node()}:{pid}:{started}" if started else None


def is_gone(name: str) -> bool:
    """Whether a process of this machine has ended; False for processes of other machines, which are unknown."""
    host, pid, started = split(name)
    return host == platform.node() and _start(pid) != started


def is_own(pid: int) -> bool:
    """Whether this is the number of this process."""
    return pid == os.getpid()


def split(name: str) -> tuple[str, int, str]:
    """The host, the number and the start of a process's name.

    >>> split("node-1:4711:99-boot")
    ('node-1', 4711, '99-boot')
    """
    rest, _, started = name.rpartition(":")
    host, _, pid = rest.rpartition(":")
    return host, int(pid) if pid.isdigit() else 0, started


def of_driver(driver: str) -> list[psutil.Process]:
    """The processes that a run has started, except itself, the oldest first."""
    own_pid = split(driver)[1]
    return [one for one in mine() if one.pid != own_pid and variable(one, DRIVER_VARIABLE) == driver]


def mine() -> Iterator[psutil.Process]:
    """All processes of this user that run, except this one and those above it."""
    above = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    for process in psutil.process_iter(["uids", "status"]):
        uids = process.info["uids"]
        if uids and uids.real == os.getuid() and process.pid not in above and not _is_dead(process):
            yield process


def variable(process: psutil.Process, name: str) -> str | None:
    """An environment variable that a process was started with; None if it is not set or cannot be read."""
    try:
        value = process.environ().get(name)
    except psutil.Error:
        return None
    return str(value) if value is not None else None


def holder(lock: Path) -> int | None:
    """The number of the process that holds a lock file; None if nobody does. The lock is not taken for that.

    Only Linux tells; on other systems the result is None.
    """
    if not lock.is_file() or not sys.platform.startswith("linux"):
        return None
    status = lock.stat()
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
        words = line.split()
        if wanted in words and "->" not in words:  # an arrow marks one who waits
            return int(words[words.index(wanted) - 1])
    return None


def end(processes: list[psutil.Process], seconds: float = 10) -> None:
    """Terminates processes, and kills those that have not ended within `seconds`."""
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
    """When a process was started, independent of the system clock; None if it has ended."""
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
    # Fields 3 and 22 of proc(5): the state, and the ticks from boot to start.
    return None if words[0] in "ZX" else f"{words[19]}-{boot[:8]}"


def _is_dead(process: psutil.Process) -> bool:
    try:
        return bool(process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
    except psutil.NoSuchProcess:
        return True
