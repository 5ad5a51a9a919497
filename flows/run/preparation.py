"""What must be true before a pipeline runs, from the command line or by Prefect: no other run in this clone, what a
killed run left open is closed, dvc.lock is whole, params.yaml is valid.
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
from flows.tracking.records import forget_checkpoints


@contextmanager
def prepared(project: Project) -> Iterator[None]:
    """Holds the clone for the block, with a whole dvc.lock. The thread that holds it may enter again.

    Raises:
        ConfigError: params.yaml has an unknown section or an invalid promotion section, or another run is in progress
            in this clone.
    """
    environment.apply(project)
    if uses_library(project):
        Params.load(_params(project))
    promotion_config(project)
    busy = ConfigError(
        f"another run of the pipeline is in progress in {project.root}, started by `cclm` or by a worker of Prefect. "
        "Wait for it, and start this one again."
    )
    with try_lock(project.run_lock, busy, reentrant=True):
        sweep(project)
        restore(project)
        with driving(project):  # if it is killed, the next run recognizes its processes
            yield


def checked_plan(project: Project) -> Plan:
    """The plan.

    Raises:
        ConfigError: dvc.yaml or params.yaml is invalid.
    """
    try:
        return read_plan(project)
    except ConfigError:
        check_parameters(project)  # its message about params.yaml is clearer than DVC's about its templates
        raise


def check_parameters(project: Project) -> None:
    """Checks all of params.yaml before anything runs.

    Skipped if nothing is stale: then every stage has checked its part, and the check imports torch, which takes longer
    than everything else.

    Raises:
        ConfigError: the first section that is invalid.
    """
    if uses_library(project):
        Params.load(_params(project)).check()


def forget_recorded(project: Project, plan: Plan) -> None:
    """Deletes the checkpoints of trainings whose results DVC has recorded: a bare `dvc repro` keeps them."""
    for name in plan.nodes.keys() - plan.stale().keys():
        forget_checkpoints(project, name)


def _params(project: Project) -> Path:
    """params.yaml, relative to the working directory, which keeps messages short."""
    return Path(os.path.relpath(project.params_file))
