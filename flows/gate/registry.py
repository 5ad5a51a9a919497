"""MLflow's model registry, with one registered model per composition and per task."""

import json
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import cclm_core
from cclm_core.runtime.config import canonical_json
from flows.gate.descriptions import (
    DESCRIBED_TAGS,
    GATE_RESULT_TAG,
    version_description,
)
from flows.gate.seal import DIGEST_TAG, SEAL_TAG, download, seal
from flows.gate.served import served
from flows.graph.evaluations import COMPOSITION
from flows.tracking.client import Tracking, guarded
from flows.tracking.metrics import usable

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
METRICS_TAG, EVALUATION_TAG = "cclm.metrics", "cclm.evaluation"
GATE_KEY_TAG = "gate.key"
BROKEN, ROLLED_BACK = "broken", "rolled back"  # values of the tag `gate.result`, in addition to the aliases
RESULTS_TAG = "cclm.results"


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    model: str
    number: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """The URI for `mlflow.pyfunc.load_model`."""
        return f"models:/{self.model}/{self.number}"

    @property
    def metrics(self) -> dict[str, float] | None:
        """The metrics in its tags; None if they are missing or invalid."""
        try:
            values = json.loads(self.tags[METRICS_TAG])
        except (KeyError, ValueError):
            return None
        return {name: value for name, value in values.items() if usable(value)} if isinstance(values, dict) else None

    @property
    def result(self) -> str:
        """The last decision by the gate or a person: the name of an alias, `BROKEN` or `ROLLED_BACK`; "" if none."""
        return self.tags.get(GATE_RESULT_TAG, "")


@dataclass(frozen=True)
class Model:
    """A registered model.

    Attributes:
        name: `cclm-NAME`, see `model_name`.
        aliases: alias -> version number.
        tags: tags of the model itself, not of its versions.
    """

    name: str
    aliases: Mapping[str, str]
    tags: Mapping[str, str]


def model_name(name: str) -> str:
    """The name of the registered model of a composition or a task, `cclm-NAME`."""
    return f"cclm-{name}"


class Registry:
    """Reads and changes registered models, their versions, aliases and tags.

    Every method raises `TrackingError` if the registry cannot be reached.
    """

    def __init__(self, tracking: Tracking) -> None:
        self.tracking = tracking
        self.client = tracking.client

    def model(self, name: str) -> Model:
        """The aliases and tags of a model, read in one call; both are empty if the model does not exist."""
        from mlflow.exceptions import MlflowException

        with guarded():
            try:
                model = self.client.get_registered_model(name)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return Model(name, {}, {})
                raise
        return Model(name, {alias: str(number) for alias, number in model.aliases.items()}, dict(model.tags))

    def find(self, model: str, digest: str) -> Version | None:
        """The version with the composition or task that has this digest; None if it is not registered.

        If there are several, a rolled-back version takes precedence, so that the rollback remains in effect; otherwise
        the newest version. Other versions without a seal do not count: they are never loaded.
        """
        versions = self.search(model, DIGEST_TAG, digest)
        rolled_back = [version for version in versions if version.result == ROLLED_BACK]
        return next(iter(rolled_back or [version for version in versions if SEAL_TAG in version.tags]), None)

    def search(self, model: str, tag: str, value: str) -> list[Version]:
        """The versions of a model with the given value of a tag, newest first."""
        with guarded():
            versions = self.client.search_model_versions(
                f"name = '{model}' and tag.`{tag}` = '{value}'", order_by=["version_number DESC"]
            )
        return [_version(version) for version in versions]

    def version(self, model: str, number: str) -> Version:
        """The version of a model with the given number."""
        with guarded():
            return _version(self.client.get_model_version(model, number))

    def run_of(self, model: str, number: str) -> str:
        """The ID of the run that registered a version."""
        with guarded():
            return str(self.client.get_model_version(model, number).run_id)

    def get(self, model: str, alias: str) -> Version | None:
        """The version with the given alias; None if no version has it."""
        number = self.model(model).aliases.get(alias)
        return None if number is None else self.version(model, number)

    def set_alias(self, model: str, alias: str, number: str | None) -> None:
        """Moves an alias to a version; `number=None` deletes the alias."""
        with guarded():
            if number is None:
                self.client.delete_registered_model_alias(model, alias)
            else:
                self.client.set_registered_model_alias(model, alias, number)

    def set_tag(self, model: str, name: str, value: str | None) -> None:
        """Sets a tag of the model itself; `value=None` deletes the tag."""
        with guarded():
            if value is None:
                self.client.delete_registered_model_tag(model, name)
            else:
                self.client.set_registered_model_tag(model, name, value)

    def set_tags(self, model: str, number: str, tags: Mapping[str, str]) -> None:
        """Sets tags of a version, one after the other, in the given order. Then updates its description."""
        with guarded():
            for name, value in tags.items():
                self.client.set_model_version_tag(model, number, name, value)
            if DESCRIBED_TAGS & tags.keys():
                current = self.version(model, number).tags
                self.client.update_model_version(model, number, version_description(model, number, current))

    def remove_tag(self, model: str, number: str, name: str) -> None:
        """Deletes a tag of a version."""
        with guarded():
            self.client.delete_model_version_tag(model, number, name)

    def all_versions(self) -> list[tuple[Version, float]]:
        """All registered versions of compositions and tasks, each with its creation time in Unix seconds."""
        with guarded():
            versions = self.client.search_model_versions()
        return [
            (_version(version), version.creation_timestamp / 1000) for version in versions if DIGEST_TAG in version.tags
        ]

    def register(
        self,
        run_id: str,
        model: str,
        folder: Path,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        kind: str = COMPOSITION,
    ) -> Version:
        """Logs a composition or a task as an MLflow model and registers it as a new version, with a seal.

        Args:
            run_id: the open run to log to. It has ended afterwards.
            model: name of the registered model, created if it does not exist.
            folder: the published folder of the composition or task.
            metrics: metrics of the logged model.
            tags: tags of the version.
            kind: `composition` or `task`.
        """
        import mlflow

        packed = served(kind, folder)
        with guarded(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about type hints, which the signature replaces
            mlflow.set_tracking_uri(self.tracking.uri)
            with mlflow.start_run(run_id=run_id):
                logged = mlflow.pyfunc.log_model(
                    name=model,
                    python_model=str(packed.code),
                    artifacts={kind: folder.absolute().as_uri()},  # MLflow unquotes paths
                    code_paths=[str(Path(cclm_core.__file__).parent)],
                    pip_requirements=[f"{name}=={installed_version(name)}" for name in packed.requirements],
                    signature=packed.signature(),
                    input_example=packed.example,
                    metadata={DIGEST_TAG: tags[DIGEST_TAG]} | packed.metadata,
                )
                mlflow.log_metrics(dict(metrics), model_id=logged.model_id)
            sealed = dict(tags) | {SEAL_TAG: self._seal(model, logged.model_id, tags[DIGEST_TAG])}
            self._make_model(model, packed.description)
            version = self.client.create_model_version(
                model,
                logged.model_uri,
                run_id,
                tags=sealed,
                model_id=logged.model_id,
                description=version_description(model, "", tags),
            )
        return Version(model, str(version.version), sealed)

    def _seal(self, model: str, model_id: str, composition: str) -> str:
        """The seal of what MLflow has stored, which is more than what it was given."""
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "model"
            download(self.tracking, str(self.client.get_logged_model(model_id).artifact_location), folder)
            return seal(self.tracking.project, model, composition, folder)

    def _make_model(self, model: str, description: str) -> None:
        from mlflow.exceptions import MlflowException

        description += (
            f"\n\nLoad: `mlflow.pyfunc.load_model('models:/{model}@{CHAMPION}')`, or `@{CANDIDATE}` for the newest "
            "version.\n\n"
            "The version tag `gate.reason` explains why a version is or is not the champion."
        )
        try:
            self.client.create_registered_model(model, description=description)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def metrics_tag(metrics: Mapping[str, float]) -> str:
    """Metrics as the JSON value of a tag, without unusable values."""
    return canonical_json({name: value for name, value in metrics.items() if usable(value)})


def _version(version: Any) -> Version:
    return Version(str(version.name), str(version.version), dict(version.tags))
