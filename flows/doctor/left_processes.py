"""Checks for processes whose run has ended."""

from collections.abc import Iterator

import psutil  # type: ignore[import-untyped]

from flows import processes
from flows.doctor.finding import Finding, Inspection
from flows.recovery.orphans import orphaned_servers, orphaned_stages


def stages(inspection: Inspection) -> Iterator[Finding]:
    """Yields a finding for each process of a stage whose runner or run has ended."""
    for process in orphaned_stages(inspection.project):
        problem = "it is running a stage, but the process that started it has ended"
        remedy = "ends it; the next run resumes from the last checkpoint"
        yield _finding(process, _command(process), problem, remedy)


def prefect_servers(inspection: Inspection) -> Iterator[Finding]:
    """Yields a finding for each temporary Prefect server of this project whose run has ended."""
    for server in orphaned_servers(inspection.project):
        yield _finding(server, "Prefect's temporary server", "the run that started it has ended", "ends it")


def _finding(process: psutil.Process, name: str, problem: str, remedy: str) -> Finding:
    def end() -> str:
        """Ends the process."""
        processes.end([process])
        return "ended it"

    subject = f"process {process.pid}, {name}"
    return Finding(subject=subject, problem=problem, since=process.create_time(), remedy=remedy, repair=end)


def _command(process: psutil.Process) -> str:
    words = process.cmdline()
    return " ".join(words[words.index("stage") :][:3]) if "stage" in words else " ".join(words[:3])
