"""The last scheduled run in this clone: when it was due, how it ended, and whether the next one is overdue.

The flow writes `.cclm/scheduled-run.json` when it starts and when it ends, so `cclm status` needs no server. A run that
never started is noticed, too: the file has the time at which Prefect scheduled the next one.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.reporting import format_duration
from flows import processes
from flows.formats import format_utc
from flows.messages import warn
from flows.project import Project

FILE = "scheduled-run.json"
LATE_SECONDS = 15 * 60  # a worker may be busy with another run for a while
WAITING, RUNNING, FINISHED, FAILED, STOPPED, DIED = "waiting", "running", "finished", "failed", "stopped", "died"
"""States: no run was due yet; the others are those of the last run."""

_OVERDUE = "OVERDUE"
_MESSAGE_CHARACTERS = 500
_SCHEDULING_SECONDS = 20  # Prefect looks for new deployments every 5 seconds


@dataclass(frozen=True)
class Nightly:
    """The last scheduled run.

    Attributes:
        deployment: `FLOW/DEPLOYMENT`, e.g. `pretrain/nightly`.
        state: `waiting`, `running`, `finished`, `failed`, `stopped` or `died`.
        scheduled: when it was due, in Unix seconds; None if none was due yet.
        started, ended: when it started and ended; None if it did not.
        next: when the next one is due; None if the schedule has no next one, e.g. because it is paused.
        message: why it failed; "" if it did not.
        process: the process that runs it, named as in `flows.processes`.
        overdue_seconds: how late the next one is; 0 if it is not.
    """

    deployment: str
    state: str
    scheduled: float | None = None
    started: float | None = None
    ended: float | None = None
    next: float | None = None
    message: str = ""
    process: str = ""
    overdue_seconds: float = 0.0

    def lines(self) -> Iterator[str]:
        """What `cclm status` prints."""
        if self.scheduled is not None:
            took = f" after {format_duration(self.ended - self.started)}" if self.ended and self.started else ""
            reason = f": {self.message}" if self.message else ""
            due = format_utc(self.scheduled)
            yield f"Last scheduled run ({self.deployment}): due {due}, {self.state}{took}{reason}"
        if self.overdue_seconds:
            due, late = format_utc(self.next or 0), format_duration(self.overdue_seconds)
            yield (
                f"{_OVERDUE}: {self.deployment} was due {due}, {late} ago, and has not started. Check that Prefect's "
                "server and a worker of its pool are running (`make ps`)."
            )
        elif self.next is not None and self.state != RUNNING:
            yield f"Next scheduled run ({self.deployment}): {format_utc(self.next)}"

    def problems(self) -> list[str]:
        """What is wrong with the schedule, for monitoring: a run that failed or is overdue, or no next run."""
        lines = list(self.lines())
        if self.state in (FAILED, DIED):
            shown = lines[:1]
        elif self.overdue_seconds or self.state == RUNNING or self.next is not None:
            shown = []
        else:
            shown = [
                f"{self.deployment} has no next run: its schedule is paused, or Prefect could not be asked. Run "
                "`python -m flows.deployments.alerts` when its server is up."
            ]
        return shown + [line for line in lines if line.startswith(_OVERDUE)]


def schedule_problems(project: Project, now: float) -> list[str]:
    """What `cclm status --check` prints: what is wrong with the scheduled runs of this clone; empty if nothing is.

    Args:
        project: the project.
        now: the time, in Unix seconds.
    """
    last = nightly(project, now)
    if last is None:
        return [
            "no scheduled run is known in this clone. Register the deployments: `prefect --no-prompt deploy --all && "
            "python -m flows.deployments.alerts`."
        ]
    return last.problems()


def nightly(project: Project, now: float) -> Nightly | None:
    """The last scheduled run in this clone; None if nothing is scheduled here.

    Args:
        project: the project.
        now: the time, in Unix seconds.
    """
    path = project.root / ".cclm" / FILE
    if not path.is_file():
        return None
    last = Nightly(**read_json(path))
    values = asdict(last)
    if last.state == RUNNING and processes.is_gone(last.process):
        values |= {"state": DIED, "message": "its process was killed; the next run continues from there"}
    if last.next is not None and last.state != RUNNING and now > last.next + LATE_SECONDS:
        values["overdue_seconds"] = now - last.next
    return Nightly(**values)


@contextmanager
def scheduled(project: Project) -> Iterator[None]:
    """Records the current flow run while the block executes it, if a schedule has started it."""
    due = _due()
    if due is None:
        yield
        return
    name, when = due
    record = {"deployment": name, "scheduled": when, "started": time.time(), "process": processes.own_name()}
    _write(project, record | {"state": RUNNING, "next": next_due(name)})
    state, message = STOPPED, ""
    try:
        yield
        state = FINISHED
    except Exception as error:
        state, message = FAILED, str(error)[:_MESSAGE_CHARACTERS]
        raise
    finally:
        ending = {"state": state, "message": message, "ended": time.time()}
        _write(project, record | ending | {"next": next_due(name)})


def expect_nightly(project: Project, name: str) -> None:
    """Records when a deployment that has just been registered is due, so that its first run can be overdue.

    Keeps the record of its last run.
    """
    path = project.state() / FILE
    record = read_json(path) if path.is_file() else {"deployment": name, "state": WAITING}
    if record["deployment"] != name or record["state"] == RUNNING:
        return
    due, waited = next_due(name), 0
    while due is None and waited < _SCHEDULING_SECONDS:  # Prefect creates the runs of a new deployment a bit later
        time.sleep(1)
        due, waited = next_due(name), waited + 1
    _write(project, record | {"next": due})


def next_due(name: str) -> float | None:
    """When Prefect will start the next run of the deployment `FLOW/NAME`, in Unix seconds; None if it will not.

    A warning is printed if Prefect cannot be asked.
    """
    from httpx import HTTPError
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.exceptions import PrefectException

    try:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name(name)
            runs = client.read_flow_runs(
                deployment_filter=DeploymentFilter.model_validate({"id": {"any_": [deployment.id]}}),
                flow_run_filter=FlowRunFilter.model_validate(
                    {"state": {"type": {"any_": ["SCHEDULED"]}}, "tags": {"all_": ["auto-scheduled"]}}
                ),
                sort=FlowRunSort.EXPECTED_START_TIME_ASC,
                limit=1,
            )
    except (HTTPError, PrefectException) as error:
        warn(f"Prefect cannot be asked when {name} is due next ({type(error).__name__}: {error}).")
        return None
    times = [run.expected_start_time for run in runs if run.expected_start_time]
    return times[0].timestamp() if times else None


def _due() -> tuple[str, float] | None:
    """Deployment and due time of the current flow run, if a schedule has started it."""
    from prefect.runtime import deployment, flow_run

    if not flow_run.id or not deployment.name or "auto-scheduled" not in (flow_run.tags or ()):
        return None
    when = flow_run.scheduled_start_time
    return f"{flow_run.flow_name}/{deployment.name}", when.timestamp() if when else time.time()


def _write(project: Project, record: dict[str, Any]) -> None:
    write_json(project.state() / FILE, record)
