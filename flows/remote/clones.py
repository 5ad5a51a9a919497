"""A worker without a shared disk trains a stage in its own clone and pushes the result to DVC's remote.

The clone has the same origin as the worker's project and checks out the requested revision. It uses the worker's DVC
remote, which must be the storage that the requesting clone pushes to. Clones stay in `.cclm/clones`, one per stage with
a common cache, so that a repeated stage resumes from its checkpoint and fetches nothing twice.
"""

import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from cclm_core.runtime.errors import ConfigError
from flows import environment, processes
from flows.devices.slots import lease
from flows.project import Project
from flows.remote.dvc_remote import default_remote

NUM_LINES = 15  # of a failed command's output in an error
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_STAGE = re.compile(r"\w[\w.-]*(@\w[\w.-]*)?")


class CloneError(Exception):
    """A command failed in the clone; the message has its last lines."""


@dataclass(frozen=True)
class Order:
    """A request to train a stage.

    Attributes:
        stage: the stage to bring up to date.
        revision: the full Git commit.
        lock: the content of the requesting clone's dvc.lock, which records the inputs of the stage.
        parent: the id of the pipeline's run on an MLflow server that the worker can reach, or None.
        tracked: whether to track the run of the stage.
        inputs: paths that the stage reads and that DVC does not fetch by itself: outputs in folders that it reads as a
            whole, and pretrained weights that `dvc add` tracks.
    """

    stage: str
    revision: str
    lock: str
    parent: str | None
    tracked: bool
    inputs: tuple[str, ...] = ()


def train_in_clone(project: Project, order: Order, emit: Callable[[str], None]) -> None:
    """Brings a stage up to date in a clone, on a device of this machine, and pushes its outputs and the run cache.

    Args:
        project: the worker's own clone.
        order: the stage and its revision.
        emit: receives each line of output of Git, DVC and the stage.

    Raises:
        ConfigError: the revision is not in the repository, there is no remote, or the order is malformed.
        CloneError: the stage failed.
    """
    if not _COMMIT.fullmatch(order.revision) or not _STAGE.fullmatch(order.stage):
        raise ConfigError(
            f"an order must name a full commit and a stage, got {order.revision!r} and {order.stage!r}. "
            "Start it with CCLM_TRAINING=workers cclm run."
        )
    remote = default_remote(project)
    if remote is None:
        raise ConfigError(
            f"{project.root} has no default DVC remote. Set it to the remote of the requesting clone: "
            "`dvc remote add --local -d NAME ADDRESS`."
        )
    clone = project.state("clones") / order.stage
    with FileLock(clone.with_name(f"{clone.name}.lock")):
        _checkout(project, clone, order.revision, emit)
        _configure(project, clone, remote, emit)
        if order.lock:
            (clone / "dvc.lock").write_text(order.lock, encoding="utf-8")
        with lease(project) as slot:
            settings = slot.environment | {processes.DRIVER_VARIABLE: processes.own_name()}
            settings |= {
                processes.PARENT_RUN_VARIABLE: order.parent or "",
                **({} if order.tracked else {"CCLM_TRACKING": "off"}),
            }
            try:
                for path in order.inputs:
                    _dvc(clone, emit, "pull", "--", path, extra=settings)
                _dvc(clone, emit, "repro", "--single-item", "--pull", "--allow-missing", order.stage, extra=settings)
            except CloneError as error:
                raise CloneError(
                    f"{error}\nThe DVC remote of this worker is {remote[1]}. It must be that of the requesting clone."
                ) from None
        _dvc(clone, emit, "push", "--run-cache", order.stage)


def _checkout(project: Project, clone: Path, revision: str, emit: Callable[[str], None]) -> None:
    if not (clone / ".git").is_dir():
        origin = _origin(project)
        _call(["git", "clone", "--quiet", "--no-checkout", "--", origin, str(clone)], project.root, emit)
    _call(["git", "fetch", "--quiet", "origin"], clone, emit)
    try:
        _call(["git", "checkout", "--quiet", "--force", "--detach", revision, "--"], clone, emit)
    except CloneError as error:
        raise ConfigError(
            f"revision {revision} not found in {_origin(project)}, where workers fetch it. "
            f"Push it there first. ({error})"
        ) from None


def _origin(project: Project) -> str:
    """The origin of the worker's project; the project itself if it has none."""
    done = subprocess.run(
        ["git", "-C", str(project.root), "remote", "get-url", "origin"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or str(project.root)


def _configure(project: Project, clone: Path, remote: tuple[str, str], emit: Callable[[str], None]) -> None:
    """Gives the clone the DVC settings of this machine, the full address of the remote, and the common cache."""
    own = project.root / ".dvc" / "config.local"
    local = clone / ".dvc" / "config.local"
    local.unlink(missing_ok=True)
    if own.is_file():
        local.write_bytes(own.read_bytes())
        local.chmod(0o600)  # it may contain credentials
    name, address = remote
    _dvc(clone, emit, "remote", "modify", "--local", name, "url", address)
    _dvc(clone, emit, "config", "--local", "core.remote", name)
    _dvc(clone, emit, "config", "--local", "cache.dir", str(project.state("clones", "cache")))


def _dvc(clone: Path, emit: Callable[[str], None], *arguments: str, extra: Mapping[str, str] | None = None) -> None:
    settings = {"DVC_SITE_CACHE_DIR": str(Project(clone).state("dvc")), **(extra or {})}
    _call(["dvc", "--wait-for-lock", *arguments], clone, emit, settings)


def _call(command: list[str], cwd: Path, emit: Callable[[str], None], extra: Mapping[str, str] | None = None) -> None:
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment.for_children(dict(extra or {}), without=("DVC_ROOT", "DVC_STAGE")),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout
    lines = []
    with process.stdout:
        for line in process.stdout:
            if text := line.rstrip():
                lines.append(text)
                emit(text)
    if process.wait() != 0:
        message = "\n".join(lines[-NUM_LINES:])
        raise CloneError(f"`{' '.join(command[:4])}` failed with exit code {process.returncode}:\n{message}")
