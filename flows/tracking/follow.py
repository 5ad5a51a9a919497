"""Follows one run of a stage and forwards it to MLflow: parameters, learning curves, results, digests.

It works from the stage's record and report files alone, so it does not matter which process does it: the runner when
DVC drives, the flow when Prefect drives (one import of MLflow for all stages), or a later one after an outage.
"""

import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cclm_core.runtime.artifacts import MANIFEST, folder_digest, read_json
from flows.graph.node import Node, artifact_kind
from flows.messages import warn
from flows.project import Project
from flows.tracking.client import Tracking, TrackingError, headline
from flows.tracking.metrics import result_metrics
from flows.tracking.records import Reports, StageRecord, read_record, reports_path

POLL_SECONDS = 0.25
ENDING_SECONDS = 5.0  # what a runner whose `dvc` was killed may take to end its child
SHOWN_SUFFIXES = {".png", ".svg", ".csv", ".json", ".jsonl", ".md", ".txt", ".html"}
MAX_SHOWN_BYTES = 2_000_000


class Follower:
    """One child run in MLflow."""

    def __init__(self, project: Project, tracking: Tracking, node: Node, parent: str | None) -> None:
        self.project = project
        self.tracking = tracking
        self.node = node
        self.parent = parent
        self.run_id = ""
        self.reports = Reports(reports_path(project, node.name))
        self.last_step: dict[str, int] = {}

    def start(self, record: StageRecord) -> None:
        """Makes the run, with the parameters that the stage depends on in dvc.yaml.

        Started again after an outage, it forwards everything once more; MLflow keeps equal points once.
        """
        self.reports.position = 0
        if self.run_id:
            return
        tags = {
            "dvc.stage": self.node.name,
            "cclm.kind": self.node.name.partition("@")[0],
            "mlflow.source.git.commit": record.commit,
            "cclm.dirty": str(record.dirty).lower(),
        }
        if self.parent:
            tags["mlflow.parentRunId"] = self.parent
        self.run_id = self.tracking.create_run(self.node.name, tags, record.started)
        self.tracking.log(self.run_id, params=self.node.params)

    def forward(self) -> None:
        """Logs what the stage has reported since the last call."""
        points = []
        for line in self.reports.new():
            for name, value in line["values"].items():
                self.last_step[name] = line["step"]
                points.append((name, value, line["time"], line["step"]))
        self.tracking.log(self.run_id, points)

    def finish(self, record: StageRecord) -> None:
        """Logs what only the end knows, and ends the run as the stage ended."""
        self.forward()
        ended = record.ended or time.time()
        numbers = {name: value for name, value in record.host.items() if isinstance(value, float)}
        used = numbers | {"duration_seconds": ended - record.started}
        self.tracking.log(self.run_id, [(f"system/{name}", value, ended, 0) for name, value in used.items()])
        tags = {f"host.{name}": value for name, value in record.host.items() if isinstance(value, str)}
        if record.message:
            tags["cclm.message"] = record.message[-4000:]
        inputs = list(self._published(self.node.deps))
        self.tracking.log_inputs(self.run_id, inputs)
        tags |= {f"digest.in.{path}": value for path, _, value in inputs}
        if record.exit_code == 0:
            tags |= self._results(ended)
        self.tracking.log(self.run_id, tags=tags)
        self.tracking.set_status(self.run_id, record.status, ended)

    def _results(self, ended: float) -> dict[str, str]:
        tags: dict[str, str] = {}
        for path, kind, value in self._published(self.node.outs):
            folder = self.project.root / path
            results = result_metrics(folder)
            points = [(name, number, ended, self.last_step.get(name, 0)) for name, number in results.items()]
            self.tracking.log(self.run_id, points)
            self.tracking.log_files(self.run_id, _shown(folder))
            tags |= {f"digest.out.{path}": value, "cclm.kind": kind} | _on_card(folder)
            if kind == "evaluation":
                self.tracking.log(self.run_id, noise_curve(folder, ended))
            if kind == "evaluation" and self.parent:
                self.tracking.log(self.parent, headline(results, self.node.item))
        return tags

    def _published(self, paths: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
        for path in paths:
            if kind := artifact_kind(self.project.root / path):
                yield path, kind, folder_digest(self.project.root / path)


def follow(
    project: Project,
    stage: str,
    since: float,
    over: Callable[[], bool],
    open_follower: Callable[[], Follower],
) -> str | None:
    """Forwards a stage's run, from its record's appearance to its end; returns the id of its run in MLflow.

    A stage never fails because it could not be tracked: a warning is printed, its record and reports are kept, and None
    is returned.

    Args:
        since: records that started earlier are of another run.
        over: tells whether nothing more will come, so that a stage that never starts is not waited for.
        open_follower: connects; called once the stage runs, since importing MLflow takes seconds.
    """
    while (record := read_record(project, stage)) is None or record.started < since:
        if over():
            return None
        time.sleep(POLL_SECONDS)
    follower: Follower | None = None
    for last_try in (False, True):
        try:
            follower = follower or open_follower()
            follower.start(record)
            while (record := read_record(project, stage) or record).ended is None and not over():
                follower.forward()
                time.sleep(POLL_SECONDS)
            record = _ended(project, stage, record).with_(run_id=follower.run_id)
            follower.finish(record)
            record.write(project)
            return follower.run_id
        except TrackingError as error:
            record = _wait(project, stage, record, over)
            if last_try:
                warn(
                    f"{stage} is not tracked in MLflow ({error}). Its parameters, learning curves, results and "
                    f"digests were not logged; they stay in {reports_path(project, stage)} and in its outputs."
                )
    return None


def _ended(project: Project, stage: str, record: StageRecord) -> StageRecord:
    """The record as the runner completed it; when `dvc` was killed, the runner needs a moment to follow."""
    for _ in range(int(ENDING_SECONDS / POLL_SECONDS)):
        record = read_record(project, stage) or record
        if record.ended is not None:
            return record
        time.sleep(POLL_SECONDS)
    return record.with_(ended=time.time(), exit_code=-9, killed=True)


def _wait(project: Project, stage: str, record: StageRecord, over: Callable[[], bool]) -> StageRecord:
    """Lets the stage end before the last try, which then forwards everything from the files."""
    while record.ended is None and not over():
        time.sleep(POLL_SECONDS)
        record = read_record(project, stage) or record
    return record


def noise_curve(folder: Path, when: float) -> list[tuple[str, float, float, int]]:
    """The figures of an evaluation by noise rate, `noise_curve/entity_f1`; the step is the edits per 1000 letters."""
    path = folder / "noise_curve.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(stream)]
    return [
        (f"noise_curve/{name}", value, when, round(1000 * row["rate"]))
        for row in rows
        for name, value in row.items()
        if name != "rate"
    ]


def _on_card(folder: Path) -> dict[str, str]:
    """The identity of a training on its card, apart from the parameters: `cclm.data`, `cclm.code`, and so on."""
    path = folder / "card.json"
    card = read_json(path) if path.is_file() else {}
    return {f"cclm.{name}": str(card[name]) for name in ("data", "vocabulary", "base", "code") if name in card}


def _shown(folder: Path) -> Iterator[tuple[Path, str]]:
    """The files of an output that a person wants to look at in the UI, each with the folder it goes to."""
    for path in sorted(folder.rglob("*")):
        small = path.is_file() and path.stat().st_size <= MAX_SHOWN_BYTES
        if small and path.suffix in SHOWN_SUFFIXES and path.name != MANIFEST:
            yield path, path.relative_to(folder).parent.as_posix().removeprefix(".")
