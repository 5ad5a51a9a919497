"""Makes the checks, repairs what they find, and reports both."""

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

# Expected failures of a check or a repair; anything else is a bug, and raised.
MISHAPS = (UncheckedError, TrackingError, PrefectError, CclmError, OSError, SubprocessError, psutil.Error, Timeout)


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


def diagnose(project: Project, repair: bool, show: Callable[[str, list[Result]], None]) -> list[Result]:
    """Makes every check in turn; with `repair`, repairs what it finds before the next check is made.

    Args:
        show: receives each check's name and results as they come.
    """
    results: list[Result] = []
    with _no_run_starts(project) if repair else nullcontext():
        for name, check in CHECKS.items():
            inspection = Inspection(project)  # a new one each time: a repair may have changed what it sees
            found = list(_results(name, partial(check, inspection), repair))
            show(name, found)
            results += found
        for driver in abandoned(project, "driver") if repair else []:
            if not orphaned_stages(project) and not orphaned_servers(project):  # all that it started has ended
                record_closed(project, "driver", driver.id)
    return results


def _results(name: str, check: Callable[[], Iterable[Finding]], repair: bool) -> Iterator[Result]:
    try:
        findings = list(check())
    except MISHAPS as error:
        yield Result(
            name, Finding(subject="not checked", problem=str(error), remedy="fix that and run the doctor again")
        )
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
def _no_run_starts(project: Project) -> Iterator[None]:
    """Keeps `cclm run` from starting during repairs. A run in progress continues: the checks leave its files alone."""
    with ExitStack() as stack:
        with suppress(Timeout):
            stack.enter_context(try_lock(project.run_lock, Timeout(str(project.run_lock))))
        yield
