"""Encodes batches of texts with `datasets` or Ray Data, for corpora that are too large for one machine.

The ids equal those of `encode_records`, with an END after each text, so the result does not depend on where a corpus
is encoded. `Encode` can be pickled.

>>> encode = Encode(Preprocessor(alphabet="ab"))
>>> encode({"text": ["ab", "é"]})
{'ids': [[260, 261, 3], [199, 173, 3]], 'length': [2, 2], 'fallback_characters': [0, 1]}
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cclm_core.runtime.errors import DataError
from cclm_core.text.vocabulary import END, Preprocessor


class Encode:
    """Encodes the texts of a batch of columns.

    In `datasets`, `dataset.map(encode, batched=True)` adds the new columns to the dataset. In Ray,
    `dataset.map_batches(encode)` returns a dataset of the new columns only.

    Args:
        preprocessor: the vocabulary.
        column: the column of texts.
    """

    def __init__(self, preprocessor: Preprocessor, column: str = "text") -> None:
        self.preprocessor, self.column = preprocessor, column

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Encodes a batch.

        Returns:
            One value per text: `ids`, END included; `length`, the number of ids without END; `fallback_characters`, the
            number of characters that became bytes.

        Raises:
            DataError: the column is missing, contains a value that is not a string, or a lone surrogate.
        """
        if self.column not in batch:
            raise DataError(f"column {self.column!r} not found in {', '.join(batch)}. Pass `column` to Encode.")
        texts = [str(text) if isinstance(text, np.str_) else text for text in batch[self.column]]
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(
                    f"texts must be strings, got {type(text).__name__} at index {index} of a batch. Convert it."
                )
        ids, lengths, fallbacks = self.preprocessor.encode_ragged(texts)
        parts = np.split(ids, np.cumsum(lengths)[:-1]) if texts else []
        return {
            "ids": [[*part.tolist(), END] for part in parts],
            "length": lengths.tolist(),
            "fallback_characters": fallbacks.tolist(),
        }
