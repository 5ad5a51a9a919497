"""The result of a check, and its view of the project."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from flows.graph.plan import Plan, read_plan
from flows.project import Project
from flows.tracking.client import Tracking, TrackingError, connect, enabled
from flows.tracking.open_runs import running_processes


class UncheckedError(Exception):
    """A check could not be made, because a server does not answer or a file cannot be read. Never counts as healthy."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A problem.

    Attributes:
        subject: the run, file or process with the problem.
        problem: what is wrong.
        since: Unix seconds; None if unknown.
        remedy: what `--repair` does, or what the user must do if `--repair` cannot help.
        repair: repairs the problem and returns a description; idempotent. None if only the user can repair it.
    """

    subject: str
    problem: str
    remedy: str
    since: float | None = None
    repair: Callable[[], str] | None = field(default=None, repr=False)


class Inspection:
    """A check's view of the project; expensive parts are read once.

    Attributes:
        project: the project to inspect.
    """

    def __init__(self, project: Project) -> None:
        self.project = project

    @cached_property
    def plan(self) -> Plan:
        """The stages, without their changes."""
        return read_plan(self.project, changes=False)

    @property
    def working(self) -> list[str]:
        """Other processes that are running this pipeline now."""
        return running_processes(self.project)

    @property
    def tracking(self) -> Tracking | None:
        """The connection to MLflow; None if tracking is off.

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
        except TrackingError as error:  # cached: each call to an unreachable server takes seconds
            return error
