"""Runs one stage of the pipeline as a child process and tracks it. dvc.yaml calls it as `python -m flows.stage`.

    python -m flows.stage ARGS...                   runs    python -m cclm_core.cli.app ARGS...
    python -m flows.stage --module MODULE ARGS...   runs    python -m MODULE ARGS...

`--module` is for a project's own stages: a module in the project's folder that takes `stage NAME [ITEM] OPTIONS...`.

The exit code is the child's. The stage runs even if MLflow cannot be reached. The child gets SIGTERM when this process
does, and when the `dvc` above or the flow that started it dies: nobody would record or track its result, and it would
only hold the lock of its output. Its training up to then is in its checkpoint.
"""

import ctypes
import os
import platform
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from types import FrameType
from typing import IO

from cclm_core.runtime.errors import ConfigError
from flows import environment, processes
from flows.project import Project
from flows.tracking.parents import dvc_process
from flows.tracking.records import StageRecord, read_record, reports_path

LIBRARY = "cclm_core.cli.app"
MESSAGE_LINES = 20
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> int:
    """Runs the stage in `arguments`; returns its exit code.

    Raises:
        ConfigError: `--module` has no value, or a worker's result was not found.
    """
    module, arguments = parse_module(arguments)
    project = Project.find()
    environment.apply(project)
    stage = stage_name(arguments)
    if os.environ.get(processes.RESTORE_ONLY_VARIABLE) == "1":
        raise ConfigError(
            f"{stage} was trained by a worker, but DVC cannot find its result. The worker and this clone must have the "
            "same DVC remote, and the same commands, parameters and data."
        )
    reports = reports_path(project, stage)
    reports.write_bytes(b"")
    commit, dirty = project.git_revision()
    last = read_record(project, stage)
    record = StageRecord(
        stage, (module, *arguments), time.time(), commit, dirty, process=processes.own(), cost=last.cost if last else {}
    )
    record.write(project)
    child = Child([sys.executable, "-m", module, *arguments], {processes.REPORT_VARIABLE: str(reports)})
    waiter = threading.Thread(target=lambda: child.finish(record).write(project))
    waiter.start()
    # In a flow, the flow's own process does the tracking, from the record.
    if os.environ.get(processes.FOLLOWED_VARIABLE) != "1":
        track(record, child)
    waiter.join()
    return child.exit_code


def parse_module(arguments: list[str]) -> tuple[str, list[str]]:
    """The module to run, and the arguments for it.

    >>> parse_module(["stage", "base"])
    ('cclm_core.cli.app', ['stage', 'base'])
    >>> parse_module(["--module", "my_stages", "stage", "base"])
    ('my_stages', ['stage', 'base'])

    Raises:
        ConfigError: `--module` has no value.
    """
    if arguments[:1] != ["--module"]:
        return LIBRARY, arguments
    if len(arguments) < 2:
        raise ConfigError("--module must be followed by the name of a module, e.g. --module my_stages.")
    return arguments[1], arguments[2:]


def stage_name(arguments: list[str]) -> str:
    """The stage's name: `DVC_STAGE`, which DVC sets for its commands; otherwise it is read from the arguments.

    >>> stage_name(["stage", "pretrain", "entities", "--params", "params.yaml"])
    'pretrain@entities'
    """
    if name := os.environ.get("DVC_STAGE"):
        return name.rpartition(":")[2]
    words = []
    for word in arguments:
        if word.startswith("-"):
            break
        words.append(word)
    return "@".join(words[1:] if words[:1] == ["stage"] else words) or "stage"


class Child:
    """The stage's process, in this process's group, so that it ends with a cancelled task."""

    def __init__(self, command: list[str], extra: dict[str, str]) -> None:
        self.killed = False
        self.lines: deque[str] = deque(maxlen=MESSAGE_LINES)
        # On a terminal the child draws its own progress bar; otherwise its last lines are kept for the record.
        piped = not sys.stderr.isatty()
        self.process = subprocess.Popen(
            command,
            env=environment.for_children(extra),
            stderr=subprocess.PIPE if piped else None,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
        self.reader = threading.Thread(target=self._copy, args=(self.process.stderr,)) if self.process.stderr else None
        if self.reader:
            self.reader.start()
        signal.signal(signal.SIGTERM, self._on_signal)
        # The terminal sends SIGINT to the whole group, the child included; this process survives it to record it.
        signal.signal(signal.SIGINT, self._note)
        self.dvc = dvc_process()
        self.driver = os.environ.get(processes.DRIVER_VARIABLE)

    @property
    def exit_code(self) -> int:
        """As in a shell: 128 + n if signal n ended it."""
        code = self.process.returncode or 0
        return 128 - code if code < 0 else code

    def finish(self, record: StageRecord) -> StageRecord:
        """Waits for the end; returns the completed record."""
        while True:
            try:
                self.process.wait(timeout=1)
                break
            except subprocess.TimeoutExpired:
                if self._alone():
                    self.terminate()
        if self.reader:
            self.reader.join()
        ended, host = time.time(), _host()
        return record.with_(
            ended=ended,
            exit_code=self.exit_code,
            killed=self.killed,
            message="".join(self.lines).strip() if self.exit_code else "",
            host=host,
            cost=record.cost if self.exit_code else _cost(ended - record.started, host),
        )

    def running(self) -> bool:
        """Whether the child has not ended."""
        return self.process.poll() is None

    def terminate(self) -> None:
        """Asks the child to stop."""
        self.killed = True
        self.process.terminate()

    def _alone(self) -> bool:
        """Whether nobody waits for the result: the `dvc` that records it, or the flow that started it, has ended."""
        gone = self.driver is not None and processes.is_gone(self.driver)
        return gone or (self.dvc is not None and not self.dvc.is_running())

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.terminate()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.killed = True

    def _copy(self, stream: IO[bytes]) -> None:
        for line in stream:
            self.lines.append(line.decode(errors="replace"))
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()


def track(record: StageRecord, child: Child) -> None:
    """Forwards the run to MLflow from this process, below the given parent run or the one of this `dvc repro`."""
    from flows.graph.node import Node
    from flows.graph.plan import read_plan
    from flows.messages import warn
    from flows.recovery.sweep import sweep_tracked
    from flows.tracking.client import TrackingError, connect, enabled
    from flows.tracking.follow import Follower, follow
    from flows.tracking.parents import DvcParent

    if not enabled():
        return
    project = Project.find()
    given = os.environ.get(processes.PARENT_RUN_VARIABLE)
    parent: DvcParent | None = None

    def open_follower() -> Follower:
        """Connects to MLflow; makes or finds the parent run."""
        nonlocal parent
        nodes = read_plan(project, changes=False).nodes
        node = nodes.get(record.stage) or Node(record.stage)
        tracking = connect(project)
        if given:
            return Follower(project, tracking, node, given)
        parent = parent or DvcParent(tracking, project, child.dvc)
        return Follower(project, tracking, node, parent.start())

    follow(project, record.stage, record.started, lambda: False, open_follower)
    if parent:
        try:
            parent.end("KILLED" if child.killed else "FINISHED" if child.exit_code == 0 else "FAILED")
        except TrackingError as error:
            warn(f"the run of the pipeline could not be brought up to date in MLflow ({error}).")
    sweep_tracked(project)


def _die_with_parent() -> None:
    """Asks the kernel for SIGTERM when the parent dies, be it by SIGKILL: an orphan would hold its output's lock."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _host() -> dict[str, float | str]:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "name": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": str(os.cpu_count()),
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_memory_megabytes": used.ru_maxrss / 1024,
    }


def _cost(seconds: float, host: dict[str, float | str]) -> dict[str, float]:
    return {"seconds": seconds} | {name: value for name, value in host.items() if isinstance(value, float)}
