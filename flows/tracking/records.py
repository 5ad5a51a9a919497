"""The record of a stage's last run and its reports: written by the stage runner, read for tracking and display."""

import dataclasses
import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from cclm_core.runtime.artifacts import write_json
from flows import processes
from flows.project import Project

DAMAGED = "damaged"  # returned by `read_dataclass`


@dataclass(frozen=True)
class StageRecord:
    """A run of a stage.

    Attributes:
        stage: name in dvc.yaml.
        command: module and arguments of the command.
        started: Unix seconds.
        commit: the checked-out git commit; "" outside a repository.
        dirty: whether tracked files had changes.
        ended: Unix seconds; None while it runs.
        exit_code: of the command; None while it runs.
        killed: whether it was stopped from outside.
        message: the last lines of standard error, if it failed.
        host: the machine, and the resources that the run has used.
        run_id: ID of the run in MLflow; None until it is tracked.
        process: the stage runner, named as in `flows.processes`; "" in records of old versions.
        cost: `seconds`, `cpu_seconds` and `peak_memory_megabytes` of the last successful run, which may be an earlier
            one.
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
        """The status in MLflow's terms: RUNNING, FINISHED, FAILED or KILLED."""
        if self.ended is None:
            return "RUNNING"
        return "KILLED" if self.killed else "FINISHED" if self.exit_code == 0 else "FAILED"

    @property
    def running(self) -> bool:
        """Whether the stage runner is alive. `ended` alone does not tell, because a killed runner never sets it."""
        return self.ended is None and bool(self.process) and not processes.is_gone(self.process)

    @property
    def checkpoints(self) -> str | None:
        """The folder after `--checkpoints` in the command; None if the option is missing."""
        words = list(self.command)
        return words[words.index("--checkpoints") + 1] if "--checkpoints" in words[:-1] else None

    def with_(self, **changes: Any) -> "StageRecord":
        """A copy of the record with some values replaced."""
        return dataclasses.replace(self, **changes)

    def write(self, project: Project) -> None:
        """Writes the record to `.cclm/stages`, atomically."""
        write_json(project.stage_file("stages", self.stage, ".json"), dataclasses.asdict(self))


def read_record(project: Project, stage: str) -> StageRecord | None:
    """The record of a stage's last run; None if it does not exist or has an unknown format."""
    record = read_dataclass(project.stage_file("stages", stage, ".json"), StageRecord)
    return record if isinstance(record, StageRecord) else None


def read_dataclass(path: Path, kind: type[Any]) -> Any:
    """Reads a dataclass from a JSON file and checks its types.

    Args:
        path: the file.
        kind: the dataclass.

    Returns:
        An instance; None if the file does not exist; `DAMAGED` if it holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        result = TypeAdapter(kind).validate_python(values)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):  # UnicodeDecodeError, JSONDecodeError and pydantic's ValidationError, too
        return DAMAGED
    numbers = [value for value in vars(result).values() if isinstance(value, float)]
    return result if all(map(math.isfinite, numbers)) else DAMAGED


def delete_checkpoints(project: Project, stage: str) -> None:
    """Deletes the checkpoints of a stage's last run. Call it when DVC has recorded the result."""
    record = read_record(project, stage)
    if (
        record is not None
        and not record.running
        and record.checkpoints
        and (project.root / record.checkpoints).is_dir()
    ):
        shutil.rmtree(project.root / record.checkpoints)


def reports_path(project: Project, stage: str) -> Path:
    """The JSONL file to which a stage reports while it runs."""
    return project.stage_file("reports", stage, ".jsonl")


class Reports:
    """Reads a report file incrementally.

    Attributes:
        position: offset in bytes of the next line to read; set it to 0 to start over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0

    def new(self) -> list[dict[str, Any]]:
        """The complete lines since the last call, each with `time` (Unix seconds), `step`, `total` and `values`."""
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.position)
                data = stream.read()
        except FileNotFoundError:
            return []
        complete, newline, _ = data.rpartition(b"\n")
        self.position += len(complete) + len(newline)
        return [report for line in complete.splitlines() if (report := _report(line)) is not None]


def _report(line: bytes) -> dict[str, Any] | None:
    """A line of a report file; None if it is damaged, for example after a power failure."""
    try:
        report = json.loads(line)
        values = report["values"]
        numbers = [report["time"], report["step"], report["total"] or 0, *values.values()]
        return report if all(isinstance(number, float | int) for number in numbers) else None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None


def last_values(project: Project, stage: str) -> dict[str, float]:
    """The last reported value of each name in a stage's last run."""
    values: dict[str, float] = {}
    for line in Reports(reports_path(project, stage)).new():
        values.update(line["values"])
    return values
