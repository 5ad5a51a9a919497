"""Runs a stage through DVC in a subprocess: `dvc --wait-for-lock repro -s STAGE`."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cclm_core.runtime.artifacts import folder_digest
from flows import environment, processes
from flows.devices.slots import lease
from flows.graph.lockfile import back_up
from flows.graph.node import Node, artifact_kind
from flows.project import Project
from flows.tracking.client import connect
from flows.tracking.follow import Follower, follow
from flows.tracking.records import StageRecord, delete_checkpoints, read_record

CONFIGURATION_EXIT_CODE = 2  # the stage has failed because of an error that the user must fix
SHOWN_LINES = 15

_running: set[subprocess.Popen[str]] = set()


class StageError(Exception):
    """A stage failed or was stopped.

    Attributes:
        stage: name of the stage.
        exit_code: exit code of the stage's command; None if DVC failed before the command ran.
        message: the last lines of its output.
        killed: whether the stage was stopped from outside.
    """

    def __init__(self, stage: str, exit_code: int | None, message: str, killed: bool = False) -> None:
        super().__init__(stage, exit_code, message, killed)
        self.stage = stage
        self.exit_code = exit_code
        self.message = message
        self.killed = killed

    def __str__(self) -> str:
        outcome = "could not be started" if self.exit_code is None else f"failed with exit code {self.exit_code}"
        return f"{self.stage} {outcome}:\n{self.message}"

    @property
    def may_retry(self) -> bool:
        """Whether a retry can help: the stage crashed, as opposed to being stopped or misconfigured."""
        return self.exit_code not in (None, CONFIGURATION_EXIT_CODE) and not self.killed


@dataclass(frozen=True)
class StageResult:
    """The result of a stage in a run.

    Attributes:
        outcome: `ran`, `unchanged`, `restored` (from DVC's run cache), `failed` or `not run`.
        seconds: duration.
        started: when its command started, in Unix seconds; None if the command did not run.
        ended: when its command ended, in Unix seconds; None if the command did not run.
        digests: path -> digest of each output folder.
        message: why it failed or did not run.
    """

    stage: str
    outcome: str
    seconds: float = 0.0
    started: float | None = None
    ended: float | None = None
    digests: dict[str, str] | None = None
    message: str = ""

    def as_json(self) -> dict[str, Any]:
        """The result as JSON-compatible values."""
        return asdict(self)


def unchanged(project: Project, node: Node) -> StageResult:
    """The result of a stage that is up to date."""
    return StageResult(node.name, "unchanged", digests=digests(project, node))


def reproduce(
    project: Project,
    node: Node,
    parent: str | None,
    tracked: bool,
    force: bool,
    emit: Callable[[str], None],
    pull: bool = False,
) -> StageResult:
    """Brings a stage up to date and tracks it in MLflow if it runs.

    Args:
        parent: MLflow run ID of the pipeline.
        tracked: whether to track the stage in MLflow.
        force: run the stage even if nothing changed.
        emit: called with each line of output of DVC and the stage.
        pull: restore the outputs that another clone pushed to DVC's remote. This needs no device slot.

    Raises:
        StageError: the stage failed.
    """
    log = project.stage_file("logs", node.name, ".log")
    options = [*(["--force"] if force else []), *(["--pull"] if pull else [])]
    with lease(project) if node.needs_device and not pull else nullcontext() as slot:
        since = time.time()
        command = ["dvc", "--wait-for-lock", "repro", "--single-item", *options, node.name]
        # The child stays in this process group, so that it ends with a canceled flow.
        process = subprocess.Popen(
            command,
            cwd=project.root,
            env=environment.for_children(
                {processes.FOLLOWED_VARIABLE: "1"}
                | ({processes.RESTORE_ONLY_VARIABLE: "1"} if pull else {})
                | (slot.environment if slot else {})
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        with _registered(process), _followed(project, node, since, process, parent if tracked else None, tracked):
            lines = _stream(process, log, emit)
            process.wait()
    if process.returncode == 0:
        back_up(project)
        # Only now: after a crash between publishing and recording, training resumes from its checkpoints.
        delete_checkpoints(project, node.name)
    return _result(project, node, since, process.returncode, lines)


def stop_all() -> None:
    """Stops all running stages. Each stage runner notices that its `dvc` has ended and stops its child process."""
    for process in list(_running):
        process.terminate()


def digests(project: Project, node: Node) -> dict[str, str]:
    """The digest of each folder that a stage has published, by path."""
    return {out: folder_digest(project.root / out) for out in node.outs if artifact_kind(project.root / out)}


def _result(project: Project, node: Node, since: float, code: int, lines: list[str]) -> StageResult:
    record = read_record(project, node.name)
    if record is not None and record.started < since:
        record = None
    if code != 0:
        if record is None:
            raise StageError(node.name, None, _message(None, lines))
        raise StageError(node.name, record.exit_code, _message(record, lines), record.killed)
    if record is not None and record.ended is not None:
        return StageResult(
            node.name,
            "ran",
            record.ended - record.started,
            record.started,
            record.ended,
            digests(project, node),
        )
    restored = any("is cached - skipping run" in line for line in lines)
    return StageResult(
        node.name, "restored" if restored else "unchanged", time.time() - since, digests=digests(project, node)
    )


def _message(record: StageRecord | None, lines: list[str]) -> str:
    if record is not None and record.message:
        return record.message
    return "".join(lines[-SHOWN_LINES:]).strip()


def _stream(process: "subprocess.Popen[str]", log: Path, emit: Callable[[str], None]) -> list[str]:
    assert process.stdout
    lines = []
    with log.open("w", encoding="utf-8") as copy:
        for line in process.stdout:
            copy.write(line)
            copy.flush()
            lines.append(line)
            if text := line.rstrip():
                emit(text)
    return lines[-200:]


@contextmanager
def _registered(process: "subprocess.Popen[str]") -> Iterator[None]:
    _running.add(process)
    try:
        yield
    finally:
        _running.discard(process)


@contextmanager
def _followed(
    project: Project, node: Node, since: float, process: "subprocess.Popen[str]", parent: str | None, tracked: bool
) -> Iterator[None]:
    if not tracked:
        yield
        return

    def has_ended() -> bool:
        """Whether DVC has ended."""
        return process.poll() is not None

    def open_follower() -> Follower:
        """Connects to MLflow."""
        return Follower(project, connect(project), node, parent)

    # The copied context sends log messages of the thread to the Prefect task.
    run_in_context = copy_context().run
    thread = threading.Thread(target=run_in_context, args=(follow, project, node.name, since, has_ended, open_follower))
    thread.start()
    try:
        yield
    finally:
        thread.join()
