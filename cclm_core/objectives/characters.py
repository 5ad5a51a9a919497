"""spaCy's `characters` objective: predict the first and last bytes of masked and misspelled words."""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import Tensor, nn

from cclm_core.objectives.base import Example, ObjectiveContext, Sums
from cclm_core.objectives.read_words import BatchWords, mean_features, number_words, read_words
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
        ids = batch.clean.ids
        clean = self.table.words(ids)
        target_bytes = self.table.edges(ids, clean, self.config.num_bytes)
        selected = generator.random(clean.num_words) < self.config.rate
        masked = selected & (generator.random(clean.num_words) < (self.config.mask_share if batch.training else 1.0))
        read = read_words(clean, batch.noised, selected, masked)
        targets = {"positions": read.positions, "words": read.word_of, "bytes": target_bytes[read.words]}
        return Targets(targets, read.masked)

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """Mean cross-entropy of the bytes, predicted from the mean features of each word."""
        positions, words, target_bytes = (example.targets[name] for name in ("positions", "words", "bytes"))
        means = mean_features(features, positions, words, len(target_bytes))
        logits = self.head(means).float().view(-1, _ABSENT + 1)
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
        return number_words(self.inside[ids])

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
