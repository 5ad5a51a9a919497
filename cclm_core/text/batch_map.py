"""Text to ids as a function of a batch: for `datasets` and Ray Data, where one machine is too small.

The function gives the ids that `encode_records` gives on one machine, an END behind each text, so that a corpus that
was encoded elsewhere is the same. It can be pickled, and holds nothing but the vocabulary.

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

    `dataset.map(encode, batched=True)` adds its columns to a `datasets.Dataset`; with Ray,
    `dataset.map_batches(encode)` makes a dataset of its columns alone.

    Args:
        preprocessor: the vocabulary.
        column: which column holds the texts.
    """

    def __init__(self, preprocessor: Preprocessor, column: str = "text") -> None:
        self.preprocessor, self.column = preprocessor, column

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Columns of the same length as the batch: `ids`, with the END; `length`, without it; `fallback_characters`.

        Raises:
            DataError: no such column, something else than strings in it, or a lone surrogate.
        """
        if self.column not in batch:
            raise DataError(f"a batch must have a column {self.column!r}; it has {', '.join(batch)}.")
        texts = [str(text) if isinstance(text, np.str_) else text for text in batch[self.column]]
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"texts must be strings, but number {index} of a batch is {type(text).__name__}.")
        ids, lengths, fallbacks = self.preprocessor.encode_ragged(texts)
        parts = np.split(ids, np.cumsum(lengths)[:-1]) if texts else []
        return {
            "ids": [[*part.tolist(), END] for part in parts],
            "length": lengths.tolist(),
            "fallback_characters": fallbacks.tolist(),
        }
