"""What every run does first: it closes what a killed one has left open, so that nothing stays RUNNING for ever.

It goes by local notes (`flows.open_runs`) and DVC's list. Without any it looks into one folder and is done.
"""

import time
from collections.abc import Callable
from pathlib import Path

from flows import processes
from flows.doctor import dvc_locks
from flows.doctor.finding import Project, UncheckedError
from flows.open_runs import OpenRun, abandoned, closed
from flows.tracking import TrackingError, warn

ENDING_SECONDS = 20.0  # what a stage may take to notice that its run is gone, and to end


def sweep(root: Path) -> None:
    """Ends what killed runs have left at work, takes them off DVC's list of readers and writers, and ends their runs in
    MLflow; says so.
    """
    for driver in abandoned(root, "driver"):
        _end_what_it_started(root, driver)
    for left in dvc_locks.check(Project(root)):
        if left.repair:
            warn(f"a killed run had left its mark, {left.subject} ({left.problem}): {left.repair()}.")
    sweep_tracked(root)


def sweep_tracked(root: Path) -> None:
    """Ends the runs in MLflow that dead processes have left open; an MLflow that does not answer is asked next time."""
    if abandoned(root, "mlflow"):
        from flows.doctor.tracked_runs import close_abandoned

        _close(root, "MLflow", close_abandoned)


def sweep_flow_runs(root: Path) -> None:
    """Marks the flow runs that dead processes have left open as Crashed; Prefect must have been started."""
    if abandoned(root, "prefect"):
        from flows.doctor.flow_runs import crash_abandoned

        _close(root, "Prefect", crash_abandoned)


def _close(root: Path, server: str, close: Callable[[Path], list[str]]) -> None:
    try:
        for said in close(root):
            warn(f"a killed run had left it open: {said}.")
    except (TrackingError, UncheckedError) as error:
        warn(f"what a killed run has left open in {server} could not be ended, and will be next time ({error}).")


def _end_what_it_started(root: Path, driver: OpenRun) -> None:
    """Its temporary server at once; its stages once they have had time to end by themselves, which they do."""
    from flows.doctor.orphans import orphans
    from flows.doctor.prefect_servers import left_over

    until = time.monotonic() + ENDING_SECONDS
    servers = left_over(root)
    processes.end(servers)
    while stages := orphans(Project(root)):
        if time.monotonic() >= until:
            processes.end(stages)
            break
        time.sleep(0.2)
    number = processes.split(driver.process)[1]
    warn(f"process {number}, an earlier run, was killed; what it had left at work has ended, and this run goes on.")
    closed(root, "driver", driver.id)
