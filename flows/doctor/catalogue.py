"""All checks, in the order in which they are made and their repairs are done: what others rest on comes first."""

from collections.abc import Callable, Iterable

from flows.doctor import (
    checkpoints,
    disk_space,
    dvc_lock_file,
    dvc_locks,
    flow_runs,
    half_written,
    orphans,
    prefect_servers,
    registered_models,
    site_cache,
    slots,
    tracked_runs,
    unpushed,
    unregistered,
    versions,
)
from flows.doctor.finding import Finding, Project

Check = Callable[[Project], Iterable[Finding]]

CHECKS: dict[str, Check] = {
    "versions": versions.check,
    "site-cache": site_cache.check,
    "orphans": orphans.check,
    "prefect-servers": prefect_servers.check,
    "dvc-lock-file": dvc_lock_file.check,
    "dvc-locks": dvc_locks.check,
    "half-written": half_written.check,
    "checkpoints": checkpoints.check,
    "disk-space": disk_space.check,
    "tracked-runs": tracked_runs.check,
    "flow-runs": flow_runs.check,
    "slots": slots.check,
    "registered-models": registered_models.check,
    "unregistered": unregistered.check,
    "unpushed": unpushed.check,
}
