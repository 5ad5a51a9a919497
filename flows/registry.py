"""MLflow's model registry as this project uses it: one registered model for each composition."""

import json
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import cclm_core
from cclm_core.config import canonical_json
from flows.tracking import Tracking, guarded

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
DIGEST_TAG, METRICS_TAG, EVALUATION_TAG = "cclm.digest", "cclm.metrics", "cclm.evaluation"
GATE_RESULT_TAG, GATE_REASON_TAG, GATE_KEY_TAG = "gate.result", "gate.reason", "gate.key"
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
        """What its evaluation measured; None when that cannot be read."""
        try:
            values = json.loads(self.tags[METRICS_TAG])
            return {str(name): float(value) for name, value in values.items()}
        except (KeyError, ValueError, TypeError, AttributeError):
            return None


def model_name(composition: str) -> str:
    """The registered model of a composition."""
    return f"cclm-{composition}"


class Registry:
    """Versions and aliases."""

    def __init__(self, tracking: Tracking) -> None:
        self.tracking = tracking
        self.client = tracking.client

    def find(self, model: str, digest: str) -> Version | None:
        """The version that holds the composition with this digest; the newest, should there be several."""
        with guarded():
            found = self.client.search_model_versions(
                f"name = '{model}' and tag.`{DIGEST_TAG}` = '{digest}'", order_by=["version_number DESC"], max_results=1
            )
        return _version(found[0]) if found else None

    def get(self, model: str, alias: str) -> Version | None:
        """The version with an alias; None when no version has it."""
        from mlflow.exceptions import MlflowException

        with guarded():
            try:
                return _version(self.client.get_model_version_by_alias(model, alias))
            except MlflowException as error:
                # An alias that is not there is INVALID_PARAMETER_VALUE, a model that is not is RESOURCE_DOES_NOT_EXIST.
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise

    def set_alias(self, version: Version, alias: str) -> None:
        """Moves an alias to a version."""
        with guarded():
            self.client.set_registered_model_alias(version.model, alias, version.number)

    def set_tags(self, version: Version, tags: Mapping[str, str]) -> None:
        """Writes tags to a version."""
        with guarded():
            for name, value in tags.items():
                self.client.set_model_version_tag(version.model, version.number, name, value)

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
    finite = {name: value for name, value in metrics.items() if value == value and abs(value) < sys.float_info.max}
    return canonical_json(finite)


def _version(found: Any) -> Version:
    return Version(str(found.name), str(found.version), dict(found.tags))
