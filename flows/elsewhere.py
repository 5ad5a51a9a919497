"""Training on workers that do not share this clone's disk.

`CCLM_TRAINING=workers` makes every stage that needs a device a run of the deployment `train-stage/on-worker`, which any
worker of its pool takes (see `flows.clones`). What the stage reads is pushed to DVC's remote first; what the worker
pushed is then restored here, so that dvc.lock is written in one place only.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError
from flows.graph import Node
from flows.paths import git_revision
from flows.remotes import default_remote, run_dvc
from flows.repro import StageError, StageResult, reproduce
from flows.runners import on_ray

SETTING = "CCLM_TRAINING"
PLACES = ("here", "workers")
DEPLOYMENT = "train-stage/on-worker"
POLL_SECONDS = 1.0

_ordered: set[UUID] = set()


def enabled() -> bool:
    """Whether stages that need a device run on workers.

    Raises:
        ConfigError: the setting is neither `here` nor `workers`.
    """
    given = os.environ.get(SETTING) or "here"
    if given not in PLACES:
        raise ConfigError(f"{SETTING} must say where trainings run, got {given!r}; {nearest(given, list(PLACES))}")
    return given == "workers"


def check(root: Path, forced: frozenset[str], nodes: dict[str, Node]) -> None:
    """Refuses, before anything runs, what workers cannot do.

    Raises:
        ConfigError: there is no server, no remote or no such deployment, files differ from the commit, or a training is
            forced.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import PREFECT_API_URL

    if on_ray():
        raise ConfigError(f"{SETTING}=workers and CCLM_TASK_RUNNER=ray must not be set together. Choose one.")
    if not PREFECT_API_URL.value():
        raise ConfigError(
            f"{SETTING}=workers must find a Prefect server, which hands out the work. Set PREFECT_API_URL."
        )
    committed_revision(root)
    if default_remote(root) is None:
        raise ConfigError(
            f"{SETTING}=workers must find a DVC remote that the workers share. Run `dvc remote add -d NAME ADDRESS`."
        )
    if names := [name for name in forced if name in nodes and nodes[name].needs_device]:
        raise ConfigError(
            f"{', '.join(names)} cannot be forced with {SETTING}=workers: what was made once is restored from DVC's "
            "run cache. Change a parameter, or force it here."
        )
    with get_client(sync_client=True) as client:
        try:
            client.read_deployment_by_name(DEPLOYMENT)
        except ObjectNotFound:
            raise ConfigError(
                f"{SETTING}=workers must find the deployment {DEPLOYMENT} on Prefect's server. Run "
                "`prefect deploy --all --prefect-file flows/deployments/workers.yaml`."
            ) from None


def committed_revision(root: Path) -> str:
    """The commit that is checked out, when tracked files are as it has them.

    Raises:
        ConfigError: they are not, or there is no commit.
    """
    commit, dirty = git_revision(root)
    if not commit or dirty:
        found = f"tracked files differ from {commit[:8]}" if commit else "there is no commit"
        raise ConfigError(
            f"workers must train a committed revision, but in {root} {found}. Commit everything, params.yaml too, and "
            "push the commit to where the workers fetch from."
        )
    return commit


def train(root: Path, node: Node, parent: str | None, tracked: bool, say: Callable[[str], None]) -> StageResult:
    """Has a worker bring a stage up to date, and restores its outputs here.

    Raises:
        StageError: what it reads could not be pushed, the worker's run failed, or its outputs are not in the remote.
    """
    revision = committed_revision(root)
    if node.needs:
        pushed = run_dvc(root, "--wait-for-lock", "push", *node.needs)
        if pushed.returncode != 0:
            raise StageError(node.name, None, f"what it reads could not be pushed: {pushed.stderr.strip()}")
    started = time.time()
    lock = root / "dvc.lock"
    order = {
        "stage": node.name,
        "revision": revision,
        "lock": lock.read_text(encoding="utf-8") if lock.is_file() else "",
        "parent": parent,
        "tracked": tracked,
    }
    _run_on_worker(node, order, say)
    ended = time.time()
    result = reproduce(root, node, parent, tracked, False, say, pull=True)
    return StageResult(node.name, "ran", ended - started, started, ended, result.digests)


def cancel_all() -> None:
    """Cancels what workers still do for this process."""
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelling

    for run_id in list(_ordered):
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run_id, Cancelling(), force=True)


def _run_on_worker(node: Node, parameters: dict[str, Any], say: Callable[[str], None]) -> None:
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.deployments import run_deployment

    run = run_deployment(DEPLOYMENT, parameters=parameters, flow_run_name=node.name, timeout=0)
    assert not hasattr(run, "__await__")
    _ordered.add(run.id)
    say(f"{node.name}: waits for a worker, as flow run {run.name} {run.id}")
    try:
        with get_client(sync_client=True) as client:
            while not (run.state and run.state.is_final()):
                time.sleep(POLL_SECONDS)
                try:
                    run = client.read_flow_run(run.id)
                except httpx.TransportError as error:  # the server is away; the worker trains on
                    say(f"{node.name}: Prefect's server cannot be asked ({error}); trying again")
    finally:
        _ordered.discard(run.id)
    if not run.state.is_completed():
        # A worker that died leaves a crash, which another one can mend; so may a failed training, once.
        code = None if run.state.is_cancelled() else 1
        raise StageError(
            node.name, code, f"{run.state.name} on a worker: {run.state.message}", run.state.is_cancelled()
        )
