"""Runs a stage as a child process and tracks it. The commands in dvc.yaml call it as `python -m flows.stage`.

    python -m flows.stage ARGS...                   runs    python -m cclm_core.cli.app ARGS...
    python -m flows.stage --module MODULE ARGS...   runs    python -m MODULE ARGS...

`--module` runs a project's own stages: a module in the project's folder that takes `stage NAME [ITEM] OPTIONS...`.

The exit code is that of the child. The stage runs even if MLflow is unreachable. The child gets SIGTERM if this process
gets it, or if the `dvc` process or the flow that started it dies: nothing would record its result, and it would block
the lock of its output. Training resumes from the last checkpoint.
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
from flows.graph.outputs import restore_outputs
from flows.project import Project
from flows.tracking.parents import dvc_process
from flows.tracking.records import StageRecord, read_record, reports_path

LIBRARY = "cclm_core.cli.app"
MESSAGE_LINES = 20
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> int:
    """Runs a stage and returns its exit code.

    Args:
        arguments: the command line after `python -m flows.stage`.

    Raises:
        ConfigError: `--module` has no value, or DVC has not found the result of a worker.
    """
    module, arguments = parse_module(arguments)
    project = Project.find()
    environment.apply(project)
    stage = stage_name(arguments)
    if os.environ.get(processes.RESTORE_ONLY_VARIABLE) == "1":
        restore_outputs(project, stage)
        raise ConfigError(
            f"{stage} was trained by a worker, but DVC cannot find the result. Make sure that the worker and this "
            "clone have the same DVC remote, and the same commands, parameters and data."
        )
    reports = reports_path(project, stage)
    reports.write_bytes(b"")
    commit, dirty = project.git_revision()
    last = read_record(project, stage)
    record = StageRecord(
        stage,
        (module, *arguments),
        time.time(),
        commit,
        dirty,
        process=processes.own_name(),
        cost=last.cost if last else {},
    )
    record.write(project)
    child = Child([sys.executable, "-m", module, *arguments], {processes.REPORT_VARIABLE: str(reports)})
    waiter = threading.Thread(target=lambda: _keep_former(project, child.finish(record)).write(project))
    waiter.start()
    # In a flow, the process of the flow tracks the stage.
    if os.environ.get(processes.FOLLOWED_VARIABLE) != "1":
        track(record, child)
    waiter.join()
    return child.exit_code


def _keep_former(project: Project, record: StageRecord) -> StageRecord:
    """If the stage failed, restores the outputs that DVC deleted before it ran, and adds that to its message."""
    kept = restore_outputs(project, record.stage) if record.exit_code else []
    if not kept:
        return record
    note = f"The former outputs are kept: {', '.join(kept)}."
    print(note, file=sys.stderr, flush=True)
    return record.with_(message=f"{record.message}\n{note}".strip())


def parse_module(arguments: list[str]) -> tuple[str, list[str]]:
    """Splits the command line into the module to run and its arguments.

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
        raise ConfigError("--module needs the name of a module, such as --module my_stages.")
    return arguments[1], arguments[2:]


def stage_name(arguments: list[str]) -> str:
    """The name of the stage: from `DVC_STAGE`, which DVC sets for its commands, otherwise from the arguments.

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
    """The process of the stage. It shares this process's group, so that it ends with a canceled task.

    Args:
        command: program and arguments.
        extra: environment variables to add.
    """

    def __init__(self, command: list[str], extra: dict[str, str]) -> None:
        self.killed = False
        self.lines: deque[str] = deque(maxlen=MESSAGE_LINES)
        # On a terminal the child draws a progress bar. Otherwise its last lines are kept for error messages.
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
        # Ctrl-C reaches the child too. This process ignores it, so that it can record how the child ended.
        signal.signal(signal.SIGINT, self._mark_killed)
        self.dvc = dvc_process()
        self.driver = os.environ.get(processes.DRIVER_VARIABLE)

    @property
    def exit_code(self) -> int:
        """The exit code as in a shell: 128 + n if the child was ended by signal n."""
        code = self.process.returncode or 0
        return 128 - code if code < 0 else code

    def finish(self, record: StageRecord) -> StageRecord:
        """Waits until the child has ended; returns the completed record."""
        while True:
            try:
                self.process.wait(timeout=1)
                break
            except subprocess.TimeoutExpired:
                if self._is_orphaned():
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
        """Whether the child is still running."""
        return self.process.poll() is None

    def terminate(self) -> None:
        """Sends SIGTERM to the child."""
        self.killed = True
        self.process.terminate()

    def _is_orphaned(self) -> bool:
        """Whether the `dvc` process or the flow that started the stage has ended."""
        driver_gone = self.driver is not None and processes.is_gone(self.driver)
        return driver_gone or (self.dvc is not None and not self.dvc.is_running())

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.terminate()

    def _mark_killed(self, _number: int, _frame: FrameType | None) -> None:
        self.killed = True

    def _copy(self, stream: IO[bytes]) -> None:
        for line in stream:
            self.lines.append(line.decode(errors="replace"))
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()


def track(record: StageRecord, child: Child) -> None:
    """Tracks the stage in MLflow from this process, as a child of the given parent run or that of this `dvc repro`."""
    from flows.tracking.client import TrackingError, connect, enabled

    if not enabled():
        return
    from flows.graph.node import Node
    from flows.graph.plan import read_plan
    from flows.messages import warn
    from flows.recovery.sweep import sweep_tracked
    from flows.tracking.follow import Follower, follow
    from flows.tracking.parents import DvcParent

    project = Project.find()
    parent_id = os.environ.get(processes.PARENT_RUN_VARIABLE)
    parent: DvcParent | None = None

    def open_follower() -> Follower:
        """Connects to MLflow and creates or finds the parent run."""
        nonlocal parent
        nodes = read_plan(project, changes=False).nodes
        node = nodes.get(record.stage) or Node(record.stage)
        tracking = connect(project)
        if parent_id:
            return Follower(project, tracking, node, parent_id)
        parent = parent or DvcParent(tracking, project, child.dvc)
        return Follower(project, tracking, node, parent.start(nodes.values()))

    follow(project, record.stage, record.started, lambda: False, open_follower)
    if parent:
        try:
            parent.end("KILLED" if child.killed else "FINISHED" if child.exit_code == 0 else "FAILED")
        except TrackingError as error:
            warn(f"could not update the pipeline's run in MLflow ({error}). The next `cclm run` closes it.")
    sweep_tracked(project)


def _die_with_parent() -> None:
    """Makes the kernel send SIGTERM when the parent dies, even by SIGKILL: an orphan would block its output's lock."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _host() -> dict[str, float | str]:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "name": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": str(os.cpu_count()),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_memory_megabytes": usage.ru_maxrss / 1024,
    }


def _cost(seconds: float, host: dict[str, float | str]) -> dict[str, float]:
    return {"seconds": seconds} | {name: value for name, value in host.items() if isinstance(value, float)}
