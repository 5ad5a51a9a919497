"""Runs of flows that Prefect takes for alive though their process is gone."""

import os
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from flows import processes
from flows.doctor.finding import Finding, Project, UncheckedError
from flows.open_runs import OpenRun, abandoned, closed, open_runs, opened

LIVE = ("RUNNING", "PENDING", "CANCELLING")
TEMPORARY = ""  # where a run is that was opened on Prefect's temporary server
REQUEST_SECONDS = 10


@contextmanager
def noted(root: Path) -> Iterator[None]:
    """Notes that this process runs the flow run that it is in, so that it is ended even if the process is killed."""
    from prefect.runtime import flow_run

    run_id = str(flow_run.id or "")
    if not run_id:  # the flow's function was called by itself
        yield
        return
    opened(root, "prefect", run_id, server())
    try:
        yield
    finally:
        closed(root, "prefect", run_id)


def check(project: Project) -> Iterator[Finding]:
    """Yields a finding for each such run: those that ran here by our notes, and those of workers on this machine.

    Raises:
        UncheckedError: Prefect does not answer.
    """
    left = abandoned(project.root, "prefect")
    if not server():
        for one in left:
            if one.where == TEMPORARY:
                yield _noted_finding(project, one)
        return
    with client() as api:
        notes = {one.id: one for one in open_runs(project.root) if one.kind == "prefect"}
        for run in live_runs(api):
            if gone := _gone(run, notes.get(str(run.id))):
                yield Finding(
                    subject=f"flow run {run.name} in Prefect, {run.id}",
                    problem=f"it is {run.state.name}, and its process {gone} is gone",
                    since=run.state.timestamp.timestamp(),
                    remedy="marks it and its tasks Crashed",
                    repair=lambda run=run: _crash_one(project.root, str(run.id)),  # type: ignore[misc]
                )


def crash_abandoned(root: Path) -> list[str]:
    """Marks the flow runs that local notes say were left open as Crashed; the server in use must be up.

    Raises:
        UncheckedError: Prefect does not answer.
    """
    left = [one for one in abandoned(root, "prefect") if one.where == server()]
    if not left:
        return []
    with client() as api:
        return [f"flow run {one.id} in Prefect: {_crash(api, root, one.id)}" for one in left]


def live_runs(api: Any) -> list[Any]:
    """All flow runs that are running, about to, or being cancelled."""
    from prefect.client.schemas.filters import FlowRunFilter

    chosen = FlowRunFilter.model_validate({"state": {"type": {"any_": LIVE}}})
    found: list[Any] = []
    while page := api.read_flow_runs(flow_run_filter=chosen, limit=200, offset=len(found)):
        found += page
    return found


@contextmanager
def client() -> Iterator[Any]:
    """Prefect's client, for the server that is configured or a temporary one.

    Raises:
        UncheckedError: it does not answer.
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
        raise UncheckedError(f"Prefect does not answer: {type(error).__name__}: {error}") from error


def is_stuck(root: Path, run: Any) -> bool:
    """Whether a live flow run's process is gone."""
    notes = {one.id: one for one in open_runs(root) if one.kind == "prefect"}
    return bool(_gone(run, notes.get(str(run.id))))


def _noted_finding(project: Project, one: OpenRun) -> Finding:
    number = processes.split(one.process)[1]
    return Finding(
        subject=f"flow run {one.id} in Prefect's temporary database",
        problem=f"it was never ended, and its process {number} is gone",
        since=one.opened,
        remedy="starts the temporary server for some seconds and marks it Crashed; the next run does so as well",
        repair=lambda: _crash_one(project.root, one.id),
    )


def _gone(run: Any, note: OpenRun | None) -> str:
    """The number of the process of a run when that is gone; "" where it is alive, or elsewhere, or unknown."""
    if note is not None:
        return str(processes.split(note.process)[1]) if note.abandoned else ""
    host, _, pid = str(run.infrastructure_pid or "").rpartition(":")
    local = host == os.uname().nodename if host else _is_loopback(server())
    if not pid.isdigit() or not local:
        return ""
    try:
        process = psutil.Process(int(pid))
        if process.status() == psutil.STATUS_ZOMBIE:
            return pid
        # The flow's process reports that it runs: one that is younger than that has got the number of a dead one.
        younger = run.start_time is not None and process.create_time() > run.start_time.timestamp() + 1
    except psutil.NoSuchProcess:
        return pid
    return pid if younger else ""


def _is_loopback(url: str) -> bool:
    """Whether a server is one that only this machine reaches, so that its processes are this machine's."""
    return urllib.parse.urlparse(url).hostname in ("127.0.0.1", "localhost", "::1")


def server() -> str:
    """The address of the server that is configured; "" where each run starts its own."""
    from prefect.settings import PREFECT_API_URL

    return str(PREFECT_API_URL.value() or TEMPORARY)


def _crash_one(root: Path, run_id: str) -> str:
    with client() as api:
        return _crash(api, root, run_id)


def _crash(api: Any, root: Path, run_id: str) -> str:
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed

    state: Any = Crashed(message="The process that ran it is gone: it was killed, or its machine went down.")
    try:
        run = api.read_flow_run(run_id)
    except ObjectNotFound:
        closed(root, "prefect", run_id)
        return "it is not there any more"
    if run.state is not None and run.state.type.value in LIVE:
        of_run = FlowRunFilter.model_validate({"id": {"any_": [run_id]}})
        alive = TaskRunFilter.model_validate({"state": {"type": {"any_": LIVE}}})
        for task in api.read_task_runs(flow_run_filter=of_run, task_run_filter=alive):
            api.set_task_run_state(task.id, state, force=True)
        api.set_flow_run_state(run_id, state, force=True)
    closed(root, "prefect", run_id)
    return "marked it Crashed"
