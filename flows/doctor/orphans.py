"""Stages at work for nobody: what drove them is gone, so nobody records their results, and they hold their outputs."""

from collections.abc import Iterator

import psutil  # type: ignore[import-untyped]

from flows import processes
from flows.doctor.finding import Finding, Project, left_process


def check(project: Project) -> Iterator[Finding]:
    """Yields a finding for each process."""
    for process in orphans(project):
        problem = "it runs a stage, and the process that started it is gone"
        remedy = "ends it; what it trained is in its checkpoint, from which the next run goes on"
        yield left_process(process, _words(process), problem, remedy)


def orphans(project: Project) -> list[psutil.Process]:
    """This project's stage processes whose runner, or whose run, is gone."""
    reports = str(project.root / ".cclm")
    found = []
    for process in processes.mine():
        try:
            driver = processes.variable(process, processes.DRIVER_VARIABLE)
            of_stage = (processes.variable(process, "CCLM_REPORT") or "").startswith(reports)
            words = process.cmdline()
            in_project = of_stage or process.cwd() == str(project.root)
            is_runner = "flows.stage" in words
            alone = of_stage and not is_runner and not _has_runner(process)
            left = driver is not None and processes.is_gone(driver) and (of_stage or is_runner or _is_dvc(words))
        except psutil.Error:  # it ended just now, or is not ours to look into
            continue
        if in_project and (alone or left):
            found.append(process)
    return found


def _has_runner(process: psutil.Process) -> bool:
    """Whether one above it is a stage's runner: workers of a stage have the stage between them and it."""
    return any("flows.stage" in parent.cmdline() for parent in process.parents())


def _is_dvc(words: list[str]) -> bool:
    return any(word.rpartition("/")[2] == "dvc" for word in words[:2])


def _words(process: psutil.Process) -> str:
    words = process.cmdline()
    return " ".join(words[words.index("stage") :][:3]) if "stage" in words else " ".join(words[:3])
