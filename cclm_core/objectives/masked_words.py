"""Masked words: hide whole words, predict them from the characters around them."""

import math
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.corpus.windows import WindowBatch
from cclm_core.objectives.base import Example, Objective, ObjectiveContext, Sums
from cclm_core.objectives.characters import carry_forward
from cclm_core.objectives.window_words import Places, WindowWords, window_words
from cclm_core.objectives.word_losses import FullSoftmaxConfig, WordLossConfig
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ConfigError
from cclm_core.text.vocabulary import MASK
from cclm_core.text.word_targets import WordTargets


class MaskedWordsConfig(Config):
    """How many words are masked, and the loss of the head."""

    needs_words: ClassVar[bool] = True  # the vocabulary must have word targets
    objective: Literal["masked_words"] = "masked_words"
    rate: float = Field(default=0.15, gt=0, lt=1, description="share of the words to predict")
    min_length: int = Field(default=1, ge=1, description="fewest ids of a word that may be chosen")
    mask_share: float = Field(default=0.9, ge=0, le=1, description="share of the chosen words that show the mask")
    loss: WordLossConfig = Field(default_factory=FullSoftmaxConfig)

    def build(self, context: ObjectiveContext) -> "MaskedWords":
        """The objective with a new head."""
        return MaskedWords(self, context)


class MaskedWords(Objective):
    """Cross-entropy of masked words, among the word targets of the vocabulary.

    A masked word keeps its length: each of its ids (its characters, or the bytes of a rare one) is replaced by a mask,
    as in the original CCLM. So its length is visible and nothing else: typing noise is applied after masking, to the
    masked text. Compare the bits per word with the entropy of the targets given their lengths, which is lower than
    that of the targets.

    In training a chosen word shows the mask in `mask_share` of the cases; in the others it shows itself, with typing
    noise, so that the features of visible words identify them. In evaluation every chosen word is masked. A word is
    predicted from the mean of the features at its positions. With targets of kind `bpe` whole words are chosen, and
    each of their pieces is predicted from the features at its own positions.

    Held-out metrics use the full softmax, whatever the training loss: bits per masked word (summed over its pieces),
    and the share of words of which every piece is right.

    Source: `MaskedLanguagePretrainer` of cclm 0.1.2, https://pypi.org/project/cclm/

    Raises:
        ConfigError: the vocabulary has no word targets, or none that were counted.
    """

    selection_metric = "bits_per_masked_word"

    def __init__(self, config: MaskedWordsConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        self.config, self.preprocessor = config, context.preprocessor
        self.targets, shares = _counted(context.words)
        self.head = nn.Linear(context.width, len(shares))
        with torch.no_grad():  # the head starts at the frequencies of the targets
            self.head.bias.copy_(torch.from_numpy(np.log(shares)))
        self.drawn_loss = config.loss.build(shares)

    def example(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Example:
        """Targets: `places` (P,) of the characters of chosen words, the piece of each, and the `ids` of the pieces."""
        words = window_words(batch, self.preprocessor, self.targets)
        chosen = words.last - words.first + 1 >= self.config.min_length
        chosen[chosen] = choose_words(words.rows[chosen], self.config.rate, generator)
        hidden = chosen & (generator.random(len(chosen)) < (self.config.mask_share if training else 1.0))
        ids = batch.ids.copy()
        ids.reshape(-1)[_spread(words, hidden).places] = MASK
        noised = self.noised(batch._replace(ids=ids), generator, training)
        asked = _spread(words, chosen & _is_left(words, noised.source))
        # Where the characters of each piece are now, including characters that noise inserted after them.
        piece = np.full(batch.ids.size, -1)
        piece[asked.places] = asked.pieces
        source = carry_forward(noised.source)
        origin = np.take_along_axis(piece.reshape(batch.ids.shape), np.maximum(source, 0), axis=1)
        read = (origin >= 0) & (source >= 0) & (noised.ids > 0)
        kept, index = np.unique(origin[read], return_inverse=True)
        targets = {
            "places": np.flatnonzero(read),
            "pieces": index.astype(np.int64),
            "ids": words.targets[kept],
            "words": np.unique(words.words[kept], return_inverse=True)[1].astype(np.int64),
        }
        if training and self.drawn_loss is not None:
            targets["drawn"] = self.drawn_loss.draw(len(kept), generator)
        return Example(torch.from_numpy(noised.ids), {name: torch.from_numpy(part) for name, part in targets.items()})

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """As `Objective.loss`; an example with drawn targets has no metrics."""
        places, pieces, wanted, words = (example.targets[name] for name in ("places", "pieces", "ids", "words"))
        count = max(1, len(wanted))
        read = features.flatten(0, 1)[places].float()
        sums = read.new_zeros(len(wanted), read.shape[1]).index_add(0, pieces, read)
        means = sums / torch.bincount(pieces, minlength=len(wanted)).clamp(min=1)[:, None]
        if "drawn" in example.targets:
            assert self.drawn_loss is not None
            losses: Tensor = self.drawn_loss(self.head, means, wanted, example.targets["drawn"])
            return losses.sum() / count, {}
        scores = self.head(means).float()
        loss = nn.functional.cross_entropy(scores, wanted, reduction="sum")
        number = int(words.max()) + 1 if len(words) else 0
        with torch.no_grad():
            wrong = len(torch.unique(words[scores.argmax(-1) != wanted]))
        return loss / count, {
            self.selection_metric: Sums(loss.item() / math.log(2), number),
            "masked_word_accuracy": Sums(number - wrong, number),
        }


def choose_words(rows: Places, rate: float, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """(N,) which words are chosen: each with probability `rate`, and at least one in each row that has words.

    Args:
        rows: (N,) the row of each word, in ascending order.
        rate: above 0, below 1.
        generator: source of all randomness.
    """
    chosen = generator.random(len(rows)) < rate
    for row in np.setdiff1d(rows, rows[chosen]):
        first, end = np.searchsorted(rows, [row, row + 1])
        chosen[generator.integers(first, end)] = True
    return chosen


class _Spread(NamedTuple):
    """The positions (P,) that the pieces of some words cover, and the index of the piece at each."""

    places: Places
    pieces: Places


def _spread(words: WindowWords, chosen: npt.NDArray[np.bool_]) -> _Spread:
    pieces = np.flatnonzero(chosen[words.words])
    sizes = (words.ends - words.starts)[pieces]
    ends = np.cumsum(sizes)
    places = np.arange(sizes.sum()) + np.repeat(words.starts[pieces] - ends + sizes, sizes)
    return _Spread(places, np.repeat(pieces, sizes))


def _is_left(words: WindowWords, source: Places) -> npt.NDArray[np.bool_]:
    """(N,) which words still lie whole in their row, where noise made the row longer than the window.

    Every word was followed by another character in its window, so a word is whole if a later character is left.
    """
    length = source.shape[1]
    reached = np.arange(len(source)) * length + source.max(axis=1, initial=-1)
    is_left: npt.NDArray[np.bool_] = words.last < reached[words.rows]
    return is_left


def _counted(words: WordTargets | None) -> tuple[WordTargets, npt.NDArray[np.float64]]:
    """Checked targets, and the frequency of each, with one added to every count."""
    if words is None:
        raise ConfigError(
            "the objective masked_words needs a vocabulary with word targets; this one has none. Set "
            "`vocabulary.words` in params.yaml, e.g. `words: {kind: words}`, and run `cclm run --target vocab`."
        )
    if words.counts is None:
        raise ConfigError(
            "the objective masked_words needs the frequencies of the word targets, but they were not counted. "
            "Run `cclm run --target vocab`; in Python, pass `targets.counted(texts)`."
        )
    if words.num_targets < 2:
        raise ConfigError(
            "the objective masked_words needs at least one word as a target, but no word of the train split occurs "
            f"{words.config.min_count} times. Lower `vocabulary.words.min_count`."
        )
    counts = words.counts + 1.0
    return words, counts / counts.sum()
