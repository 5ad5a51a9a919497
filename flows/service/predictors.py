"""What a service needs of a model, and how the kinds of published models provide it.

```
composition   embeds texts
task          embeds texts, and predicts the label, labels, value or entities of texts or pairs
```
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch

from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.long_texts import WINDOW, TextReader
from cclm_core.composition.store import load_composition
from cclm_core.finetuning.any_model import AnyTaskModel
from cclm_core.finetuning.store import load_task
from cclm_core.runtime.artifacts import MANIFEST, read_json, verify
from cclm_core.runtime.device import select_device
from cclm_core.runtime.errors import ArtifactError

Text = str | tuple[str, str]
"""A text, or a pair of texts."""

TRIAL_TEXTS = (
    "",
    "a",
    "Shall I compare thee to a summer's day?",
    "na\u00efve \u2603 \U0001d518",
    "to be or not to be " * 300,
)
"""Texts that a model must be able to read before it is served."""

# Per forward pass. On a CPU, larger ones are not faster, and short texts are padded more.
_BATCH_IDS = {"cpu": 2048, "cuda": 32_768}
_TOLERANCE = 1e-3  # of an embedding alone and in a batch, as in flows/gate/load_check.py


class Predictor(Protocol):
    """A model that can be served. Its methods are called by one thread at a time.

    Attributes:
        kind: the kind of its published folder, such as `composition`.
        digest: the digest of its weights and its configuration.
        width: W, features per embedding; 0 if it has none, as n-grams and ensembles.
        task: what it predicts, such as `classify`; None if it only embeds.
        is_pair: whether `predict` takes pairs of texts instead of texts.
        labels: its labels, sorted; empty if it has none.
    """

    @property
    def kind(self) -> str:
        """The kind of published folder: `composition` or `task`."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of the model."""
        ...

    @property
    def width(self) -> int:
        """Features per embedding."""
        ...

    @property
    def task(self) -> str | None:
        """The kind of task; None for a composition."""
        ...

    @property
    def is_pair(self) -> bool:
        """Whether each item has two texts."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of a task, sorted; empty for a composition."""
        ...

    def predict(self, texts: Sequence[Text]) -> list[dict[str, Any]]:
        """One prediction per text or pair, independent of the others."""
        ...

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """One embedding per text, independent of the others: (N, W), the mean over its characters."""
        ...


class CompositionPredictor:
    """Embeds texts with a composition.

    Args:
        model: the composition, in evaluation mode.
    """

    kind = "composition"
    task, is_pair = None, False
    labels: tuple[str, ...] = ()

    def __init__(self, model: ComposedModel) -> None:
        device = select_device()
        self._model = model.to(device)
        self.digest, self.width = model.digest, model.width
        self._reader = TextReader(model, window=WINDOW, batch_characters=_BATCH_IDS[device.type], causal=model.causal)

    @classmethod
    def load(cls, folder: Path) -> "CompositionPredictor":
        """Loads a published composition."""
        return cls(load_composition(folder))

    def predict(self, texts: Sequence[Text]) -> list[dict[str, Any]]:
        """A composition has nothing to predict."""
        raise AssertionError(f"a composition predicts nothing, but {len(texts)} texts were passed")

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """See `Predictor.embed`. Memory is bounded by one batch, not by the length of the texts."""
        preprocessor = self._model.preprocessor
        weights = [_weights(preprocessor.offsets(text)) for text in texts]
        sums = torch.zeros(len(texts), self.width)
        for index, start, features in self._reader.pieces([preprocessor.encode(text) for text in texts]):
            sums[index] += weights[index][start : start + len(features)] @ features
        return sums.numpy()


class TaskPredictor:
    """Predicts with the model of a task.

    Args:
        model: the model, in evaluation mode.
    """

    kind = "task"

    def __init__(self, model: AnyTaskModel) -> None:
        self._model = model.to(select_device())
        self.digest, self.width, self.task = model.digest, model.width, str(model.task)
        self.is_pair, self.labels = model.is_pair, model.labels

    @classmethod
    def load(cls, folder: Path) -> "TaskPredictor":
        """Loads a published model of a task."""
        return cls(load_task(folder))

    def predict(self, texts: Sequence[Text]) -> list[dict[str, Any]]:
        """See `Predictor.predict` and `AnyTaskModel.predict`."""
        return self._model.predict(cast("Sequence[str]", texts))

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """See `Predictor.embed`."""
        return self._model.embed(texts)


LOADERS: dict[str, Callable[[Path], Predictor]] = {
    "composition": CompositionPredictor.load,
    "task": TaskPredictor.load,
}
"""Kind of a published folder -> the function that loads it."""


def load_predictor(folder: Path) -> Predictor:
    """Loads the model in a published folder, after all its files were checked against its manifest.

    Raises:
        ArtifactError: the folder is missing, was not published, or has another kind of artifact.
        IntegrityError: a file was changed.
    """
    manifest = folder / MANIFEST
    kind = str(read_json(manifest).get("kind")) if manifest.is_file() else None
    verify(folder, *LOADERS)
    assert kind is not None
    return LOADERS[kind](folder)


def check(predictor: Predictor) -> None:
    """Tries a model on some texts.

    Raises:
        ArtifactError: an answer is missing or invalid, or depends on the other texts of its batch.
    """
    if predictor.width:
        _check_embeddings(predictor)
    if predictor.task is not None:
        texts: Sequence[Text] = [(text, text) for text in TRIAL_TEXTS] if predictor.is_pair else TRIAL_TEXTS
        predictions = predictor.predict(texts)
        if len(predictions) != len(texts) or not all(map(is_finite, predictions)):
            raise ArtifactError(f"{len(texts)} texts must give as many finite predictions, got {predictions!r:.200}.")


def _check_embeddings(predictor: Predictor) -> None:
    embeddings = predictor.embed(TRIAL_TEXTS)
    if embeddings.shape != (len(TRIAL_TEXTS), predictor.width):
        raise ArtifactError(
            f"{len(TRIAL_TEXTS)} texts must give embeddings of the shape {(len(TRIAL_TEXTS), predictor.width)}, got "
            f"{embeddings.shape}."
        )
    if not np.isfinite(embeddings).all() or not embeddings[1:].any():
        raise ArtifactError("the embeddings must be finite and must not be all zero. Train the model again.")
    difference = float(np.abs(predictor.embed(TRIAL_TEXTS[2:3])[0] - embeddings[2]).max())
    if difference > _TOLERANCE:
        raise ArtifactError(f"the embedding of a text must not depend on its batch, but differs by {difference:.2g}.")


def is_finite(value: Any) -> bool:
    """Whether an answer contains no NaN and no infinite number, which JSON does not have."""
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_finite, value))
    if isinstance(value, np.ndarray):
        return bool(np.isfinite(value).all())
    return not isinstance(value, float) or math.isfinite(value)


def _weights(offsets: npt.NDArray[np.int32]) -> torch.Tensor:
    """The weight of each id (L,) in the mean over the characters of its text.

    A character outside the alphabet has several ids, which share its weight. CLS, at the offset -1, has none.
    """
    starts = np.flatnonzero(np.diff(offsets, prepend=-2))
    counts = np.diff(starts, append=len(offsets))
    num_characters = max(1, int((offsets[starts] >= 0).sum()))
    weights = np.repeat(1 / (counts * num_characters), counts) * (offsets >= 0)
    return torch.from_numpy(weights.astype(np.float32))
