"""All checks, in the order in which the doctor makes and repairs them: causes before their consequences."""

from collections.abc import Callable, Iterable

from flows.doctor import dvc_checks, files, left_processes, mlflow_checks, prefect_checks, versions
from flows.doctor.finding import Finding, Inspection

Check = Callable[[Inspection], Iterable[Finding]]

CHECKS: dict[str, Check] = {
    "versions": versions.check,
    "site-cache": dvc_checks.site_cache,
    "orphans": left_processes.stages,
    "prefect-servers": left_processes.prefect_servers,
    "dvc-lock-file": dvc_checks.lock_file,
    "dvc-locks": dvc_checks.readers,
    "outputs": dvc_checks.outputs,
    "half-written": files.half_written,
    "checkpoints": files.checkpoints,
    "disk-space": files.disk_space,
    "open-records": files.open_records,
    "tracked-runs": mlflow_checks.tracked_runs,
    "flow-runs": prefect_checks.flow_runs,
    "slots": prefect_checks.slots,
    "registered-models": mlflow_checks.registered_models,
    "unregistered": mlflow_checks.unregistered,
    "unpushed": dvc_checks.unpushed,
}
