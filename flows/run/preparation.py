"""Prepares a pipeline run, whether from the command line or by Prefect.

Makes sure that no other run is in progress in this clone, cleans up after killed runs, and restores a damaged dvc.lock.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from cclm_core.runtime.config import load_yaml
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.files import try_lock
from flows import environment
from flows.graph.dvc_yaml import folders_of_names
from flows.graph.lockfile import restore
from flows.graph.plan import Plan
from flows.project import Project
from flows.recovery.sweep import sweep
from flows.tracking.open_runs import driving
from flows.tracking.records import delete_checkpoints


@contextmanager
def prepared(project: Project) -> Iterator[None]:
    """Locks the clone for the block and prepares it for a run. Reentrant in the same thread.

    Raises:
        ConfigError: another run is in progress in this clone, or the project is read-only.
    """
    project.require_writable("a run")
    environment.apply(project)
    busy = ConfigError(
        f"another run of the pipeline is in progress in {project.root}, started by `cclm` or a Prefect worker. "
        "Try again when it has ended."
    )
    with try_lock(project.run_lock, busy, reentrant=True):
        sweep(project)
        restore(project)
        make_folders(project)
        with driving(project):  # lets the next run find the processes of this one if it is killed
            yield


def make_folders(project: Project) -> None:
    """Creates the folders of compositions and so on if params.yaml has none, because tasks depend on them.

    DVC refuses a missing dependency, and an empty folder is none.
    """
    path = project.root / "dvc.yaml"
    for folder in folders_of_names(load_yaml(path)) if path.is_file() else ():
        (project.root / folder).mkdir(parents=True, exist_ok=True)


def delete_recorded_checkpoints(project: Project, plan: Plan) -> None:
    """Deletes the checkpoints of all up-to-date stages. A bare `dvc repro` leaves them behind."""
    for name in plan.nodes.keys() - plan.stale().keys():
        delete_checkpoints(project, name)
