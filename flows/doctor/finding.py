"""What a check finds, and what it inspects."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from flows.graph.plan import Plan, read_plan
from flows.project import Project
from flows.tracking.client import Tracking, TrackingError, connect, enabled
from flows.tracking.open_runs import running_processes


class UncheckedError(Exception):
    """A check could not be made: a server does not answer, a file cannot be read. It never counts as healthy."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A problem.

    Attributes:
        subject: the run, file or process that has it.
        problem: what is wrong.
        since: Unix seconds; None if unknown.
        remedy: what `--repair` does about it, or what the user must do if `--repair` can do nothing.
        repair: repairs it and returns what it did; None if only the user can. Repeating it has no further effect.
    """

    subject: str
    problem: str
    remedy: str
    since: float | None = None
    repair: Callable[[], str] | None = field(default=None, repr=False)


class Inspection:
    """The project as one check sees it; what is expensive to read is read once."""

    def __init__(self, project: Project) -> None:
        self.project = project

    @cached_property
    def plan(self) -> Plan:
        """The stages, without what changed."""
        return read_plan(self.project, changes=False)

    @property
    def working(self) -> list[str]:
        """The other processes that are running this pipeline now."""
        return running_processes(self.project)

    @property
    def tracking(self) -> Tracking | None:
        """MLflow; None if tracking is off.

        Raises:
            UncheckedError: MLflow does not answer.
        """
        if not enabled():
            return None
        if isinstance(self._tracking, TrackingError):
            raise UncheckedError(f"MLflow does not answer: {self._tracking}")
        return self._tracking

    @cached_property
    def _tracking(self) -> Tracking | TrackingError:
        try:
            return connect(self.project)
        except TrackingError as error:  # asked once: an unreachable server costs seconds each time
            return error
