"""What a check finds, and what it looks at."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from flows import processes
from flows.graph import Plan, read_plan
from flows.open_runs import open_runs
from flows.paths import state
from flows.records import read_record
from flows.tracking import Tracking, TrackingError, connect, enabled


class UncheckedError(Exception):
    """A check cannot be made: a server does not answer, a file cannot be read. That is never taken for health."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is wrong.

    Attributes:
        subject: what it is wrong with: a run, a file, a process.
        problem: what is wrong.
        since: Unix seconds; None where nothing tells.
        remedy: what `--repair` does about it; or what you must do, where it can do nothing.
        repair: does it and says what it did; None where a person must. Doing it twice does no more than doing it once.
    """

    subject: str
    problem: str
    remedy: str
    since: float | None = None
    repair: Callable[[], str] | None = field(default=None, repr=False)


def left_process(process: psutil.Process, what: str, problem: str, remedy: str) -> Finding:
    """The finding of a process that works for nobody; repairing ends it."""

    def end() -> str:
        processes.end([process])
        return "ended it"

    subject = f"process {process.pid}, {what}"
    return Finding(subject=subject, problem=problem, since=process.create_time(), remedy=remedy, repair=end)


class Project:
    """The project as the checks look at it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def plan(self) -> Plan:
        """The stages, without what changed."""
        return read_plan(self.root, changes=False)

    @property
    def working(self) -> list[str]:
        """The processes that bring this pipeline up to date at this moment, in words."""
        own = processes.own()
        opened = [one.process for one in open_runs(self.root) if one.process != own and not one.abandoned]
        found = [f"process {processes.split(process)[1]}" for process in opened]
        locked = processes.holder(state(self.root, "locks") / "run.lock")
        if locked is not None and not processes.is_own(locked):
            found.append(f"process {locked}")
        for path in state(self.root, "stages").glob("*.json"):
            record = read_record(self.root, path.stem)
            if record is not None and record.running:
                found.append(f"process {processes.split(record.process)[1]} ({record.stage})")
        return list(dict.fromkeys(found))

    @property
    def tracking(self) -> Tracking | None:
        """MLflow; None where tracking is off.

        Raises:
            UncheckedError: it does not answer.
        """
        if not enabled():
            return None
        if isinstance(self._tracking, TrackingError):
            raise UncheckedError(f"MLflow does not answer: {self._tracking}")
        return self._tracking

    @cached_property
    def _tracking(self) -> Tracking | TrackingError:
        try:
            return connect(self.root)
        except TrackingError as error:  # asked once: an unreachable server keeps everyone waiting
            return error
