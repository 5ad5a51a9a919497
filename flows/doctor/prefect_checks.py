"""Checks of Prefect: flow runs whose process has ended, concurrency slots without a holder."""

from collections.abc import Iterator

from flows import processes
from flows.doctor.finding import Finding, Inspection
from flows.recovery.flow_runs import TEMPORARY, client, crash, gone_process, live_runs, notes_of, server
from flows.tracking.open_runs import OpenRun, abandoned


def flow_runs(inspection: Inspection) -> Iterator[Finding]:
    """Yields a finding for each live flow run of this project or of a worker on this machine whose process has ended.

    Raises:
        PrefectError: Prefect does not answer.
    """
    project = inspection.project
    if not server():
        for note in abandoned(project, "prefect"):
            if note.where == TEMPORARY:
                yield _temporary(inspection, note)
        return
    with client() as api:
        notes = notes_of(project)
        for run in live_runs(api):
            if (pid := gone_process(run, notes)) is not None:
                yield Finding(
                    subject=f"flow run {run.name} in Prefect, {run.id}",
                    problem=f"it is {run.state.name}, but its process {pid} has ended",
                    since=run.state.timestamp.timestamp(),
                    remedy="marks it and its tasks as Crashed",
                    repair=lambda run=run: crash(project, str(run.id)),  # type: ignore[misc]
                )


def slots(inspection: Inspection) -> Iterator[Finding]:
    """Yields a finding for each concurrency limit with occupied slots while no flow is running.

    A server that keeps leases in memory loses them when it restarts, and their slots stay occupied.

    Raises:
        PrefectError: Prefect does not answer.
    """
    if not server():
        return
    with client() as api:
        notes = notes_of(inspection.project)
        if any(gone_process(run, notes) is None for run in live_runs(api)):
            return
        for limit in api.read_global_concurrency_limits(limit=200, offset=0):
            if limit.active_slots:
                yield Finding(
                    subject=f"concurrency limit {limit.name} in Prefect",
                    problem=f"{limit.active_slots} of its {limit.limit} slots are occupied, but no flow is running",
                    remedy="frees them",
                    repair=lambda name=limit.name: _free(name),  # type: ignore[misc]
                )


def _temporary(inspection: Inspection, note: OpenRun) -> Finding:
    return Finding(
        subject=f"flow run {note.id} in Prefect's temporary database",
        problem=f"it was not closed, but its process {processes.split(note.process)[1]} has ended",
        since=note.opened,
        remedy="starts the temporary server for a few seconds and marks it as Crashed, as the next run would",
        repair=lambda: crash(inspection.project, note.id),
    )


def _free(name: str) -> str:
    from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate

    with client() as api:
        api.update_global_concurrency_limit(name=name, concurrency_limit=GlobalConcurrencyLimitUpdate(active_slots=0))
    return "freed them"
