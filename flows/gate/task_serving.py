"""The model of a task as an MLflow model that predicts from texts.

MLflow runs this file to load the model ("models from code"), as `flows/gate/serving.py` for compositions.

>>> model = mlflow.pyfunc.load_model("models:/cclm-intent@champion")             # doctest: +SKIP
>>> model.predict(["my card did not arive"])                                     # doctest: +SKIP
[{'label': 'card_arrival', 'score': 0.91, 'scores': {...}}]
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

COLUMNS = ("text", "second")


class Predictions(PythonModel):  # type: ignore[misc]
    """An MLflow model that answers texts, or pairs of texts, with the model of a task."""

    # With type hints, MLflow accepts only lists, not columns of a table. Without them, it warns unless this is set.
    _skip_type_hint_validation = True

    def load_context(self, context: PythonModelContext) -> None:
        """Verifies the files of the model and loads it."""
        from cclm_core.finetuning.store import load_task
        from cclm_core.runtime.artifacts import verify
        from cclm_core.runtime.own_code import trusting_code

        folder = Path(context.artifacts["task"])
        verify(folder, "task", remedy="Run `cclm doctor --repair` in the project that registered it.")
        with trusting_code():  # MLflow runs the code of a model anyway, such as this file
            self.model = load_task(folder)

    # No type hints: MLflow would derive a schema from them, but the signature defines it.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
        """Answers texts.

        Args:
            model_input: a list or one-dimensional array of strings, a Series, or a DataFrame with the column `text`.
                For pairs: a DataFrame with the columns `text` and `second`, a list of two strings each, or an array
                (N, 2). Other columns are ignored.
            params: must be empty.

        Returns:
            One mapping per text or pair; see `cclm_core.finetuning.model.TaskModel.predict`.

        Raises:
            ValueError: there are parameters, or the input is not texts.
        """
        if params:
            raise ValueError(f"a task has no params, got {', '.join(map(str, params))}.")
        return self.model.predict(_pairs(model_input) if self.model.is_pair else _texts(model_input))


def _texts(model_input: Any) -> list[str]:
    """The texts, each checked: nothing is converted to a string."""
    if isinstance(model_input, pd.DataFrame):
        model_input = _column(model_input, "text")
    if isinstance(model_input, np.ndarray) and model_input.ndim != 1:
        raise ValueError(f"an array of texts must have one dimension, got the shape {model_input.shape}.")
    return [_text(f"text {index}", text) for index, text in enumerate(_items(model_input, "strings"))]


def _pairs(model_input: Any) -> list[tuple[str, str]]:
    if isinstance(model_input, pd.DataFrame):
        columns = [list(_column(model_input, name)) for name in COLUMNS]
        model_input = list(zip(*columns, strict=True))
    if isinstance(model_input, np.ndarray) and (model_input.ndim != 2 or model_input.shape[1] != 2):
        raise ValueError(f"an array of pairs must have the shape (N, 2), got {model_input.shape}.")
    pairs = []
    for index, pair in enumerate(_items(model_input, "pairs of strings")):
        if not isinstance(pair, list | tuple | np.ndarray) or len(pair) != 2:
            raise ValueError(f"pair {index} must be two strings, got {type(pair).__name__}: {pair!r:.80}.")
        pairs.append((_text(f"pair {index}", pair[0]), _text(f"pair {index}", pair[1])))
    return pairs


def _items(model_input: Any, what: str) -> list[Any]:
    if not isinstance(model_input, list | tuple | np.ndarray | pd.Series):
        raise ValueError(
            f"the input must be a list of {what}, a Series, or a DataFrame with the column `text` (and `second` for "
            f"pairs), got {type(model_input).__name__}."
        )
    return list(model_input)


def _column(table: pd.DataFrame, name: str) -> Any:
    if list(table.columns).count(name) != 1:
        raise ValueError(f"the table must have one column `{name}`, got the columns {list(table.columns)[:20]}.")
    return table[name]


def _text(where: str, text: Any) -> str:
    if not isinstance(text, str):
        raise ValueError(f"{where} must be a string, got {type(text).__name__}: {text!r:.80}.")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{where} must be Unicode, but it has half of a surrogate pair.")
    return text


set_model(Predictions())
