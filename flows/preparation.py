"""What must hold before a pipeline runs, whoever starts it: it is alone on this clone, what a killed run left open is
closed, dvc.lock is whole, params.yaml is right.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cclm_core.runtime.errors import ConfigError
from cclm_core.steps import parameters
from flows import environment
from flows.doctor.sweep import sweep
from flows.graph import Plan, read_plan
from flows.lockfile import mend
from flows.open_runs import driving
from flows.paths import state
from flows.records import forget_checkpoints
from flows.stage import STAGE_MODULE


@contextmanager
def prepared(root: Path) -> Iterator[None]:
    """Holds the clone for the block, with a whole dvc.lock; may be entered again by the thread that is in it.

    Raises:
        ConfigError: params.yaml has a section that nothing reads or a wrong promotion section, or another run is at
            work on this clone.
    """
    from flows.promote import promotion_config

    environment.apply(root)
    if STAGE_MODULE not in os.environ:  # stages of your own check their own parameters
        parameters.load(_params(root))
    promotion_config(root)
    with _alone(root):
        sweep(root)
        mend(root)
        with driving(root):  # what it starts is known as its own, were it to be killed
            yield


def checked_plan(root: Path) -> Plan:
    """The plan, or what is wrong with params.yaml.

    Raises:
        ConfigError: dvc.yaml or params.yaml is wrong.
    """
    try:
        return read_plan(root)
    except ConfigError:
        check_parameters(root)  # what it says of params.yaml is clearer than DVC's word on its templates
        raise


def check_parameters(root: Path) -> None:
    """Checks all of params.yaml before anything runs.

    Not when nothing is stale: then every stage has checked its part, and the check imports torch, which takes longer
    than all else.

    Raises:
        ConfigError: the first section that is wrong.
    """
    if STAGE_MODULE not in os.environ:
        from cclm_core.steps.check import check

        check(_params(root))


def forget_recorded(root: Path, plan: Plan) -> None:
    """Removes the checkpoints of trainings whose results DVC has on record: a bare `dvc repro` leaves them."""
    for name in plan.nodes.keys() - plan.stale().keys():
        forget_checkpoints(root, name)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Two pipelines at once on one clone would overwrite each other's outputs."""
    lock = FileLock(state(root, "locks") / "run.lock", is_singleton=True)  # entered again only by the same thread
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"{root} must have one run of the pipeline at a time; another one is at work, started by `cclm` or by a "
            "worker of Prefect. Wait for it, and start this one again."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _params(root: Path) -> Path:
    """params.yaml, named as briefly as the messages about it allow."""
    return Path(os.path.relpath(root / "params.yaml"))
