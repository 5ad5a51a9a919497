"""Prepares a pipeline run, whether from the command line or by Prefect.

Makes sure that no other run is in progress in this clone, cleans up after killed runs, restores a damaged dvc.lock, and
validates params.yaml.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.files import try_lock
from cclm_core.steps.params import Params
from flows import environment
from flows.gate.gate import promotion_config
from flows.graph.lockfile import restore
from flows.graph.params_file import uses_library
from flows.graph.plan import Plan, read_plan
from flows.project import Project
from flows.recovery.sweep import sweep
from flows.tracking.open_runs import driving
from flows.tracking.records import delete_checkpoints


@contextmanager
def prepared(project: Project) -> Iterator[None]:
    """Locks the clone for the block and prepares it for a run. Reentrant in the same thread.

    Raises:
        ConfigError: params.yaml has an unknown section or an invalid `promotion` section, another run is in progress in
            this clone, or it is read-only.
    """
    project.require_writable("a run")
    environment.apply(project)
    if uses_library(project):
        Params.load(_params(project))
    promotion_config(project)
    busy = ConfigError(
        f"another run of the pipeline is in progress in {project.root}, started by `cclm` or a Prefect worker. "
        "Try again when it has ended."
    )
    with try_lock(project.run_lock, busy, reentrant=True):
        sweep(project)
        restore(project)
        with driving(project):  # lets the next run find the processes of this one if it is killed
            yield


def checked_plan(project: Project) -> Plan:
    """Reads the plan; if that fails, reports errors in params.yaml before errors of DVC.

    Raises:
        ConfigError: dvc.yaml or params.yaml is invalid.
    """
    try:
        return read_plan(project)
    except ConfigError:
        check_parameters(project)  # its error message is clearer than DVC's about the templates in dvc.yaml
        raise


def check_parameters(project: Project) -> None:
    """Validates all of params.yaml before anything runs.

    Call it only if a stage is stale: it imports torch, which is slow, and up-to-date stages have validated their
    sections already.

    Raises:
        ConfigError: a section of params.yaml is invalid. Only the first one is reported.
    """
    if uses_library(project):
        Params.load(_params(project)).check()


def delete_recorded_checkpoints(project: Project, plan: Plan) -> None:
    """Deletes the checkpoints of all up-to-date stages. A bare `dvc repro` leaves them behind."""
    for name in plan.nodes.keys() - plan.stale().keys():
        delete_checkpoints(project, name)


def _params(project: Project) -> Path:
    """The path of params.yaml relative to the working directory, for short messages."""
    return Path(os.path.relpath(project.params_file))
