"""The connection to MLflow: where it is, runs and their tags. Clients and run ids are explicit, never "active"."""

import getpass
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from cclm_core.runtime.config import digest
from flows import environment, processes
from flows.project import Project
from flows.tracking.open_runs import closed, opened

MAX_PARAM_LENGTH = 6000  # MLflow's limit for the value of a parameter
MAX_BATCH = 1000  # and for the metrics in one call; 100 for parameters and tags

# Without it MLflow 3 opens the experiment with pages for chats and prompts instead of training runs.
KIND_TAG, TRAINING_KIND = "mlflow.experimentKind", "custom_model_development"

PROCESS_TAG = "cclm.process"  # who must end the run, as `flows.processes` names it


class TrackingError(Exception):
    """MLflow is unreachable, full, or has refused a request."""


def enabled() -> bool:
    """Whether runs are tracked at all: `CCLM_TRACKING=off` disables it."""
    return not environment.is_off("CCLM_TRACKING")


def tracking_uri(project: Project) -> str:
    """`MLFLOW_TRACKING_URI`; by default the database that MLflow itself looks for in the project's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project.root / 'mlflow.db'}"


def page(server: str, experiment_id: str, run_id: str = "") -> str:
    """The address of an experiment's runs, or of one, among MLflow's pages for training: it has others, for chats."""
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}".rstrip("/") + "?workflowType=machine_learning"


class guarded:  # noqa: N801 - used as a statement
    """Turns whatever an unreachable or broken MLflow raises into one TrackingError."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or isinstance(error, TrackingError):
            return
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        # ImportError: a database URI whose driver is not installed. OSError: connections, disks.
        if isinstance(error, MlflowException | SQLAlchemyError | OSError | ImportError):
            raise TrackingError(f"{type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    """What happened, without SQLAlchemy's word on when it noticed."""
    lines = [line for line in str(error).splitlines() if line and not line.startswith("(raised as a result of")]
    return lines[0] if lines else ""


@dataclass(frozen=True)
class Tracking:
    """MLflow as this project uses it."""

    client: Any
    experiment_id: str
    uri: str
    project: Project

    def create_run(self, name: str, tags: Mapping[str, str], started: float | None = None) -> str:
        """Starts a run with the tags that MLflow's own context would have set; returns its id.

        It is on record as open until `set_status` ends it, so that it is ended even if this process is killed.
        """
        commit, dirty = self.project.git_revision()
        system = {
            PROCESS_TAG: processes.own(),
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
        opened(self.project, "mlflow", run_id, self.uri, tags.get(PROCESS_TAG))
        return run_id

    def log(
        self,
        run_id: str,
        metrics: Iterable[tuple[str, float, float, int]] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Logs metrics (name, value, Unix seconds, step), parameters and tags in as few calls as MLflow allows."""
        from mlflow.entities import Metric, Param, RunTag

        points = [Metric(_key(name), value, int(when * 1000), step) for name, value, when, step in metrics]
        pairs = [Param(_key(name), _param(value)) for name, value in (params or {}).items()]
        labels = [RunTag(_key(name), value) for name, value in (tags or {}).items()]
        with guarded():
            for start in range(0, len(points), MAX_BATCH):
                self.client.log_batch(run_id, metrics=points[start : start + MAX_BATCH])
            for start in range(0, max(len(pairs), len(labels)), 100):
                self.client.log_batch(run_id, params=pairs[start : start + 100], tags=labels[start : start + 100])

    def log_files(self, run_id: str, files: Iterable[tuple[Path, str]]) -> None:
        """Copies each file into the run's artifacts, each under the given folder."""
        with guarded():
            for path, folder in files:
                self.client.log_artifact(run_id, str(path), artifact_path=folder or None)

    def log_inputs(self, run_id: str, folders: Iterable[tuple[str, str, str]]) -> None:
        """Names the data that a run read: (path, kind, digest), shown as datasets in the UI."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                # MLflow keeps 36 characters of a digest; the tags hold it whole.
                Dataset(name=path, digest=value[:36], source_type="local", source=path),
                [InputTag("mlflow.data.context", kind)],
            )
            for path, kind, value in folders
        ]
        with guarded():
            if inputs:
                self.client.log_inputs(run_id, inputs)

    def set_status(self, run_id: str, status: str, ended: float | None = None) -> None:
        """RUNNING, or one of the ends: FINISHED, FAILED, KILLED."""
        with guarded():
            if status == "RUNNING":
                self.client.update_run(run_id, status=status)
                return
            self.client.set_terminated(run_id, status, int((ended or time.time()) * 1000))
        closed(self.project, "mlflow", run_id)


@cache
def connect(project: Project) -> Tracking:
    """Opens MLflow and makes its database and experiment when they are missing, one process at a time.

    Raises:
        TrackingError: it cannot be reached.
    """
    environment.apply(project)
    uri = tracking_uri(project)
    with guarded():
        from mlflow.tracking import MlflowClient

        # Two processes that migrate an empty database at once break it, and both would make the experiment.
        with FileLock(project.state("locks") / "tracking.lock"):
            client = MlflowClient(uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri)
            name = os.environ.get("CCLM_EXPERIMENT", "cclm")
            experiment = client.get_experiment_by_name(name)
            if experiment is not None:
                return Tracking(client, str(experiment.experiment_id), uri, project)
            location = (project.root / "mlruns").as_uri() if uri.startswith("sqlite:") else None
            number = client.create_experiment(name, artifact_location=location, tags={KIND_TAG: TRAINING_KIND})
            return Tracking(client, str(number), uri, project)


def headline(results: Mapping[str, float], item: str) -> list[tuple[str, float, float, int]]:
    """A composition's results as metrics of the pipeline's run, `full/entity_f1_clean`, so that runs compare."""
    now = time.time()
    return [(f"{item}/{name}", value, now, 0) for name, value in results.items()]


def log_pipeline_files(tracking: Tracking, project: Project, run_id: str) -> None:
    """Keeps dvc.lock, params.yaml and dvc.yaml with the pipeline's run."""
    files = [project.root / name for name in ("dvc.lock", "params.yaml", "dvc.yaml")]
    tracking.log_files(run_id, [(path, "") for path in files if path.is_file()])


def _key(name: str) -> str:
    """A name with only the characters that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def _param(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MAX_PARAM_LENGTH else f"{text[: MAX_PARAM_LENGTH - 100]}... sha256 {digest(text)}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
