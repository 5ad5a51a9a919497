"""spaCy's `characters` objective: predict the first and last bytes of masked and misspelled words."""

import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.encoders.base import at_least_float32
from cclm_core.objectives.base import Example, ObjectiveContext, Sums
from cclm_core.objectives.windowed import Noised, Targets, WindowObjective
from cclm_core.runtime.config import Config
from cclm_core.text.vocabulary import FIRST_BYTE, FIRST_CHARACTER, Preprocessor
from cclm_core.text.words import letters

_ABSENT = 256


class CharactersConfig(Config):
    """How many words to select, and how many of their bytes to predict."""

    objective: Literal["characters"] = "characters"
    rate: float = Field(default=0.3, gt=0, lt=1, description="share of words to select")
    mask_share: float = Field(default=0.5, ge=0, le=1, description="share of selected words that are masked")
    num_bytes: int = Field(default=4, ge=1, le=8, description="bytes to predict at each end of a word")

    def build(self, context: ObjectiveContext) -> "Characters":
        """Builds the objective with a new head."""
        return Characters(self, context)


class BatchWords(NamedTuple):
    """The words of a batch.

    Attributes:
        word_ids: (B, L) int64, index of the word at each position, -1 outside of words.
        num_words: number of words in the batch.
    """

    word_ids: npt.NDArray[np.int64]
    num_words: int


class Characters(WindowObjective):
    """Cross-entropy of the first and last `num_bytes` UTF-8 bytes of selected words, with 257 classes per byte.

    In training, `mask_share` of the selected words are masked. The others stay visible, with typing noise, and their
    clean bytes are the targets, so the features of a word identify it despite misspellings. In evaluation, all selected
    words are masked.

    Class 256 means that the word is too short to have that byte. The loss is a mean over bytes, so settings with
    different `num_bytes` are comparable (spaCy uses an unnormalized sum).

    Source: `PretrainCharacters` of spaCy 3, https://spacy.io/api/architectures#pretrain_chars
    """

    masks = True
    selection_metric = "bits_per_byte"

    def __init__(self, config: CharactersConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        self.config = config
        self.table = ByteTable(context.preprocessor)
        self.head = nn.Linear(context.width, 2 * config.num_bytes * (_ABSENT + 1))

    def after_noise(self, batch: Noised, generator: np.random.Generator) -> Targets:
        """Targets: `positions` (P,) of characters of selected words, the word at each (`words`), and all `bytes`."""
        ids, noised = batch.clean.ids, batch.noised
        clean = self.table.words(ids)
        target_bytes = self.table.edges(ids, clean, self.config.num_bytes)
        selected = generator.random(clean.num_words) < self.config.rate
        masked = selected & (generator.random(clean.num_words) < (self.config.mask_share if batch.training else 1.0))
        # Noise moves the characters of a word and inserts others: all of them are masked.
        source = carry_forward(noised.source)
        word_ids = np.take_along_axis(clean.word_ids, np.maximum(source, 0), axis=1)
        word_ids = np.where((source >= 0) & (noised.ids > 0), word_ids, -1)
        is_read = (word_ids >= 0) & np.append(selected, False)[word_ids]
        words, index = np.unique(word_ids[is_read], return_inverse=True)
        targets = {
            "positions": np.flatnonzero(is_read),
            "words": index.astype(np.int64),
            "bytes": target_bytes[words],
        }
        return Targets(targets, np.flatnonzero(is_read & np.append(masked, False)[word_ids]))

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """Mean cross-entropy of the bytes, predicted from the mean features of each word."""
        positions, words, target_bytes = (example.targets[name] for name in ("positions", "words", "bytes"))
        selected = at_least_float32(features.flatten(0, 1)[positions])
        sums = selected.new_zeros(len(target_bytes), selected.shape[1]).index_add(0, words, selected)
        sizes = torch.bincount(words, minlength=len(target_bytes)).clamp(min=1)
        logits = self.head(sums / sizes[:, None]).float().view(-1, _ABSENT + 1)
        total = nn.functional.cross_entropy(logits, target_bytes.flatten(), reduction="sum")
        count = target_bytes.numel()
        return total / max(1, count), {self.selection_metric: Sums(total.item() / math.log(2), count)}


class ByteTable:
    """The UTF-8 bytes of every id, and whether the id is part of a word."""

    def __init__(self, preprocessor: Preprocessor) -> None:
        num_ids = preprocessor.num_ids
        self.bytes = np.zeros((num_ids, 4), dtype=np.int64)
        self.sizes = np.zeros(num_ids, dtype=np.int64)
        self.inside = letters(preprocessor)
        self.bytes[FIRST_BYTE:FIRST_CHARACTER, 0] = np.arange(256)
        self.sizes[FIRST_BYTE:FIRST_CHARACTER] = 1
        for id_, character in enumerate(preprocessor.alphabet, start=FIRST_CHARACTER):
            encoded = character.encode()
            self.bytes[id_, : len(encoded)] = list(encoded)
            self.sizes[id_] = len(encoded)

    def words(self, ids: npt.NDArray[np.int64]) -> BatchWords:
        """Numbers the words (runs of letters, digits and apostrophes) of `ids` (B, L), row by row."""
        inside = self.inside[ids]
        starts = inside.copy()
        starts[:, 1:] &= ~inside[:, :-1]
        index = np.cumsum(starts).reshape(ids.shape) - 1
        return BatchWords(np.where(inside, index, -1), int(starts.sum()))

    def edges(self, ids: npt.NDArray[np.int64], words: BatchWords, num_bytes: int) -> npt.NDArray[np.int64]:
        """The first and last `num_bytes` bytes of each word, (N, 2 * num_bytes), 256 beyond the end of the word.

        "the" with 4 bytes → t h e - (from the start) and e h t - (from the end).
        """
        inside = words.word_ids >= 0
        symbols, owner = ids[inside], words.word_ids[inside]
        sizes = self.sizes[symbols]
        stream = self.bytes[symbols][np.arange(4) < sizes[:, None]]
        per_word = np.bincount(np.repeat(owner, sizes), minlength=words.num_words)
        ends = np.cumsum(per_word)
        steps = np.arange(num_bytes)
        exists = steps < per_word[:, None]
        padded = np.append(stream, _ABSENT)
        first = np.where(exists, (ends - per_word)[:, None] + steps, len(stream))
        last = np.where(exists, ends[:, None] - 1 - steps, len(stream))
        edges: npt.NDArray[np.int64] = padded[np.concatenate([first, last], axis=1)]
        return edges


def carry_forward(source: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Replaces -1, the source (B, L) of an inserted character, by the source of the nearest earlier character.

    [3, -1, 4, -1, -1] → [3, 3, 4, 4, 4]
    """
    last = np.maximum.accumulate(np.where(source >= 0, np.arange(source.shape[1]), 0), axis=1)
    return np.take_along_axis(source, last, axis=1)
