"""Processes whose run has ended: stages, whose results would not be recorded, and temporary servers."""

from pathlib import Path

import psutil  # type: ignore[import-untyped]

from flows import processes
from flows.project import Project
from flows.recovery.prefect_private import is_temporary_server


def orphaned_stages(project: Project) -> list[psutil.Process]:
    """Processes of this project's stages whose runner or run has ended. They still lock their outputs."""
    reports = str(project.root / ".cclm")
    orphans = []
    for process in processes.of_this_user():
        try:
            driver = processes.environment_variable(process, processes.DRIVER_VARIABLE)
            is_stage = (processes.environment_variable(process, processes.REPORT_VARIABLE) or "").startswith(reports)
            words = process.cmdline()
            in_project = is_stage or process.cwd() == str(project.root)
            is_runner = "flows.stage" in words
            lost_runner = is_stage and not is_runner and not _has_runner(process)
            is_part_of_run = is_stage or is_runner or _is_dvc(words)
            lost_run = driver is not None and processes.is_gone(driver) and is_part_of_run
        except psutil.Error:  # it has just ended, or belongs to another user
            continue
        if in_project and (lost_runner or lost_run):
            orphans.append(process)
    return orphans


def orphaned_servers(project: Project) -> list[psutil.Process]:
    """Prefect's temporary servers on this project's database whose run has ended."""
    orphans = []
    for process in processes.of_this_user():
        try:
            if not is_temporary_server(process):
                continue
            home = Path(processes.environment_variable(process, "PREFECT_HOME") or "/")
            driver = processes.environment_variable(process, processes.DRIVER_VARIABLE)
            lost_run = processes.is_gone(driver) if driver else process.ppid() == 1
        except psutil.Error:
            continue
        if lost_run and home == project.root / ".cclm" / "prefect":
            orphans.append(process)
    return orphans


def _has_runner(process: psutil.Process) -> bool:
    """Whether an ancestor is a stage runner. The worker processes of a stage are not its direct children."""
    return any("flows.stage" in parent.cmdline() for parent in process.parents())


def _is_dvc(words: list[str]) -> bool:
    return any(word.rpartition("/")[2] == "dvc" for word in words[:2])
