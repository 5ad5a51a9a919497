"""The connection to MLflow. Clients and run IDs are always explicit; MLflow's global "active run" is not used."""

import getpass
import os
import re
import shlex
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from cclm_core.runtime.config import digest
from flows import environment, processes
from flows.messages import warn
from flows.project import Project
from flows.tracking.mlflow_private import artifact_folders, load_from_any_path, move_artifacts
from flows.tracking.open_runs import record_closed, record_opened

# Limits of MLflow.
MAX_PARAM_LENGTH = 6000  # characters in the value of a parameter
MAX_METRICS = 1000  # metrics per call
MAX_TAGS = 100  # parameters, or tags, per call

# Without this tag, MLflow 3 shows the experiment as one for chats and prompts instead of training runs.
KIND_TAG, TRAINING_KIND = "mlflow.experimentKind", "custom_model_development"

NOTE_TAG = "mlflow.note.content"  # MLflow's pages show it as the description of a run, in Markdown
ARTIFACTS = "mlruns"  # the folder of artifacts of the default database
PROCESS_TAG = "cclm.process"  # the process that must end the run, named as in `flows.processes`


class TrackingError(Exception):
    """MLflow is unreachable or has refused a request, or its disk is full."""


def enabled() -> bool:
    """Whether runs are tracked in MLflow. `CCLM_TRACKING=off` disables tracking."""
    return not environment.is_off("CCLM_TRACKING")


def tracking_uri(project: Project) -> str:
    """`MLFLOW_TRACKING_URI`; by default `mlflow.db` in the project's folder, which MLflow uses by default too."""
    return os.environ.get("MLFLOW_TRACKING_URI") or environment.sqlite_uri(database(project))


def database(project: Project) -> Path:
    """The default database of MLflow, in the project's folder."""
    return project.root / "mlflow.db"


def page_url(server: str, experiment_id: str, run_id: str = "") -> str:
    """The URL of an experiment's runs, or of one run, in the pages of MLflow's UI for model training."""
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}".rstrip("/") + "?workflowType=machine_learning"


class guarded:  # noqa: N801 - used as a statement
    """Context manager that converts all exceptions of an unreachable or broken MLflow to `TrackingError`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or isinstance(error, TrackingError):
            return
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        # ImportError: the driver for a database URI is not installed. OSError: failed connections, full disks.
        if isinstance(error, MlflowException | SQLAlchemyError | sqlite3.Error | OSError | ImportError):
            raise TrackingError(f"{type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    """The first line of an error message, without SQLAlchemy's preamble."""
    lines = [line for line in str(error).splitlines() if line and not line.startswith("(raised as a result of")]
    return lines[0] if lines else ""


@dataclass(frozen=True)
class Tracking:
    """A connection to MLflow.

    Attributes:
        client: a `mlflow.tracking.MlflowClient`.
        experiment_id: the experiment of this project.
        uri: the tracking URI.
        project: the project whose runs are tracked.
    """

    client: Any
    experiment_id: str
    uri: str
    project: Project

    def create_run(self, name: str, tags: Mapping[str, str], started: float | None = None) -> str:
        """Starts a run, with the system tags that MLflow normally sets itself, and returns its ID.

        The run is recorded in `.cclm/open` until `set_status` ends it, so that a later process ends it if this one is
        killed.

        Args:
            started: start time in Unix seconds (default: now).
        """
        commit, dirty = self.project.git_revision()
        system = {
            PROCESS_TAG: processes.own_name(),
            "mlflow.runName": name,
            "mlflow.user": _user(),
            "mlflow.source.type": "PROJECT",
            "mlflow.source.name": self.project.root.name,
            "mlflow.source.git.commit": commit,
            "cclm.dirty": str(dirty).lower(),
        }
        with guarded():
            run = self.client.create_run(
                self.experiment_id,
                start_time=int((started or time.time()) * 1000),
                tags=system | dict(tags),
                run_name=name,
            )
        run_id = str(run.info.run_id)
        record_opened(self.project, "mlflow", run_id, self.uri, tags.get(PROCESS_TAG))
        return run_id

    def log(
        self,
        run_id: str,
        metrics: Iterable[tuple[str, float, float, int]] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Logs metrics, parameters and tags in as few calls as MLflow's limits allow.

        Args:
            metrics: tuples (name, value, time in Unix seconds, step).
        """
        from mlflow.entities import Metric, Param, RunTag

        points = [Metric(_key(name), value, int(when * 1000), step) for name, value, when, step in metrics]
        pairs = [Param(_key(name), _param(value)) for name, value in (params or {}).items()]
        labels = [RunTag(_key(name), value) for name, value in (tags or {}).items()]
        with guarded():
            for start in range(0, len(points), MAX_METRICS):
                self.client.log_batch(run_id, metrics=points[start : start + MAX_METRICS])
            for start in range(0, max(len(pairs), len(labels)), MAX_TAGS):
                end = start + MAX_TAGS
                self.client.log_batch(run_id, params=pairs[start:end], tags=labels[start:end])

    def log_files(self, run_id: str, files: Iterable[tuple[Path, str]]) -> None:
        """Logs files as artifacts of a run.

        Args:
            files: tuples (path, folder among the artifacts); "" is their root.
        """
        with guarded():
            for path, folder in files:
                self.client.log_artifact(run_id, str(path), artifact_path=folder or None)

    def log_json(self, run_id: str, values: Mapping[str, Any], name: str) -> None:
        """Logs values as an artifact of a run, a JSON file."""
        with guarded():
            self.client.log_dict(run_id, dict(values), name)

    def log_inputs(self, run_id: str, folders: Iterable[tuple[str, str, str]]) -> None:
        """Logs the data that a run has read. MLflow's UI shows it as datasets.

        Args:
            folders: tuples (path, kind, digest).
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                # MLflow allows 36 characters for a digest. The full digest is in the run's digests.json.
                Dataset(name=path, digest=value[:36], source_type="local", source=path),
                [InputTag("mlflow.data.context", kind)],
            )
            for path, kind, value in folders
        ]
        with guarded():
            if inputs:
                self.client.log_inputs(run_id, inputs)

    def set_status(self, run_id: str, status: str, ended: float | None = None) -> None:
        """Sets the status of a run. Every status but RUNNING ends it.

        Args:
            status: RUNNING, FINISHED, FAILED or KILLED.
            ended: end time in Unix seconds (default: now).
        """
        with guarded():
            if status == "RUNNING":
                self.client.update_run(run_id, status=status)
                return
            self.client.set_terminated(run_id, status, int((ended or time.time()) * 1000))
        record_closed(self.project, "mlflow", run_id)


@cache
def connect(project: Project) -> Tracking:
    """Connects to MLflow. Creates its database and the experiment if they do not exist.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    environment.apply(project)
    uri = tracking_uri(project)
    with guarded():
        from mlflow.tracking import MlflowClient

        own = uri == environment.sqlite_uri(database(project))
        # The lock prevents two processes from migrating an empty database at the same time, which corrupts it.
        with FileLock(project.state("locks") / "tracking.lock"):
            if own and project.read_only and not database(project).is_file():
                raise TrackingError(f"{database(project)} does not exist, and the project is read-only")
            if own and not project.read_only:
                _follow_project(project)
            client = MlflowClient(uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri)
            if "%" in str(project.root):
                load_from_any_path()
            name = os.environ.get("CCLM_EXPERIMENT", "cclm")
            experiment = client.get_experiment_by_name(name)
            if experiment is not None:
                return Tracking(client, str(experiment.experiment_id), uri, project)
            location = (project.root / ARTIFACTS).as_uri() if uri.startswith("sqlite:") else None
            experiment_id = client.create_experiment(name, artifact_location=location, tags={KIND_TAG: TRAINING_KIND})
            return Tracking(client, str(experiment_id), uri, project)


def _follow_project(project: Project) -> None:
    """Points the database to the project's own folder of artifacts, if the project was moved or copied.

    MLflow stores absolute locations. Without this, a moved project would lose its artifacts, and a copy would write to
    the folder of the original.

    Raises:
        TrackingError: the database was copied without the artifacts.
    """
    here = project.root / ARTIFACTS
    for old in artifact_folders(database(project)):
        if old == here or (old.exists() and here.exists() and old.samefile(here)):
            continue
        if old.is_dir() and not database(Project(old.parent)).is_file():
            continue  # no other project, but a folder that somebody has chosen for an experiment
        if old.is_dir() and not here.is_dir():
            raise TrackingError(
                f"{database(project)} refers to the artifacts in {old}, and {here} does not exist. Copy it, too: "
                f"cp -a {shlex.quote(str(old))} {shlex.quote(str(here))}"
            )
        move_artifacts(database(project), old, here)
        warn(f"the project was moved or copied: its artifacts in MLflow are now those in {here}, not in {old}.")


def headline(results: Mapping[str, float], item: str) -> list[tuple[str, float, float, int]]:
    """The results of a composition or task as metrics of the pipeline's run: `full/entity_f1_clean`.

    MLflow then compares pipeline runs by the results of their models.
    """
    now = time.time()
    return [(f"{item}/{name}", value, now, 0) for name, value in results.items()]


def log_pipeline_files(tracking: Tracking, project: Project, run_id: str) -> None:
    """Logs dvc.lock, params.yaml and dvc.yaml as artifacts of the pipeline's run."""
    files = [project.root / name for name in ("dvc.lock", "params.yaml", "dvc.yaml")]
    tracking.log_files(run_id, [(path, "") for path in files if path.is_file()])


def _key(name: str) -> str:
    """Replaces the characters that MLflow does not allow in names by `_`."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def _param(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MAX_PARAM_LENGTH else f"{text[: MAX_PARAM_LENGTH - 100]}... sha256 {digest(text)}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
