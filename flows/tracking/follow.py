"""Follows a running stage and forwards it to MLflow: parameters, learning curves, results, digests.

It needs only the stage's record and report files, so any process can do it: the stage runner under a bare `dvc repro`,
the process of the flow under Prefect (so that MLflow is imported only once), or a later process after an outage.
"""

import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cclm_core.evaluation.metrics import EVALUATION_FILE
from cclm_core.runtime.artifacts import MANIFEST, folder_digest, read_json
from flows.graph.node import Node, artifact_kind
from flows.messages import warn
from flows.project import Project
from flows.tracking.client import NOTE_TAG, Tracking, TrackingError, headline
from flows.tracking.metrics import result_metrics
from flows.tracking.records import Reports, StageRecord, read_record, reports_path
from flows.tracking.stage_notes import composition_params, stage_note

POLL_SECONDS = 0.25
ENDING_SECONDS = 5.0  # time for a stage runner to end its child after its `dvc` was killed
# Output files that are logged as artifacts.
LOGGED_SUFFIXES = {".png", ".svg", ".csv", ".json", ".jsonl", ".md", ".txt", ".html"}
DIGESTS_FILE = "digests.json"  # an artifact of each run: the digests that it read
MAX_LOGGED_BYTES = 2_000_000


class Follower:
    """The MLflow run of a stage.

    Args:
        node: the stage.
        parent: MLflow run ID of the pipeline.
    """

    def __init__(self, project: Project, tracking: Tracking, node: Node, parent: str | None) -> None:
        self.project = project
        self.tracking = tracking
        self.node = node
        self.parent = parent
        self.run_id = ""
        self.reports = Reports(reports_path(project, node.name))
        self.last_step: dict[str, int] = {}

    def start(self, record: StageRecord) -> None:
        """Creates the run and logs the parameters that the stage depends on.

        If it is called again after an outage, all reports are forwarded again. MLflow drops the duplicates.
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
        self.tracking.log(self.run_id, params=self.node.params | composition_params(self.project, self.node))

    def forward(self) -> None:
        """Logs the reports of the stage since the last call."""
        points = []
        for line in self.reports.new():
            for name, value in line["values"].items():
                self.last_step[name] = line["step"]
                points.append((name, value, line["time"], line["step"]))
        self.tracking.log(self.run_id, points)

    def finish(self, record: StageRecord) -> None:
        """Logs cost, inputs and results, and ends the run with the status of the stage."""
        self.forward()
        ended = record.ended or time.time()
        numbers = {name: value for name, value in record.host.items() if isinstance(value, float)}
        costs = numbers | {"duration_seconds": ended - record.started}
        self.tracking.log(self.run_id, [(f"system/{name}", value, ended, 0) for name, value in costs.items()])
        tags = {f"host.{name}": value for name, value in record.host.items() if isinstance(value, str)}
        if record.message:
            tags["cclm.message"] = record.message[-4000:]
        inputs = list(self._published(self.node.deps))
        self.tracking.log_inputs(self.run_id, inputs)
        digests = {"read": {path: value for path, _, value in inputs}}
        if record.exit_code == 0:
            tags |= self._results(ended)
            tags[NOTE_TAG] = stage_note(self.project, self.node, ended - record.started)
            cards = {path: _card_digests(self.project.root / path) for path in self.node.outs}
            digests |= {path: values for path, values in cards.items() if values}
        self.tracking.log_json(self.run_id, digests, DIGESTS_FILE)
        self.tracking.log(self.run_id, tags=tags)
        self.tracking.set_status(self.run_id, record.status, ended)

    def _results(self, ended: float) -> dict[str, str]:
        tags: dict[str, str] = {}
        for path, kind, value in self._published(self.node.outs):
            folder = self.project.root / path
            results = result_metrics(folder)
            points = [
                (name, number, ended, self.last_step.get(name, 0))
                for name, number in results.items()
                # The published loss is a mean over more steps than a point of the curve, which it would end in a jump.
                if name != "loss" or name not in self.last_step
            ]
            self.tracking.log(self.run_id, points)
            self.tracking.log_files(self.run_id, _logged_files(folder))
            tags |= {f"digest.out.{path}": value, "cclm.kind": kind}  # `flows.gate.lineage` searches for it
            if kind == "evaluation":
                self.tracking.log(self.run_id, noise_curve(folder, ended))
                tags |= _warnings(folder)
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
    has_ended: Callable[[], bool],
    open_follower: Callable[[], Follower],
) -> str | None:
    """Waits until a stage starts, then forwards it to MLflow until it ends.

    Failures of MLflow never fail the stage: they are reported as a warning, and the record and the reports are kept.

    Args:
        since: Unix seconds. Records of earlier runs are ignored.
        has_ended: whether the process that runs the stage has ended, so that no more records or reports will come.
        open_follower: connects to MLflow. Called when the stage has started, because importing MLflow takes seconds.

    Returns:
        The ID of the MLflow run; None if the stage has not started or could not be tracked.
    """
    while (record := read_record(project, stage)) is None or record.started < since:
        if has_ended():
            return None
        time.sleep(POLL_SECONDS)
    follower: Follower | None = None
    for last_try in (False, True):
        try:
            follower = follower or open_follower()
            follower.start(record)
            while (record := read_record(project, stage) or record).ended is None and not has_ended():
                follower.forward()
                time.sleep(POLL_SECONDS)
            record = _completed(project, stage, record).with_(run_id=follower.run_id)
            follower.finish(record)
            record.write(project)
            return follower.run_id
        except TrackingError as error:
            record = _wait(project, stage, record, has_ended)
            if last_try:
                warn(
                    f"{stage} is not tracked in MLflow ({error}). Its parameters, learning curves, results and "
                    f"digests were not logged. Find them in {reports_path(project, stage)} and in its outputs."
                )
    return None


def _completed(project: Project, stage: str, record: StageRecord) -> StageRecord:
    """The record with its end. If `dvc` was killed, the stage runner needs a moment to write it."""
    for _ in range(int(ENDING_SECONDS / POLL_SECONDS)):
        record = read_record(project, stage) or record
        if record.ended is not None:
            return record
        time.sleep(POLL_SECONDS)
    return record.with_(ended=time.time(), exit_code=-9, killed=True)


def _wait(project: Project, stage: str, record: StageRecord, has_ended: Callable[[], bool]) -> StageRecord:
    """Waits until the stage has ended. The last try then forwards everything from the files."""
    while record.ended is None and not has_ended():
        time.sleep(POLL_SECONDS)
        record = read_record(project, stage) or record
    return record


def noise_curve(folder: Path, when: float) -> list[tuple[str, float, float, int]]:
    """The metrics of an evaluation by noise rate, e.g. `noise_curve/entity_f1`. The step is 1000 x the noise rate."""
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


def _card_digests(folder: Path) -> dict[str, str]:
    """The digests in the card of a trained folder: `data`, `vocabulary`, `base` and `code`."""
    path = folder / "card.json"
    card = read_json(path) if path.is_file() else {}
    return {name: str(card[name]) for name in ("data", "vocabulary", "base", "code") if name in card}


def _warnings(folder: Path) -> dict[str, str]:
    """The warnings of an evaluation as the tag `cclm.warnings`, one per line; no tag without warnings."""
    path = folder / EVALUATION_FILE
    warnings = read_json(path).get("warnings") if path.is_file() else None
    return {"cclm.warnings": "\n".join(map(str, warnings))} if warnings else {}


def _logged_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """The readable files of an output, each with its folder among the artifacts."""
    for path in sorted(folder.rglob("*")):
        small = path.is_file() and path.stat().st_size <= MAX_LOGGED_BYTES
        if small and path.suffix in LOGGED_SUFFIXES and path.name != MANIFEST:
            yield path, path.relative_to(folder).parent.as_posix().removeprefix(".")
