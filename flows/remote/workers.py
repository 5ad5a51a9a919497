"""Training on workers that do not share this clone's disk.

With `CCLM_TRAINING=workers`, every stage that needs a device becomes a run of the deployment `train-stage/on-worker` on
any worker of its pool (see `flows.remote.clones`). The inputs of the stage are pushed to DVC's remote first. The worker
pushes its result, which is then restored here, so that dvc.lock is written in one place only.
"""

import os
import time
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError
from flows.devices.runners import on_ray
from flows.graph.dvc_private import recorded_outputs
from flows.graph.node import Node
from flows.project import Project
from flows.remote.dvc_remote import default_remote, run_dvc

SETTING = "CCLM_TRAINING"
VALUES = ("here", "workers")
DEPLOYMENT = "train-stage/on-worker"
POLL_SECONDS = 1.0

_pending: set[UUID] = set()


class WorkerError(Exception):
    """A worker did not train a stage.

    Attributes:
        crashed: whether the worker's run failed and was not cancelled, so that another try may help.
        cancelled: whether the run was cancelled.
    """

    def __init__(self, message: str, crashed: bool = False, cancelled: bool = False) -> None:
        super().__init__(message)
        self.crashed = crashed
        self.cancelled = cancelled


def enabled() -> bool:
    """Whether stages that need a device run on workers.

    Raises:
        ConfigError: `CCLM_TRAINING` is neither `here` nor `workers`.
    """
    value = os.environ.get(SETTING) or "here"
    if value not in VALUES:
        raise ConfigError(
            f"{SETTING} must be one of {', '.join(VALUES)}, got {value!r}; {nearest(value, list(VALUES))}"
        )
    return value == "workers"


def check(project: Project, forced: frozenset[str], nodes: dict[str, Node]) -> None:
    """Checks, before anything runs, that workers can train the stages.

    Args:
        project: the clone that runs the pipeline.
        forced: names of forced stages.
        nodes: name -> stage.

    Raises:
        ConfigError: there is no server, no remote or no such deployment, files differ from the commit, or a training is
            forced.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import PREFECT_API_URL

    if on_ray():
        raise ConfigError(f"{SETTING}=workers cannot be combined with CCLM_TASK_RUNNER=ray. Unset one of them.")
    if not PREFECT_API_URL.value():
        raise ConfigError(f"{SETTING}=workers needs a Prefect server to distribute the stages. Set PREFECT_API_URL.")
    committed_revision(project)
    if default_remote(project) is None:
        raise ConfigError(
            f"{SETTING}=workers needs a DVC remote shared with the workers. Run `dvc remote add -d NAME ADDRESS`."
        )
    if names := [name for name in forced if name in nodes and nodes[name].needs_device]:
        raise ConfigError(
            f"{', '.join(names)} cannot be forced with {SETTING}=workers: DVC would restore the old result from its "
            f"run cache. Change a parameter, or force it with {SETTING}=here."
        )
    with get_client(sync_client=True) as client:
        try:
            client.read_deployment_by_name(DEPLOYMENT)
        except ObjectNotFound:
            raise ConfigError(
                f"deployment {DEPLOYMENT} not found on Prefect's server. {SETTING}=workers needs it: run "
                "`prefect deploy --all --prefect-file flows/deployments/workers.yaml`."
            ) from None


def committed_revision(project: Project) -> str:
    """The checked-out commit.

    Raises:
        ConfigError: there is no commit, or tracked files differ from it.
    """
    commit, dirty = project.git_revision()
    if not commit or dirty:
        problem = f"tracked files differ from {commit[:8]}" if commit else "there is no commit"
        raise ConfigError(
            f"workers train a committed revision, but in {project.root} {problem}. Commit everything, including "
            "params.yaml, and push the commit to the repository that the workers fetch from."
        )
    return commit


def folder_inputs(node: Node, lock: bytes) -> list[str]:
    """The outputs in the folders that a stage reads as a whole, which DVC does not fetch by itself.

    These are all parts, also those that the stage does not use: DVC records the digest of the whole folder.

    Args:
        node: the stage.
        lock: content of dvc.lock.
    """
    prefixes = tuple(f"{folder}/" for folder in node.folders)
    return [out["path"] for out in recorded_outputs(lock) if out["path"].startswith(prefixes)]


def added_inputs(project: Project, node: Node) -> list[str]:
    """The files that `dvc add` tracks among the pretrained weights that the parameters of a stage name as `source`.

    DVC does not fetch them, because the digest in the parameters is the dependency, not the file.
    """
    sources = {str(value) for key, value in node.params.items() if key.rpartition(".")[2] == "source"}
    tracked: set[str] = set()
    for source in sources:
        path = PurePosixPath(source)
        candidates = [] if path.is_absolute() or ".." in path.parts else [path, *path.parents[:-1]]
        tracked.update(str(folder) for folder in candidates if (project.root / f"{folder}.dvc").is_file())
    return sorted(tracked)


def push_inputs(project: Project, node: Node, lock: bytes) -> list[str]:
    """Pushes what a stage reads to DVC's remote, and returns what DVC does not fetch by itself on a worker.

    Raises:
        WorkerError: DVC failed.
    """
    inputs = [*folder_inputs(node, lock), *added_inputs(project, node)]
    for target in (*node.needs, *inputs):  # with several targets, DVC 3.67 pushes only one of them
        pushed = run_dvc(project, "--wait-for-lock", "push", target)
        if pushed.returncode != 0:
            raise WorkerError(f"its inputs could not be pushed to DVC's remote: {pushed.stderr.strip()}")
    return inputs


def train_on_worker(
    project: Project, node: Node, parent: str | None, tracked: bool, emit: Callable[[str], None]
) -> None:
    """Brings a stage up to date on a worker, which pushes the result to DVC's remote.

    Args:
        project: the clone that runs the pipeline.
        node: the stage.
        parent: the id of the pipeline's run in MLflow, or None.
        tracked: whether to track the stage in MLflow.
        emit: receives progress messages.

    Raises:
        WorkerError: the stage's inputs could not be pushed, or the worker's run failed.
        ConfigError: tracked files differ from the commit.
    """
    revision = committed_revision(project)
    lock = project.lock_file
    content = lock.read_bytes() if lock.is_file() else b""
    inputs = push_inputs(project, node, content)
    order = {
        "stage": node.name,
        "revision": revision,
        "lock": content.decode("utf-8"),
        "parent": parent,
        "tracked": tracked,
        "inputs": inputs,
    }
    _run_on_worker(node, order, emit)


def cancel_all() -> None:
    """Cancels the runs that workers still execute for this process."""
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelling

    for run_id in list(_pending):
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run_id, Cancelling(), force=True)


def _run_on_worker(node: Node, parameters: dict[str, Any], emit: Callable[[str], None]) -> None:
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.deployments import run_deployment

    run = run_deployment(DEPLOYMENT, parameters=parameters, flow_run_name=node.name, timeout=0)
    assert not hasattr(run, "__await__")
    _pending.add(run.id)
    emit(f"{node.name}: waiting for a worker (flow run {run.name}, {run.id})")
    try:
        with get_client(sync_client=True) as client:
            while not (run.state and run.state.is_final()):
                time.sleep(POLL_SECONDS)
                try:
                    run = client.read_flow_run(run.id)
                except httpx.TransportError as error:  # the worker continues without the server
                    emit(f"{node.name}: Prefect's server does not answer ({error}); retrying")
    finally:
        _pending.discard(run.id)
    if not run.state.is_completed():
        cancelled = run.state.is_cancelled()
        message = f"{run.state.name} on a worker: {run.state.message}"
        raise WorkerError(message, crashed=not cancelled, cancelled=cancelled)
