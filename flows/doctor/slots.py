"""Prefect's device slots that are taken though no flow runs: leases that a restarted server has forgotten."""

from collections.abc import Iterator

from flows.doctor.finding import Finding, Project
from flows.doctor.flow_runs import client, is_stuck, live_runs, server


def check(project: Project) -> Iterator[Finding]:
    """Yields a finding for each limit whose slots are taken while every flow run has ended or lost its process.

    Raises:
        UncheckedError: Prefect does not answer.
    """
    if not server():
        return
    with client() as api:
        if any(not is_stuck(project.root, run) for run in live_runs(api)):
            return
        for limit in api.read_global_concurrency_limits(limit=200, offset=0):
            if limit.active_slots:
                yield Finding(
                    subject=f"concurrency limit {limit.name} in Prefect",
                    problem=f"{limit.active_slots} of its {limit.limit} slots are taken, and no flow runs",
                    remedy="frees them",
                    repair=lambda name=limit.name: _free(name),  # type: ignore[misc]
                )


def _free(name: str) -> str:
    from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate

    with client() as api:
        api.update_global_concurrency_limit(name=name, concurrency_limit=GlobalConcurrencyLimitUpdate(active_slots=0))
    return "freed them"
