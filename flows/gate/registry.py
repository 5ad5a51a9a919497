"""MLflow's model registry as this project uses it: one registered model for each composition."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import cclm_core
from cclm_core.runtime.config import canonical_json
from flows.tracking.client import Tracking, guarded
from flows.tracking.metrics import usable

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
DIGEST_TAG, METRICS_TAG, EVALUATION_TAG = "cclm.digest", "cclm.metrics", "cclm.evaluation"
GATE_RESULT_TAG, GATE_REASON_TAG, GATE_KEY_TAG = "gate.result", "gate.reason", "gate.key"
BROKEN, ROLLED_BACK = "broken", "rolled back"  # values of `gate.result` besides the names of the aliases
# What a registered model needs where it is served.
REQUIREMENTS = ("mlflow", "torch", "numpy", "pandas", "safetensors", "pydantic", "pyyaml", "filelock", "rich")
EXAMPLE = ["Shall I compare thee to a summer's day?", ""]


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    model: str
    number: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """Where to load it from."""
        return f"models:/{self.model}/{self.number}"

    @property
    def metrics(self) -> dict[str, float] | None:
        """The numbers that its evaluation measured; None if they cannot be read."""
        try:
            values = json.loads(self.tags[METRICS_TAG])
        except (KeyError, ValueError):
            return None
        return {name: value for name, value in values.items() if usable(value)} if isinstance(values, dict) else None

    @property
    def result(self) -> str:
        """The last decision of the gate or a person: the name of an alias, or one of `BROKEN` and `ROLLED_BACK`."""
        return self.tags.get(GATE_RESULT_TAG, "")


@dataclass(frozen=True)
class Model:
    """A registered model: which version has which alias, and the tags of the model itself."""

    name: str
    aliases: Mapping[str, str]
    tags: Mapping[str, str]


def model_name(composition: str) -> str:
    """The registered model of a composition."""
    return f"cclm-{composition}"


class Registry:
    """Versions and aliases."""

    def __init__(self, tracking: Tracking) -> None:
        self.tracking = tracking
        self.client = tracking.client

    def model(self, name: str) -> Model:
        """The aliases and tags of a model, read in one call; both empty if there is no such model."""
        from mlflow.exceptions import MlflowException

        with guarded():
            try:
                found = self.client.get_registered_model(name)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return Model(name, {}, {})
                raise
        return Model(name, {alias: str(number) for alias, number in found.aliases.items()}, dict(found.tags))

    def find(self, model: str, digest: str) -> Version | None:
        """The version that holds the composition with this digest.

        If there are several: one that was rolled back, so that the rollback is kept; otherwise the newest.
        """
        found = self.search(model, DIGEST_TAG, digest)
        return next((one for one in found if one.result == ROLLED_BACK), found[0] if found else None)

    def search(self, model: str, tag: str, value: str) -> list[Version]:
        """The versions of a model with this value of a tag, the newest first."""
        with guarded():
            found = self.client.search_model_versions(
                f"name = '{model}' and tag.`{tag}` = '{value}'", order_by=["version_number DESC"]
            )
        return [_version(one) for one in found]

    def version(self, model: str, number: str) -> Version:
        """The version with a number."""
        with guarded():
            return _version(self.client.get_model_version(model, number))

    def get(self, model: str, alias: str) -> Version | None:
        """The version with an alias; None if no version has it."""
        number = self.model(model).aliases.get(alias)
        return None if number is None else self.version(model, number)

    def set_alias(self, model: str, alias: str, number: str | None) -> None:
        """Moves an alias to a version, or deletes it (None)."""
        with guarded():
            if number is None:
                self.client.delete_registered_model_alias(model, alias)
            else:
                self.client.set_registered_model_alias(model, alias, number)

    def set_tag(self, model: str, name: str, value: str | None) -> None:
        """Writes a tag of the model itself, or deletes it (None)."""
        with guarded():
            if value is None:
                self.client.delete_registered_model_tag(model, name)
            else:
                self.client.set_registered_model_tag(model, name, value)

    def set_tags(self, model: str, number: str, tags: Mapping[str, str]) -> None:
        """Writes tags to a version, one after the other."""
        with guarded():
            for name, value in tags.items():
                self.client.set_model_version_tag(model, number, name, value)

    def remove_tag(self, model: str, number: str, name: str) -> None:
        """Deletes a tag of a version."""
        with guarded():
            self.client.delete_model_version_tag(model, number, name)

    def all_versions(self) -> list[tuple[Version, float]]:
        """Every version of every model that holds a composition, each with its creation time in Unix seconds."""
        with guarded():
            versions = self.client.search_model_versions()
        return [(_version(one), one.creation_timestamp / 1000) for one in versions if DIGEST_TAG in one.tags]

    def register(
        self, run_id: str, model: str, composition: Path, metrics: Mapping[str, float], tags: Mapping[str, str]
    ) -> Version:
        """Logs a composition as a model, with `metrics`, and registers it with `tags` in one step."""
        import mlflow
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
        from mlflow.types.schema import Array

        signature = ModelSignature(
            # A column without a name takes a list of strings, a Series and a DataFrame of one column alike.
            inputs=Schema([ColSpec(DataType.string)]),
            outputs=Schema([ColSpec(Array(DataType.double))]),
            params=ParamSchema([ParamSpec("output", DataType.string, "mean")]),
        )
        with guarded(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # advice on type hints, which a signature makes idle
            mlflow.set_tracking_uri(self.tracking.uri)
            with mlflow.start_run(run_id=run_id):
                logged = mlflow.pyfunc.log_model(
                    name=model,
                    python_model=str(Path(__file__).with_name("serving.py")),
                    artifacts={"composition": str(composition)},
                    code_paths=[str(Path(cclm_core.__file__).parent)],
                    pip_requirements=[f"{name}=={installed_version(name)}" for name in REQUIREMENTS],
                    signature=signature,
                    input_example=(EXAMPLE, {"output": "mean"}),
                    metadata={DIGEST_TAG: tags[DIGEST_TAG]},
                )
                mlflow.log_metrics(dict(metrics), model_id=logged.model_id)
            self._make_model(model)
            made = self.client.create_model_version(
                model, logged.model_uri, run_id, tags=dict(tags), model_id=logged.model_id
            )
        return Version(model, str(made.version), dict(tags))

    def _make_model(self, model: str) -> None:
        from mlflow.exceptions import MlflowException

        described = f"Embeds texts of any length. Load: mlflow.pyfunc.load_model('models:/{model}@{CANDIDATE}')"
        try:
            self.client.create_registered_model(model, description=described)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def metrics_tag(metrics: Mapping[str, float]) -> str:
    """Metrics as a tag holds them."""
    return canonical_json({name: value for name, value in metrics.items() if usable(value)})


def _version(found: Any) -> Version:
    return Version(str(found.name), str(found.version), dict(found.tags))
