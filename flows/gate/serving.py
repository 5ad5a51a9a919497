"""A composition as an MLflow model that embeds texts.

MLflow runs this file to load the model ("models from code"). So a registered model consists of this file, the code of
the library, safetensors and JSON, without any pickle.

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
    """An MLflow model that embeds texts with a composition."""

    # With type hints, MLflow accepts only lists, not columns of a table. Without them, it warns unless this is set.
    _skip_type_hint_validation = True

    def load_context(self, context: PythonModelContext) -> None:
        """Verifies the files of the composition and loads it."""
        from cclm_core.composition.store import load_composition
        from cclm_core.runtime.artifacts import verify
        from cclm_core.runtime.own_code import trusting_code

        folder = Path(context.artifacts["composition"])
        verify(folder, "composition", remedy="Run `cclm doctor --repair` in the project that registered it.")
        with trusting_code():  # MLflow runs the code of a model anyway, such as this file
            self.model = load_composition(folder)

    # No type hints: MLflow would derive a schema from them, but the signature defines it.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
        """Embeds texts.

        Args:
            model_input: a list or one-dimensional array of strings, a Series, or a DataFrame with the column `text`;
                its other columns are ignored.
            params: `{"output": "mean"}` (the default) or `{"output": "characters"}`.

        Returns:
            Lists of floats. For `mean`, (W,) per text: the mean over its characters, zeros for an empty text. For
            `characters`, (L, W) per text: a row for each of its L characters. W is the width of the composition.

        Raises:
            ValueError: a parameter is unknown, or the input is not texts.
        """
        params = params or {}
        if unknown := sorted(set(params) - {"output"}):
            raise ValueError(f"params must have only the key `output`, got {', '.join(map(str, unknown))}.")
        output = params.get("output", "mean")
        if output not in OUTPUTS:
            raise ValueError(f"output must be one of {', '.join(OUTPUTS)}, got {output!r}.")
        texts = _texts(model_input)
        rows = [self._characters(text, ids) for text, ids in zip(texts, self.model.embed(texts), strict=True)]
        if output == "characters":
            return [row.tolist() for row in rows]
        return [(row.mean(axis=0) if len(row) else np.zeros(row.shape[1])).tolist() for row in rows]

    def _characters(self, text: str, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """One row per character: a character outside the alphabet has a row per byte in `rows`, which are averaged."""
        offsets = self.model.preprocessor.offsets(text)
        if len(offsets) == len(text):
            return rows
        starts = np.flatnonzero(np.diff(offsets, prepend=-1))
        counts = np.diff(starts, append=len(offsets))
        return (np.add.reduceat(rows, starts) / counts[:, None]).astype(np.float32)


def _texts(model_input: Any) -> list[str]:
    """The texts, each checked: nothing is converted to a string."""
    if isinstance(model_input, pd.DataFrame):
        if list(model_input.columns).count("text") != 1:
            raise ValueError(
                f"the table must have one column `text`, got the columns {list(model_input.columns)[:20]}."
            )
        model_input = model_input["text"]
    if isinstance(model_input, np.ndarray) and model_input.ndim != 1:
        raise ValueError(f"an array of texts must have one dimension, got the shape {model_input.shape}.")
    if not isinstance(model_input, list | tuple | np.ndarray | pd.Series):
        raise ValueError(
            "the input must be a list of strings, a Series, or a DataFrame with the column `text`, got "
            f"{type(model_input).__name__}."
        )
    texts = list(model_input)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"text {index} must be a string, got {type(text).__name__}: {text!r:.80}.")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(f"text {index} must be Unicode, but it has half of a surrogate pair.")
    return texts


set_model(Embeddings())
