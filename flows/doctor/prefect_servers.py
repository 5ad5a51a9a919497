"""Prefect's temporary servers, left over by runs that were killed."""

from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from flows import processes
from flows.doctor.finding import Finding, Project, left_process

APPLICATION = "prefect.server.api.server:create_app"


def check(project: Project) -> Iterator[Finding]:
    """Yields a finding for each server of this project that serves nobody."""
    for server in left_over(project.root):
        yield left_process(server, "Prefect's temporary server", "the run that started it is gone", "ends it")


def left_over(root: Path) -> list[psutil.Process]:
    """Temporary servers on this project's database whose run is gone."""
    found = []
    for process in processes.mine():
        try:
            if APPLICATION not in process.cmdline() or processes.variable(process, "PREFECT__SERVER_EPHEMERAL") != "1":
                continue
            home = Path(processes.variable(process, "PREFECT_HOME") or "/")
            driver = processes.variable(process, processes.DRIVER_VARIABLE)
            gone = processes.is_gone(driver) if driver else process.ppid() == 1
        except psutil.Error:
            continue
        if gone and home == root / ".cclm" / "prefect":
            found.append(process)
    return found
