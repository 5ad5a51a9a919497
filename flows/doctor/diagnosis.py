"""Makes the checks, does the repairs, and says what was found and done."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

import psutil  # type: ignore[import-untyped]
from filelock import FileLock, Timeout

from cclm_core.runtime.errors import CclmError
from flows.doctor.catalogue import CHECKS
from flows.doctor.finding import Finding, Project, UncheckedError
from flows.doctor.orphans import orphans
from flows.doctor.prefect_servers import left_over
from flows.open_runs import abandoned, closed
from flows.paths import state
from flows.tracking import TrackingError

# What a check or a repair may meet in the world; anything else is an error of ours, and raised.
MISHAPS = (UncheckedError, TrackingError, CclmError, OSError, SubprocessError, psutil.Error, Timeout)


@dataclass(frozen=True)
class Result:
    """A finding and what became of it.

    Attributes:
        check: the name of the check.
        repaired: whether it is repaired now.
        done: what was done, or why it failed.
    """

    check: str
    finding: Finding
    repaired: bool = False
    done: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        finding = self.finding
        return {
            "check": self.check,
            "subject": finding.subject,
            "problem": finding.problem,
            "since": finding.since,
            "remedy": finding.remedy,
            "repairable": finding.repair is not None,
            "repaired": self.repaired,
            "done": self.done,
        }

    def __str__(self) -> str:
        finding = self.finding
        since = f" (since {time.strftime('%Y-%m-%d %H:%M', time.localtime(finding.since))})" if finding.since else ""
        lines = [f"{self.check}: {finding.subject}: {finding.problem}{since}"]
        if self.repaired:
            lines.append(f"  repaired: {self.done}")
        else:
            lines.append(f"  {'--repair' if finding.repair else 'to do'}: {finding.remedy}")
            lines += [f"  not repaired: {self.done}"] if self.done else []
        return "\n".join(lines)


def diagnose(root: Path, repair: bool, tell: Callable[[str, list[Result]], None]) -> list[Result]:
    """Makes every check in turn and, if told to, repairs what it finds before the next one is made.

    Args:
        tell: receives each check's name and results as they come.
    """
    results: list[Result] = []
    with _no_run_starts(root, repair):
        for name, check in CHECKS.items():
            project = Project(root)  # each looks afresh: a repair may have changed what it sees
            found = list(_results(name, lambda check=check, project=project: check(project), repair))  # type: ignore[misc]
            tell(name, found)
            results += found
        for driver in abandoned(root, "driver") if repair else []:
            if not orphans(Project(root)) and not left_over(root):  # all that it had started has ended
                closed(root, "driver", driver.id)
    return results


def _results(name: str, check: Callable[[], Iterable[Finding]], repair: bool) -> Iterator[Result]:
    try:
        findings = list(check())
    except MISHAPS as error:
        yield Result(name, Finding(subject="not checked", problem=str(error), remedy="mend that and look again"))
        return
    for finding in findings:
        yield _repaired(name, finding) if repair and finding.repair else Result(name, finding)


def _repaired(name: str, finding: Finding) -> Result:
    assert finding.repair is not None
    try:
        return Result(name, finding, True, finding.repair())
    except MISHAPS as error:
        return Result(name, finding, False, f"{type(error).__name__}: {error}")


@contextmanager
def _no_run_starts(root: Path, repair: bool) -> Iterator[None]:
    """Keeps `cclm run` from starting amid repairs. One that is at work goes on: the checks leave it alone."""
    lock = FileLock(state(root, "locks") / "run.lock")
    try:
        if repair:
            lock.acquire(timeout=0)
    except Timeout:
        pass
    try:
        yield
    finally:
        lock.release()
