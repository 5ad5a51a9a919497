"""spaCy's `characters` objective: predict the first and last bytes of masked and of misspelled words."""

import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.corpus.windows import WindowBatch
from cclm_core.objectives.base import Example, Objective, ObjectiveContext, Sums
from cclm_core.runtime.config import Config
from cclm_core.text.vocabulary import FIRST_BYTE, FIRST_CHARACTER, MASK, Preprocessor
from cclm_core.text.words import letters

_ABSENT = 256


class CharactersConfig(Config):
    """How many words are chosen, and how many of their bytes are predicted."""

    objective: Literal["characters"] = "characters"
    rate: float = Field(default=0.3, gt=0, lt=1, description="share of the words that are chosen")
    mask_share: float = Field(default=0.5, ge=0, le=1, description="share of the chosen words that show the mask")
    num_bytes: int = Field(default=4, ge=1, le=8, description="bytes to predict at each end of a word")

    def build(self, context: ObjectiveContext) -> "Characters":
        """The objective with a new head."""
        return Characters(self, context)


class Words(NamedTuple):
    """Words of a batch: `word` (B, L) int64, the index of the word at each position or -1, and the number of words."""

    word: npt.NDArray[np.int64]
    number: int


class Characters(Objective):
    """Cross-entropy of the first and last `num_bytes` UTF-8 bytes of chosen words, each byte a softmax of 257.

    In training a chosen word shows the mask in `mask_share` of the cases; in the others it shows itself, with typing
    noise, and its clean bytes are the targets. So the features of a visible word identify it, however it is spelled. In
    evaluation every chosen word is masked.

    The 257th class means that the word is too short to have that byte. The loss is a mean over bytes, so that
    settings with different numbers of bytes are comparable (spaCy's is an unnormalized sum).

    Source: `PretrainCharacters` of spaCy 3, https://spacy.io/api/architectures#pretrain_chars
    """

    selection_metric = "bits_per_byte"

    def __init__(self, config: CharactersConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        self.config = config
        self.table = ByteTable(context.preprocessor)
        self.head = nn.Linear(context.width, 2 * config.num_bytes * (_ABSENT + 1))

    def example(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Example:
        """Targets: `places` (P,) of the characters of chosen words, the word of each (`words`), and their `bytes`."""
        noised = self.noised(batch, generator, training)
        clean = self.table.words(batch.ids)
        wanted = self.table.edges(batch.ids, clean, self.config.num_bytes)
        chosen = generator.random(clean.number) < self.config.rate
        hidden = chosen & (generator.random(clean.number) < (self.config.mask_share if training else 1.0))
        # A masked word is masked wherever its characters moved, including characters that noise inserted into it.
        source = carry_forward(noised.source)
        origin = np.take_along_axis(clean.word, np.maximum(source, 0), axis=1)
        origin = np.where((source >= 0) & (noised.ids > 0), origin, -1)
        read = (origin >= 0) & np.append(chosen, False)[origin]
        ids = np.where(read & np.append(hidden, False)[origin], MASK, noised.ids)
        places = np.flatnonzero(read)
        words, index = np.unique(origin[read], return_inverse=True)
        targets = {
            "places": torch.from_numpy(places),
            "words": torch.from_numpy(index.astype(np.int64)),
            "bytes": torch.from_numpy(wanted[words]),
        }
        return Example(torch.from_numpy(ids), targets)

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """Mean cross-entropy of the bytes, from the mean features of each word."""
        places, words, wanted = (example.targets[name] for name in ("places", "words", "bytes"))
        chosen = features.flatten(0, 1)[places].float()
        sums = chosen.new_zeros(len(wanted), chosen.shape[1]).index_add(0, words, chosen)
        sizes = torch.bincount(words, minlength=len(wanted)).clamp(min=1)
        scores = self.head(sums / sizes[:, None]).float().view(-1, _ABSENT + 1)
        losses = nn.functional.cross_entropy(scores, wanted.flatten(), reduction="sum")
        count = wanted.numel()
        return losses / max(1, count), {self.selection_metric: Sums(losses.item() / math.log(2), count)}


class ByteTable:
    """The UTF-8 bytes of every id, and which ids are part of words."""

    def __init__(self, preprocessor: Preprocessor) -> None:
        num_ids = preprocessor.num_ids
        self.bytes = np.zeros((num_ids, 4), dtype=np.int64)
        self.sizes = np.zeros(num_ids, dtype=np.int64)
        self.inside = letters(preprocessor)
        self.bytes[FIRST_BYTE:FIRST_CHARACTER, 0] = np.arange(256)
        self.sizes[FIRST_BYTE:FIRST_CHARACTER] = 1
        for place, character in enumerate(preprocessor.alphabet, start=FIRST_CHARACTER):
            encoded = character.encode()
            self.bytes[place, : len(encoded)] = list(encoded)
            self.sizes[place] = len(encoded)

    def words(self, ids: npt.NDArray[np.int64]) -> Words:
        """Numbers the runs of letters, digits and apostrophes of `ids` (B, L), row by row."""
        inside = self.inside[ids]
        begins = inside.copy()
        begins[:, 1:] &= ~inside[:, :-1]
        number = np.cumsum(begins).reshape(ids.shape) - 1
        return Words(np.where(inside, number, -1), int(begins.sum()))

    def edges(self, ids: npt.NDArray[np.int64], words: Words, num_bytes: int) -> npt.NDArray[np.int64]:
        """The first and the last `num_bytes` bytes of each word, (N, 2 * num_bytes), 256 if the word is shorter.

        "the" with 4 bytes: t h e - and, from the end, e h t -.
        """
        inside = words.word >= 0
        symbols, owner = ids[inside], words.word[inside]
        sizes = self.sizes[symbols]
        stream = self.bytes[symbols][np.arange(4) < sizes[:, None]]
        per_word = np.bincount(np.repeat(owner, sizes), minlength=words.number)
        ends = np.cumsum(per_word)
        steps = np.arange(num_bytes)
        there = steps < per_word[:, None]
        padded = np.append(stream, _ABSENT)
        first = np.where(there, (ends - per_word)[:, None] + steps, len(stream))
        last = np.where(there, ends[:, None] - 1 - steps, len(stream))
        edges: npt.NDArray[np.int64] = padded[np.concatenate([first, last], axis=1)]
        return edges


def carry_forward(source: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Fills the source of each inserted character of (B, L), marked -1, with that of the nearest one before it.

    [3, -1, 4, -1, -1] → [3, 3, 4, 4, 4]
    """
    last = np.maximum.accumulate(np.where(source >= 0, np.arange(source.shape[1]), 0), axis=1)
    return np.take_along_axis(source, last, axis=1)
