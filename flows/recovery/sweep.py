"""Cleanup at the start of every run: closes everything that a killed run left open, so that no run stays RUNNING.

It reads local notes (`flows.tracking.open_runs`) and DVC's list of readers and writers. Without notes, it only lists a
folder.
"""

import time
from collections.abc import Callable

from flows import processes
from flows.graph import dvc_private
from flows.messages import warn
from flows.project import Project
from flows.recovery.orphans import orphaned_servers, orphaned_stages
from flows.tracking.client import TrackingError
from flows.tracking.open_runs import OpenRun, abandoned, damaged_records, record_closed, running_processes

ENDING_SECONDS = 20.0  # for a stage to notice that its run has ended, and to end itself


def sweep(project: Project) -> None:
    """Ends leftover processes of killed runs, removes them from DVC's list, and ends their runs in MLflow.

    Warns about each repair.
    """
    for path in damaged_records(project):
        path.unlink(missing_ok=True)
        warn(f"deleted {path}, a damaged record of an open run. `cclm doctor` finds runs that are still open.")
    for driver in abandoned(project, "driver"):
        _end_processes_of(project, driver)
    try:
        for pid in dvc_private.gone_processes(project.root):
            dvc_private.remove_process(project.root, pid)
            warn(f"removed process {pid}, a killed run, from DVC's list of readers and writers.")
    except dvc_private.DamagedListError as error:
        if not running_processes(project):  # otherwise DVC may be writing it
            dvc_private.remove_list(project.root)
            warn(f"{error}; deleted the list, because nothing is running.")
    sweep_tracked(project)


def sweep_tracked(project: Project) -> None:
    """Ends MLflow runs of dead processes. If MLflow does not answer, the next run tries again."""
    if abandoned(project, "mlflow"):
        from flows.recovery.tracked_runs import close_abandoned

        _close(project, "MLflow", close_abandoned, TrackingError)


def sweep_flow_runs(project: Project) -> None:
    """Marks flow runs of dead processes as Crashed. Prefect's server must be running."""
    if abandoned(project, "prefect"):
        from flows.recovery.flow_runs import PrefectError, crash_abandoned

        _close(project, "Prefect", crash_abandoned, PrefectError)


def _close(project: Project, server: str, close: Callable[[Project], list[str]], unreachable: type[Exception]) -> None:
    try:
        for message in close(project):
            warn(f"closed a leftover of a killed run: {message}.")
    except unreachable as error:
        warn(f"cannot end the open {server} runs of a killed run; the next run tries again ({error}).")


def _end_processes_of(project: Project, driver: OpenRun) -> None:
    """Ends a driver's temporary server at once, and its stages if they do not end by themselves."""
    until = time.monotonic() + ENDING_SECONDS
    processes.end(orphaned_servers(project))
    while stages := orphaned_stages(project):
        if time.monotonic() >= until:
            processes.end(stages)
            break
        time.sleep(0.2)
    pid = processes.split(driver.process)[1]
    warn(f"process {pid}, an earlier run, was killed; its leftover processes have ended. Continuing.")
    record_closed(project, "driver", driver.id)
