"""Masked words: mask whole words, and predict them from the surrounding characters."""

import math
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.corpus.windows import WindowBatch
from cclm_core.encoders.base import at_least_float32
from cclm_core.objectives.base import Example, ObjectiveContext, Sums
from cclm_core.objectives.read_words import carry_forward
from cclm_core.objectives.window_words import Positions, WindowWords, window_words
from cclm_core.objectives.windowed import Hidden, Noised, Targets, WindowObjective
from cclm_core.objectives.word_losses import FullSoftmaxConfig, WordLossConfig
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ConfigError
from cclm_core.text.word_targets import FILE, WordTargets


class MaskedWordsConfig(Config):
    """How many words to mask, and the loss of the head.

    Attributes:
        loss: the softmax over all words or over a sample, selected by its key `kind`.
    """

    needs_words: ClassVar[bool] = True  # the vocabulary must have word targets
    objective: Literal["masked_words"] = "masked_words"
    rate: float = Field(default=0.15, gt=0, lt=1, description="share of words to predict")
    min_length: int = Field(default=1, ge=1, description="minimum number of ids of a word to select")
    mask_share: float = Field(default=0.9, ge=0, le=1, description="share of selected words that are masked")
    loss: WordLossConfig = Field(default_factory=FullSoftmaxConfig)

    def build(self, context: ObjectiveContext) -> "MaskedWords":
        """Builds the objective with a new head."""
        return MaskedWords(self, context)


class MaskedWords(WindowObjective):
    """Cross-entropy of masked words over the word targets of the vocabulary.

    Each id of a masked word (a character, or a byte of a rare character) is replaced by a mask, as in the original
    CCLM. This reveals the length of the word and nothing else, since typing noise is applied after masking. Compare the
    bits per word with the entropy of the targets given their lengths, not with the higher entropy of the targets.

    In training, `mask_share` of the selected words are masked. The others stay visible, with typing noise, so that the
    features of visible words identify them. In evaluation, all selected words are masked. A word is predicted from the
    mean features at its positions. With targets of kind `bpe`, whole words are selected, and each piece is predicted
    from the mean features at its own positions.

    Held-out metrics use the full softmax, whatever the training loss: bits per masked word (summed over its pieces),
    and the share of words with all pieces correct.

    Source: `MaskedLanguagePretrainer` of cclm 0.1.2, https://pypi.org/project/cclm/

    Raises:
        ConfigError: the vocabulary has no word targets, or they were not counted.
    """

    masks = True
    selection_metric = "bits_per_masked_word"

    def __init__(self, config: MaskedWordsConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        self.config, self.preprocessor = config, context.preprocessor
        self.targets, shares = _counted(context.words)
        self.head = nn.Linear(context.width, len(shares))
        with torch.no_grad():  # initially predicts the frequencies of the targets
            self.head.bias.copy_(torch.from_numpy(np.log(shares)))
        self.drawn_loss = config.loss.build(shares)

    def save(self, folder: Path) -> None:
        """Writes the head, and the word of each row."""
        super().save(folder)
        self.targets.save(folder / FILE)

    def before_noise(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Hidden:
        """Selects words, and masks most of them."""
        words = window_words(batch, self.preprocessor, self.targets)
        selected = words.last - words.first + 1 >= self.config.min_length
        selected[selected] = choose_words(words.rows[selected], self.config.rate, generator)
        masked = selected & (generator.random(len(selected)) < (self.config.mask_share if training else 1.0))
        return Hidden(_positions_of(words, masked).positions, (words, selected))

    def after_noise(self, batch: Noised, generator: np.random.Generator) -> Targets:
        """Targets: `positions` (P,) of characters, the piece at each (`pieces`), the target of each piece (`ids`)."""
        ids, noised = batch.clean.ids, batch.noised
        words, selected = batch.selection
        clean = _positions_of(words, selected & _is_whole(words, noised.source))
        # Noise moves the characters of a piece and inserts others after them: all of them are read.
        piece = np.full(ids.size, -1)
        piece[clean.positions] = clean.pieces
        source = carry_forward(noised.source)
        origin = np.take_along_axis(piece.reshape(ids.shape), np.maximum(source, 0), axis=1)
        is_read = (origin >= 0) & (source >= 0) & (noised.ids > 0)
        pieces, index = np.unique(origin[is_read], return_inverse=True)
        targets = {
            "positions": np.flatnonzero(is_read),
            "pieces": index.astype(np.int64),
            "ids": words.targets[pieces],
            "words": np.unique(words.words[pieces], return_inverse=True)[1].astype(np.int64),
        }
        if batch.training and self.drawn_loss is not None:
            targets["drawn"] = self.drawn_loss.draw(len(pieces), generator)
        return Targets(targets)

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """See `Objective.loss`. An example with drawn targets has no metrics."""
        positions, pieces, ids, words = (example.targets[name] for name in ("positions", "pieces", "ids", "words"))
        count = max(1, len(ids))
        selected = at_least_float32(features.flatten(0, 1)[positions])
        sums = selected.new_zeros(len(ids), selected.shape[1]).index_add(0, pieces, selected)
        means = sums / torch.bincount(pieces, minlength=len(ids)).clamp(min=1)[:, None]
        if "drawn" in example.targets:
            assert self.drawn_loss is not None
            losses: Tensor = self.drawn_loss(self.head, means, ids, example.targets["drawn"])
            return losses.sum() / count, {}
        logits = self.head(means).float()
        total = nn.functional.cross_entropy(logits, ids, reduction="sum")
        num_words = int(words.max()) + 1 if len(words) else 0
        with torch.no_grad():
            num_wrong = len(torch.unique(words[logits.argmax(-1) != ids]))
        return total / count, {
            self.selection_metric: Sums(total.item() / math.log(2), num_words),
            "masked_word_accuracy": Sums(num_words - num_wrong, num_words),
        }


def choose_words(rows: Positions, rate: float, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Selects each word with probability `rate`, and at least one in each row that has words: (N,) bool.

    Args:
        rows: (N,) int64, the row of each word, ascending.
        rate: above 0, below 1.
        generator: the source of all randomness.
    """
    selected = generator.random(len(rows)) < rate
    for row in np.setdiff1d(rows, rows[selected]):
        first, end = np.searchsorted(rows, [row, row + 1])
        selected[generator.integers(first, end)] = True
    return selected


class _PiecePositions(NamedTuple):
    """The positions (P,) of some pieces in the flattened batch, and the index (P,) of the piece at each."""

    positions: Positions
    pieces: Positions


def _positions_of(words: WindowWords, selected: npt.NDArray[np.bool_]) -> _PiecePositions:
    pieces = np.flatnonzero(selected[words.words])
    sizes = (words.ends - words.starts)[pieces]
    ends = np.cumsum(sizes)
    positions = np.arange(sizes.sum()) + np.repeat(words.starts[pieces] - ends + sizes, sizes)
    return _PiecePositions(positions, np.repeat(pieces, sizes))


def _is_whole(words: WindowWords, source: Positions) -> npt.NDArray[np.bool_]:
    """(N,) whether each word is still whole: noise can push the end of a row out of the window.

    In its clean window every word is followed by another character, so a word is whole if a later character remains.
    """
    length = source.shape[1]
    last_source = np.arange(len(source)) * length + source.max(axis=1, initial=-1)
    is_whole: npt.NDArray[np.bool_] = words.last < last_source[words.rows]
    return is_whole


def _counted(words: WordTargets | None) -> tuple[WordTargets, npt.NDArray[np.float64]]:
    """The checked targets, and their frequencies with add-one smoothing."""
    if words is None:
        raise ConfigError(
            "the objective masked_words needs a vocabulary with word targets, but this one has none. Set "
            "`vocabulary.words` in params.yaml, e.g. `words: {kind: words}`, and run `cclm run --target vocab`."
        )
    if words.counts is None:
        raise ConfigError(
            "the objective masked_words needs the frequencies of the word targets, but they were not counted. "
            "Run `cclm run --target vocab`. In Python, pass `targets.with_counts(texts)`."
        )
    if words.num_targets < 2:
        raise ConfigError(
            "the objective masked_words needs at least one target word, but no word of the train split occurs "
            f"{words.config.min_count} times. Lower `vocabulary.words.min_count`."
        )
    counts = words.counts + 1.0
    return words, counts / counts.sum()
