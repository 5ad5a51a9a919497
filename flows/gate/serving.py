"""A composition as an MLflow model: strings in, one embedding for each out.

MLflow runs this file to load the model (models from code), so what is registered is this text, the library's code,
safetensors and JSON: no pickle.

>>> model = mlflow.pyfunc.load_model("models:/cclm-full@candidate")              # doctest: +SKIP
>>> model.predict(["Thou art more lovely", ""])                                  # doctest: +SKIP
>>> model.predict(["Thou art more lovely"], params={"output": "characters"})     # doctest: +SKIP
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

OUTPUTS = ("mean", "characters")


class Embeddings(PythonModel):  # type: ignore[misc]
    """Embeds texts with a composition."""

    # With type hints MLflow would take lists alone, and without them it warns: a column of a table is welcome too.
    _skip_type_hint_validation = True

    def load_context(self, context: PythonModelContext) -> None:
        """Verifies the composition's files and loads it."""
        from cclm_core.composition.store import load_composition
        from cclm_core.runtime.artifacts import verify

        folder = Path(context.artifacts["composition"])
        verify(folder, "composition")
        self.model = load_composition(folder)

    # No type hints: MLflow takes them for the model's schema, which the signature states.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
        """Embeds each text.

        Args:
            model_input: a list of strings, a Series, or a DataFrame with one column, `text`.
            params: `output`: `mean`, the default, gives (W,) floats for each text, zeros for the empty one;
                `characters` gives (L, W), a row for each of its L characters.

        Raises:
            ValueError: another output was asked for.
        """
        output = (params or {}).get("output", "mean")
        if output not in OUTPUTS:
            raise ValueError(f"output must be one of {', '.join(OUTPUTS)}, got {output!r}.")
        texts = _texts(model_input)
        rows = [self._characters(text, ids) for text, ids in zip(texts, self.model.embed(texts), strict=True)]
        if output == "characters":
            return [row.tolist() for row in rows]
        return [(row.mean(axis=0) if len(row) else np.zeros(row.shape[1])).tolist() for row in rows]

    def _characters(self, text: str, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The mean of the rows of each character: one outside of the alphabet has a row for each of its bytes."""
        offsets = self.model.preprocessor.offsets(text)
        if len(offsets) == len(text):
            return rows
        starts = np.flatnonzero(np.diff(offsets, prepend=-1))
        counts = np.diff(starts, append=len(offsets))
        return (np.add.reduceat(rows, starts) / counts[:, None]).astype(np.float32)


def _texts(given: Any) -> list[str]:
    if isinstance(given, pd.DataFrame):
        if "text" not in given.columns and given.shape[1] != 1:
            raise ValueError(f"the input must have the column `text`, got {list(given.columns)}.")
        given = given["text"] if "text" in given.columns else given.iloc[:, 0]
    texts = [given] if isinstance(given, str) else list(given)
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"each text must be a string, got {text!r}.")
    return texts


set_model(Embeddings())
