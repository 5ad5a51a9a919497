"""The record of a stage's last run, and its reports: written by the runner, read to track, display or repair it."""

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cclm_core.runtime.artifacts import write_json
from flows import processes
from flows.project import Project


@dataclass(frozen=True)
class StageRecord:
    """One run of a stage.

    Attributes:
        stage: its name in dvc.yaml.
        command: the arguments after the interpreter.
        started: Unix seconds.
        commit: the git commit that was checked out, "" outside of a repository.
        dirty: whether tracked files differed from that commit.
        ended: Unix seconds, None while it runs.
        exit_code: of the command; None while it runs.
        killed: whether it was stopped.
        message: the last lines that it printed on standard error, when it failed.
        host: facts of the machine, and what the run used of it.
        run_id: where MLflow has it; None until it has.
        process: the runner's, as `flows.processes` names it; "" in records of old versions.
        cost: seconds, processor seconds and megabytes at the peak of the last run that succeeded, this one or an
            earlier one.
    """

    stage: str
    command: tuple[str, ...]
    started: float
    commit: str
    dirty: bool
    ended: float | None = None
    exit_code: int | None = None
    killed: bool = False
    message: str = ""
    host: dict[str, float | str] = dataclasses.field(default_factory=dict)
    run_id: str | None = None
    process: str = ""
    cost: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def status(self) -> str:
        """Its status in MLflow's terms: RUNNING, FINISHED, FAILED or KILLED."""
        if self.ended is None:
            return "RUNNING"
        return "KILLED" if self.killed else "FINISHED" if self.exit_code == 0 else "FAILED"

    @property
    def running(self) -> bool:
        """Whether its runner is still at work; a record of a killed one has no end either."""
        return self.ended is None and bool(self.process) and not processes.is_gone(self.process)

    @property
    def checkpoints(self) -> str | None:
        """The folder for checkpoints in its command; None if there is none."""
        words = list(self.command)
        return words[words.index("--checkpoints") + 1] if "--checkpoints" in words[:-1] else None

    def with_(self, **changes: Any) -> "StageRecord":
        """The same record with other values."""
        return dataclasses.replace(self, **changes)

    def write(self, project: Project) -> None:
        """Writes it to `.cclm/stages`, atomically."""
        write_json(project.stage_file("stages", self.stage, ".json"), dataclasses.asdict(self))


def read_record(project: Project, stage: str) -> StageRecord | None:
    """The record of a stage's last run; None if there is no record, or one that this version cannot read."""
    try:
        values = json.loads(project.stage_file("stages", stage, ".json").read_text(encoding="utf-8"))
        return StageRecord(**values | {"command": tuple(values["command"])})
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def forget_checkpoints(project: Project, stage: str) -> None:
    """Removes the checkpoints of a stage's last run, once DVC has its result on record."""
    record = read_record(project, stage)
    if (
        record is not None
        and not record.running
        and record.checkpoints
        and (project.root / record.checkpoints).is_dir()
    ):
        shutil.rmtree(project.root / record.checkpoints)


def reports_path(project: Project, stage: str) -> Path:
    """The JSONL file that a stage reports to while it runs."""
    return project.stage_file("reports", stage, ".jsonl")


class Reports:
    """Reads a report file as it grows; a line that is not whole yet waits for the next call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0

    def new(self) -> list[dict[str, Any]]:
        """The lines written since the last call: `time`, `step`, `total`, `values`."""
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.position)
                data = stream.read()
        except FileNotFoundError:
            return []
        whole, end, _ = data.rpartition(b"\n")
        self.position += len(whole) + len(end)
        return [json.loads(line) for line in whole.splitlines() if line]


def last_values(project: Project, stage: str) -> dict[str, float]:
    """The last value of every name that the stage reported."""
    values: dict[str, float] = {}
    for line in Reports(reports_path(project, stage)).new():
        values.update(line["values"])
    return values
