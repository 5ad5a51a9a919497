"""How each kind of model is packed as an MLflow model: its code, signature, example, requirements and description."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cclm_core.runtime.artifacts import MANIFEST, read_json
from cclm_core.runtime.errors import ArtifactError
from flows.graph.evaluations import COMPOSITION, TASK

REQUIREMENTS = ("mlflow", "torch", "numpy", "pandas", "safetensors", "pydantic", "pyyaml", "filelock", "rich")
# `cclm_core.finetuning` also imports these: scikit-learn for n-grams, pyarrow for labeled data, the others for noise.
TASK_REQUIREMENTS = (*REQUIREMENTS, "scikit-learn", "scipy", "pyarrow", "rapidfuzz", "tokenizers")
EXAMPLE = ["Shall I compare thee to a summer's day?", ""]
KIND_KEY, PAIRS_KEY = "cclm.kind", "cclm.pairs"
"""Keys of the metadata of an MLflow model: the kind of the model, and whether it takes pairs."""


@dataclass(frozen=True)
class Served:
    """What MLflow needs to load a kind of model, apart from its folder.

    Attributes:
        code: the file that MLflow runs.
        requirements: names of packages.
        example: an input, with parameters if there are any.
        metadata: describes the model to `flows.gate.load_check`.
        description: of the registered model.
    """

    code: Path
    requirements: tuple[str, ...]
    example: Any
    metadata: dict[str, Any]
    description: str

    def signature(self) -> Any:
        """The `mlflow.models.ModelSignature`.

        It has no schema of the inputs: with one, MLflow drops columns and converts null and numbers to strings before
        the model sees them. The served code checks them itself.
        """
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
        from mlflow.types.schema import AnyType, Array

        if self.metadata[KIND_KEY] == TASK:
            return ModelSignature(outputs=Schema([ColSpec(AnyType())]))
        return ModelSignature(
            outputs=Schema([ColSpec(Array(DataType.double))]),
            params=ParamSchema([ParamSpec("output", DataType.string, "mean")]),
        )


def served(kind: str, folder: Path) -> Served:
    """How to pack the model in a published folder.

    Args:
        kind: `composition` or `task`.
        folder: the published folder.

    Raises:
        ArtifactError: the card of a task is damaged.
    """
    if kind == COMPOSITION:
        description = (
            "Character-level embeddings: one vector per text of any length, or one per character with "
            '`params={"output": "characters"}`.'
        )
        code = Path(__file__).with_name("serving.py")
        return Served(code, REQUIREMENTS, (EXAMPLE, {"output": "mean"}), {KIND_KEY: kind}, description)
    card = read_json(folder / "task.json")
    is_pair = bool(card.get("is_pair"))
    answers = {
        "classify": "one label per text",
        "multilabel": "the labels of each text",
        "regress": "a number per text",
        "tag": "the entities of each text",
    }
    description = f"Predicts {answers.get(str(card.get('task')), 'an answer per text')}, for texts of any length."
    if is_pair:
        description += " Each input is a pair: the columns `text` and `second`."
    return Served(
        code=Path(__file__).with_name("task_serving.py"),
        requirements=TASK_REQUIREMENTS,
        example=_pairs_example() if is_pair else EXAMPLE,
        metadata={KIND_KEY: kind, PAIRS_KEY: is_pair},
        description=description,
    )


def _pairs_example() -> Any:
    import pandas as pd

    return pd.DataFrame({"text": EXAMPLE, "second": EXAMPLE[::-1]})


def published_in(folder: Path) -> Path:
    """The published folder among the artifacts of an MLflow model."""
    published = [path.parent for path in sorted((folder / "artifacts").glob(f"*/{MANIFEST}"))]
    if len(published) != 1:
        raise ArtifactError(f"the version must contain one published folder, got {len(published)}. Register it again.")
    return published[0]
