"""Flow runs that Prefect counts as running although their process has ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil  # type: ignore[import-untyped]

from flows import processes
from flows.project import Project
from flows.recovery.prefect_private import local_pid
from flows.tracking.open_runs import OpenRun, abandoned, open_runs, record_closed, record_opened

LIVE = ("RUNNING", "PENDING", "CANCELLING")
TEMPORARY = ""  # `OpenRun.where` of a run on Prefect's temporary server
REQUEST_SECONDS = 10


class PrefectError(Exception):
    """Prefect's server does not answer."""


@contextmanager
def noted(project: Project) -> Iterator[None]:
    """Records that this process executes the current flow run, so that a later run can close it after a crash."""
    from prefect.runtime import flow_run

    run_id = str(flow_run.id or "")
    if not run_id:  # the flow's function was called directly
        yield
        return
    record_opened(project, "prefect", run_id, server())
    try:
        yield
    finally:
        record_closed(project, "prefect", run_id)


def crash_abandoned(project: Project) -> list[str]:
    """Marks the open flow runs of this project's killed processes as Crashed. The server must be running.

    Returns:
        one message per flow run.

    Raises:
        PrefectError: Prefect does not answer.
    """
    runs = [run for run in abandoned(project, "prefect") if run.where == server()]
    if not runs:
        return []
    with client() as api:
        return [f"flow run {run.id} in Prefect: {_crash(api, project, run.id)}" for run in runs]


def crash(project: Project, run_id: str) -> str:
    """Marks a flow run and its tasks as Crashed; returns a description.

    Raises:
        PrefectError: Prefect does not answer.
    """
    with client() as api:
        return _crash(api, project, run_id)


def live_runs(api: Any) -> list[Any]:
    """All flow runs that are running, pending or being cancelled."""
    from prefect.client.schemas.filters import FlowRunFilter

    selection = FlowRunFilter.model_validate({"state": {"type": {"any_": LIVE}}})
    runs: list[Any] = []
    while page := api.read_flow_runs(flow_run_filter=selection, limit=200, offset=len(runs)):
        runs += page
    return runs


def gone_process(run: Any, notes: dict[str, OpenRun]) -> int | None:
    """The pid of a live flow run's process if it has ended; None if it is alive, remote or unknown.

    Args:
        run: the flow run, from Prefect's API.
        notes: flow run id -> the local note of its process, see `notes_of`.
    """
    if note := notes.get(str(run.id)):
        return processes.split(note.process)[1] if note.abandoned else None
    pid = local_pid(run, server())
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return pid
        # The flow's own process reports the start of the run, so a younger process has only reused the pid.
        is_younger = run.start_time is not None and process.create_time() > run.start_time.timestamp() + 1
    except psutil.NoSuchProcess:
        return pid
    return pid if is_younger else None


def notes_of(project: Project) -> dict[str, OpenRun]:
    """Flow run id -> the local note of the process that executes it."""
    return {run.id: run for run in open_runs(project) if run.kind == "prefect"}


@contextmanager
def client() -> Iterator[Any]:
    """Prefect's client, for the configured server or a temporary one.

    Raises:
        PrefectError: it does not answer.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}),
            get_client(httpx_settings={"timeout": REQUEST_SECONDS}, sync_client=True) as api,
        ):
            yield api
    except (httpx.HTTPError, RuntimeError) as error:
        raise PrefectError(f"Prefect does not answer: {type(error).__name__}: {error}") from error


def server() -> str:
    """The address of the configured server; "" if each run starts its own."""
    from prefect.settings import PREFECT_API_URL

    return str(PREFECT_API_URL.value() or TEMPORARY)


def _crash(api: Any, project: Project, run_id: str) -> str:
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed

    state: Any = Crashed(message="Its process has ended: it was killed, or the machine went down.")
    try:
        run = api.read_flow_run(run_id)
    except ObjectNotFound:
        record_closed(project, "prefect", run_id)
        return "it no longer exists"
    if run.state is not None and run.state.type.value in LIVE:
        this_run = FlowRunFilter.model_validate({"id": {"any_": [run_id]}})
        live = TaskRunFilter.model_validate({"state": {"type": {"any_": LIVE}}})
        for task in api.read_task_runs(flow_run_filter=this_run, task_run_filter=live):
            api.set_task_run_state(task.id, state, force=True)
        api.set_flow_run_state(run_id, state, force=True)
    record_closed(project, "prefect", run_id)
    return "marked as Crashed"
