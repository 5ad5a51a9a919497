"""What every run does first: it closes what a killed run has left open, so that nothing stays RUNNING forever.

It uses local notes (`flows.tracking.open_runs`) and DVC's list of readers and writers. If there are no notes, it costs
one look into a folder.
"""

import time
from collections.abc import Callable

from flows import processes
from flows.graph import dvc_private
from flows.messages import warn
from flows.project import Project
from flows.recovery.orphans import orphaned_servers, orphaned_stages
from flows.tracking.client import TrackingError
from flows.tracking.open_runs import OpenRun, abandoned, record_closed, running_processes

ENDING_SECONDS = 20.0  # how long a stage may take to notice that its run is gone, and to end


def sweep(project: Project) -> None:
    """Ends the processes that killed runs have left, removes them from DVC's list of readers and writers, and ends
    their runs in MLflow. Warns about each.
    """
    for driver in abandoned(project, "driver"):
        _end_processes_of(project, driver)
    try:
        for pid in dvc_private.gone_processes(project.root):
            dvc_private.remove_process(project.root, pid)
            warn(f"a killed run, process {pid}, was still in DVC's list of readers and writers; removed it.")
    except dvc_private.DamagedListError as error:
        if not running_processes(project):  # otherwise DVC may be writing it
            dvc_private.remove_list(project.root)
            warn(f"{error}; deleted it, because nothing is running.")
    sweep_tracked(project)


def sweep_tracked(project: Project) -> None:
    """Ends the runs in MLflow that dead processes left open; if MLflow does not answer, the next run tries again."""
    if abandoned(project, "mlflow"):
        from flows.recovery.tracked_runs import close_abandoned

        _close(project, "MLflow", close_abandoned, TrackingError)


def sweep_flow_runs(project: Project) -> None:
    """Marks the flow runs that dead processes have left open as Crashed; Prefect must have been started."""
    if abandoned(project, "prefect"):
        from flows.recovery.flow_runs import PrefectError, crash_abandoned

        _close(project, "Prefect", crash_abandoned, PrefectError)


def _close(project: Project, server: str, close: Callable[[Project], list[str]], unreachable: type[Exception]) -> None:
    try:
        for message in close(project):
            warn(f"a killed run had left it open: {message}.")
    except unreachable as error:
        warn(f"runs that a killed run left open in {server} could not be ended; the next run tries again ({error}).")


def _end_processes_of(project: Project, driver: OpenRun) -> None:
    """Ends its temporary server at once, and its stages once they have had time to end by themselves."""
    until = time.monotonic() + ENDING_SECONDS
    processes.end(orphaned_servers(project))
    while stages := orphaned_stages(project):
        if time.monotonic() >= until:
            processes.end(stages)
            break
        time.sleep(0.2)
    number = processes.split(driver.process)[1]
    warn(f"process {number}, an earlier run, was killed; its remaining processes have ended, and this run continues.")
    record_closed(project, "driver", driver.id)
