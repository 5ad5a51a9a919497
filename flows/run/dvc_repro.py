"""Runs one stage through DVC, as a subprocess: `dvc --wait-for-lock repro -s STAGE`."""

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
from flows.graph.lockfile import keep
from flows.graph.node import Node, artifact_kind
from flows.project import Project
from flows.tracking.client import connect
from flows.tracking.follow import Follower, follow
from flows.tracking.records import StageRecord, forget_checkpoints, read_record

CONFIGURATION_EXIT_CODE = 2  # of the stage runner, if the user must fix something
SHOWN_LINES = 15

_running: set[subprocess.Popen[str]] = set()


class StageError(Exception):
    """A stage ended with an error.

    Attributes:
        stage: its name.
        exit_code: of the stage's own command; None when DVC failed before it ran.
        message: the last lines that it printed.
        killed: whether it was stopped.
    """

    def __init__(self, stage: str, exit_code: int | None, message: str, killed: bool = False) -> None:
        super().__init__(stage, exit_code, message, killed)
        self.stage = stage
        self.exit_code = exit_code
        self.message = message
        self.killed = killed

    def __str__(self) -> str:
        how = "could not be started" if self.exit_code is None else f"failed with exit code {self.exit_code}"
        return f"{self.stage} {how}:\n{self.message}"

    @property
    def may_retry(self) -> bool:
        """Whether another try can help: it crashed; it was not stopped, and its configuration is valid."""
        return self.exit_code not in (None, CONFIGURATION_EXIT_CODE) and not self.killed


@dataclass(frozen=True)
class StageResult:
    """What became of a stage: small enough to be a task's JSON result.

    Attributes:
        outcome: `ran`, `unchanged`, `restored` (from DVC's run cache), `failed` or `not run`.
        started: Unix seconds when its command started, for those that ran.
        digests: path -> digest of what it published.
    """

    stage: str
    outcome: str
    seconds: float = 0.0
    started: float | None = None
    ended: float | None = None
    digests: dict[str, str] | None = None
    message: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
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
    """Brings a stage up to date and, if it runs, tracks its run.

    Args:
        parent: the pipeline's run in MLflow.
        tracked: whether to forward the run to MLflow.
        force: run it even if nothing changed.
        emit: receives each line that DVC and the stage print.
        pull: restore it from what another clone has pushed to DVC's remote; it needs no device for that.

    Raises:
        StageError: it failed.
    """
    log = project.stage_file("logs", node.name, ".log")
    options = [*(["--force"] if force else []), *(["--pull"] if pull else [])]
    with lease(project) if node.needs_device and not pull else nullcontext() as slot:
        since = time.time()
        command = ["dvc", "--wait-for-lock", "repro", "--single-item", *options, node.name]
        # The child stays in this process group, or it would survive a cancelled flow.
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
        keep(project)
        forget_checkpoints(project, node.name)  # not before: a crash between publishing and recording resumes there
    return _result(project, node, since, process.returncode, lines)


def stop_all() -> None:
    """Ends all running stages: each runner notices that its `dvc` has ended, and ends its child."""
    for process in list(_running):
        process.terminate()


def digests(project: Project, node: Node) -> dict[str, str]:
    """The digests of what a stage has published."""
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

    def over() -> bool:
        """Whether DVC has ended."""
        return process.poll() is not None

    def open_follower() -> Follower:
        """Connects to MLflow."""
        return Follower(project, connect(project), node, parent)

    # In a copy of the context: its messages go to the log of the task.
    within = copy_context().run
    thread = threading.Thread(target=within, args=(follow, project, node.name, since, over, open_follower))
    thread.start()
    try:
        yield
    finally:
        thread.join()
