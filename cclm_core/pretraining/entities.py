"""The pretrainer of entities: it learns from labeled texts, and finds entities in new ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from cclm_core.composition.long_texts import TextReader
from cclm_core.corpus.records import Entity
from cclm_core.evaluation.spans import Scores, spans_of_texts
from cclm_core.objectives.catalogue import EntitiesConfig
from cclm_core.objectives.entities import Entities
from cclm_core.pretraining.call import Callback, FitCall
from cclm_core.pretraining.labeled import LabelColumns, labeled_records
from cclm_core.pretraining.pretrainer import Pretrainer
from cclm_core.pretraining.texts import Division
from cclm_core.runtime.device import device_of
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.files import StrPath
from cclm_core.text.texts import strings
from cclm_core.training.trainee import Point

_BATCH_TEXTS = 256  # texts whose scores are in memory at once


class EntityPretrainer(Pretrainer):
    """Trains a component to find entities, such as names and places; see `EntitiesConfig`.

    ```
    entities = EntityPretrainer(embedder)
    entities.fit([("Viola loves Orsino.", [(0, 5, "PERSON"), (12, 18, "PERSON")]), ...], epochs=10)
    entities.tag(["Feste greets Olivia."])
    entities.save("models/entities")
    EntityPretrainer.load("models/entities", embedder).tag(["Feste greets Olivia."])
    ```
    """

    task_type = EntitiesConfig

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the component was trained on, sorted; raises TrainingError before `fit`."""
        objective = self.objective
        assert isinstance(objective, Entities)
        return objective.labels

    def fit(
        self,
        texts: Any,
        *,
        epochs: float | None = None,
        steps: int | None = None,
        column: str | None = None,
        label_column: str | None = None,
        tag_names: Sequence[str] | None = None,
        validation: Any = None,
        held_out: float = 0.1,
        callback: Callback | None = None,
        checkpoints: StrPath | None = None,
        progress: bool | None = None,
        **training: Any,
    ) -> list[Point]:
        """Trains on labeled texts; see `Pretrainer.fit` for the other arguments.

        A further call must not bring new labels.

        Args:
            texts: pairs (text, spans), where a span is (start, end, label); or records of a corpus; or a dataset or
                another table with a column of spans, or with tokens and their tags. See `pretraining.labeled`.
            column: column of the texts or tokens; None for `text` or `tokens`.
            label_column: column of the spans or tags; None for `entities`, `spans`, `ner_tags` or `tags`.
            tag_names: names of numbered tags, such as `["O", "B-PER", "I-PER"]`; None for those of the dataset.
            validation: labeled texts to evaluate on, in one of these forms.

        Raises:
            ConfigError, TrainingError: see `Pretrainer.fit`.
            DataError: a row has another form, a span is outside its text, there are no entities, or a label is new.
        """
        call = FitCall.of(training, epochs, steps, callback, checkpoints, progress)
        columns = LabelColumns(column, label_column, tag_names)
        held_out_texts = None if validation is None else labeled_records(validation, columns)
        return self._fit(labeled_records(texts, columns), held_out_texts, held_out, call)

    def tag(self, texts: Any, *, word_boundaries: bool = True) -> list[list[Entity]]:
        """The entities of each text: start, end (excluded) and label, in characters of the text, sorted.

        Args:
            texts: a list of strings, a dataset or another table. A text can have any length and can be empty.
            word_boundaries: forbid entities to start or end inside a word. Turn it off for scripts without spaces.

        Raises:
            TrainingError: the pretrainer is not fitted.
            CompositionError: the embedder has changed.
            DataError: not texts, or a lone surrogate.
        """
        labels, encoder, preprocessor = self.labels, self._over_base(), self.embedder.preprocessor
        reader = TextReader(encoder, window=self._window, causal=encoder.causal)
        every, entities = list(strings(texts)), []
        for first in range(0, len(every), _BATCH_TEXTS):
            part = every[first : first + _BATCH_TEXTS]
            spans = spans_of_texts(part, self._scores(part, reader), preprocessor, labels, word_boundaries)
            entities += [[Entity(*span) for span in sorted(found)] for found in spans]
        return entities

    def _scores(self, texts: Sequence[str], reader: TextReader) -> list[Scores]:
        """Log-probabilities (L, T) of the tags of each id of each text."""
        objective = self.objective
        assert isinstance(objective, Entities)
        encoded = [self.embedder.preprocessor.encode(text) for text in texts]
        num_tags = 1 + 2 * len(objective.labels)
        scores = [np.zeros((len(ids), num_tags), dtype=np.float32) for ids in encoded]
        for piece in reader.pieces(encoded):
            with torch.inference_mode():
                logits = objective.head(piece.features.to(device_of(objective))).float().log_softmax(-1).cpu().numpy()
            scores[piece.text][piece.start : piece.start + len(logits)] = logits
        return scores

    def _labels(self, division: Division) -> tuple[str, ...]:
        """The labels of the head, which later calls keep, or those of the texts."""
        found = {entity.label for read in division for record in read() for entity in record.entities}
        known = self.labels if self._last is not None else tuple(sorted(found))
        if not found:
            raise DataError("the texts have no entities, so there is nothing to learn. Add texts with entities.")
        if unknown := sorted(found - set(known)):
            raise DataError(
                f"the labels {unknown} are new, but the component was trained on {list(known)}. Create a new "
                "EntityPretrainer, and pass the texts of all labels."
            )
        return known
