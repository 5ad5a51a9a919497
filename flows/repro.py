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
from flows import environment
from flows.follow import Follower, follow
from flows.graph import Node, artifact_kind
from flows.lockfile import keep
from flows.paths import stage_file
from flows.records import StageRecord, forget_checkpoints, read_record
from flows.slots import lease
from flows.stage import RESTORE_ONLY
from flows.tracking import connect

CONFIGURATION_EXIT_CODE = 2  # what the stage runner returns when the user must mend something
SHOWN_LINES = 15

_running: set[subprocess.Popen[str]] = set()


class StageError(Exception):
    """A stage ended with an error.

    Attributes:
        stage: its name.
        exit_code: of the stage's own command; None when DVC failed before it ran.
        message: the last lines that it printed.
        killed: whether it was told to stop.
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
        """Whether another try can help: it crashed, rather than being told to stop or what must be mended."""
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


def unchanged(root: Path, node: Node) -> StageResult:
    """The result of a stage for which there is nothing to do."""
    return StageResult(node.name, "unchanged", digests=digests(root, node))


def reproduce(
    root: Path,
    node: Node,
    parent: str | None,
    tracked: bool,
    force: bool,
    say: Callable[[str], None],
    pull: bool = False,
) -> StageResult:
    """Brings a stage up to date and, if it runs, tracks its run.

    Args:
        parent: the pipeline's run in MLflow.
        tracked: whether to forward the run to MLflow.
        force: run it even if nothing changed.
        say: receives each line that DVC and the stage print.
        pull: restore it from what another clone has pushed to DVC's remote; it needs no device for that.

    Raises:
        StageError: it failed.
    """
    log = stage_file(root, "logs", node.name, ".log")
    options = [*(["--force"] if force else []), *(["--pull"] if pull else [])]
    with lease(root) if node.needs_device and not pull else nullcontext() as slot:
        since = time.time()
        command = ["dvc", "--wait-for-lock", "repro", "--single-item", *options, node.name]
        # The child stays in this process group, or it would survive a cancelled flow.
        process = subprocess.Popen(
            command,
            cwd=root,
            env=environment.for_children(
                {"CCLM_FOLLOWED": "1"} | ({RESTORE_ONLY: "1"} if pull else {}) | (slot.environment if slot else {})
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        with _registered(process), _followed(root, node, since, process, parent if tracked else None, tracked):
            lines = _stream(process, log, say)
            process.wait()
    if process.returncode == 0:
        keep(root)
        forget_checkpoints(root, node.name)  # not before: whoever dies between publishing and recording resumes there
    return _result(root, node, since, process.returncode, lines)


def stop_all() -> None:
    """Ends what still runs; each stage's runner sees its `dvc` go and ends its child."""
    for process in list(_running):
        process.terminate()


def digests(root: Path, node: Node) -> dict[str, str]:
    """The digests of what a stage has published."""
    return {out: folder_digest(root / out) for out in node.outs if artifact_kind(root / out)}


def _result(root: Path, node: Node, since: float, code: int, lines: list[str]) -> StageResult:
    record = read_record(root, node.name)
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
            digests(root, node),
        )
    restored = any("is cached - skipping run" in line for line in lines)
    return StageResult(
        node.name, "restored" if restored else "unchanged", time.time() - since, digests=digests(root, node)
    )


def _message(record: StageRecord | None, lines: list[str]) -> str:
    if record is not None and record.message:
        return record.message
    return "".join(lines[-SHOWN_LINES:]).strip()


def _stream(process: "subprocess.Popen[str]", log: Path, say: Callable[[str], None]) -> list[str]:
    assert process.stdout
    lines = []
    with log.open("w", encoding="utf-8") as copy:
        for line in process.stdout:
            copy.write(line)
            copy.flush()
            lines.append(line)
            if text := line.rstrip():
                say(text)
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
    root: Path, node: Node, since: float, process: "subprocess.Popen[str]", parent: str | None, tracked: bool
) -> Iterator[None]:
    if not tracked:
        yield
        return

    def over() -> bool:
        return process.poll() is not None

    def open_follower() -> Follower:
        return Follower(root, connect(root), node, parent)

    # In a copy of the context: what it has to say goes to the log of the task.
    within = copy_context().run
    thread = threading.Thread(target=within, args=(follow, root, node.name, since, over, open_follower))
    thread.start()
    try:
        yield
    finally:
        thread.join()
