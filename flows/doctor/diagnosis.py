"""Makes the checks, repairs their findings, and reports both."""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from subprocess import SubprocessError
from typing import Any

import psutil  # type: ignore[import-untyped]
from filelock import Timeout

from cclm_core.runtime.errors import CclmError
from cclm_core.runtime.files import try_lock
from flows.doctor.catalogue import CHECKS
from flows.doctor.finding import Finding, Inspection, UncheckedError
from flows.project import Project
from flows.recovery.flow_runs import PrefectError
from flows.recovery.orphans import orphaned_servers, orphaned_stages
from flows.tracking.client import TrackingError
from flows.tracking.open_runs import abandoned, record_closed

# Expected failures of a check or a repair. Anything else is a bug and is raised.
ERRORS = (
    UncheckedError,
    TrackingError,
    PrefectError,
    CclmError,
    OSError,
    sqlite3.Error,
    SubprocessError,
    psutil.Error,
    Timeout,
)


@dataclass(frozen=True)
class Result:
    """A finding and its repair.

    Attributes:
        check: the name of the check.
        repaired: whether the problem is repaired now.
        done: a description of the repair, or why it failed.
    """

    check: str
    finding: Finding
    repaired: bool = False
    done: str = ""

    def as_json(self) -> dict[str, Any]:
        """The result as plain JSON values."""
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


def diagnose(project: Project, repair: bool, show: Callable[[str, list[Result]], None]) -> list[Result]:
    """Makes every check in turn; with `repair`, repairs its findings before the next check.

    Args:
        project: the project to examine.
        repair: whether to repair the findings.
        show: is called after each check with its name and results.
    """
    results: list[Result] = []
    with _no_run_starts(project) if repair else nullcontext():
        for name, check in CHECKS.items():
            inspection = Inspection(project)  # a new one each time: a repair may have changed something
            check_results = list(_results(name, partial(check, inspection), repair))
            show(name, check_results)
            results += check_results
        for driver in abandoned(project, "driver") if repair else []:
            if not orphaned_stages(project) and not orphaned_servers(project):  # all its processes have ended
                record_closed(project, "driver", driver.id)
    return results


def _results(name: str, check: Callable[[], Iterable[Finding]], repair: bool) -> Iterator[Result]:
    try:
        findings = list(check())
    except ERRORS as error:
        remedy = "fix the cause and run the doctor again"
        yield Result(name, Finding(subject="not checked", problem=str(error), remedy=remedy))
        return
    for finding in findings:
        yield _repaired(name, finding) if repair and finding.repair else Result(name, finding)


def _repaired(name: str, finding: Finding) -> Result:
    assert finding.repair is not None
    try:
        return Result(name, finding, True, finding.repair())
    except ERRORS as error:
        return Result(name, finding, False, f"{type(error).__name__}: {error}")


@contextmanager
def _no_run_starts(project: Project) -> Iterator[None]:
    """Keeps `cclm run` from starting during repairs. A run in progress continues: the checks skip its files."""
    with ExitStack() as stack:
        with suppress(Timeout):
            stack.enter_context(try_lock(project.run_lock, Timeout(str(project.run_lock))))
        yield
