"""Masked words: hide whole words, tell from the characters around them which ones they were."""

import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.corpus.windows import WindowBatch
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import Example, Objective, Sums, Surroundings
from cclm_core.objectives.characters import carry_forward
from cclm_core.objectives.window_words import Places, WindowWords, window_words
from cclm_core.objectives.word_losses import FullSoftmaxConfig, WordLossConfig, build_loss
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ConfigError
from cclm_core.text.vocabulary import MASK
from cclm_core.text.word_targets import WordTargets


class MaskedWordsConfig(Config):
    """How many words are hidden, and how the head learns to tell them apart."""

    objective: Literal["masked_words"] = "masked_words"
    rate: float = Field(default=0.15, gt=0, lt=1, description="share of the words that are to be predicted")
    min_length: int = Field(default=1, ge=1, description="ids that a word must have to be chosen")
    mask_share: float = Field(default=0.9, ge=0, le=1, description="share of the chosen words that show the mask")
    loss: WordLossConfig = Field(default_factory=FullSoftmaxConfig)


class MaskedWords(Objective):
    """Cross-entropy of which word stood at hidden places, among the word targets of the vocabulary.

    A hidden word keeps its length: one mask stands for each of its ids (its characters, or the bytes of a rare one), as
    in the original CCLM. So the length of a word can be seen, and nothing else of it: typing noise falls on what is
    left, after the words were hidden, and goes by what it sees. The text around keeps its places and its labels, as it
    would around a word that cannot be read. What a model has learnt from the text shows against the entropy of the
    targets given their lengths, which is less than that of the targets.

    In training a chosen word shows the mask in `mask_share` of the cases; in the others it shows itself, with typing
    noise, so that the features of words that can be seen say which they are. In evaluation each chosen word is hidden.
    What a word is said to be is read from the mean of the features at its places. With targets of kind `bpe` whole
    words are chosen, and each of their pieces is asked for, from the features at its own places.

    Held-out figures are those of the full softmax, whatever the loss that is trained: bits per masked word, those of
    its pieces summed, and the share of words of which every piece is right.

    Source: `MaskedLanguagePretrainer` of cclm 0.1.2, https://pypi.org/project/cclm/

    Raises:
        ConfigError: the vocabulary has no word targets, or none that were counted.
    """

    headline = "bits_per_masked_word"

    def __init__(self, config: MaskedWordsConfig, noise: TrainingNoise, surroundings: Surroundings) -> None:
        super().__init__(noise, surroundings)
        self.config, self.preprocessor = config, surroundings.preprocessor
        self.targets, shares = _counted(surroundings.words)
        self.head = nn.Linear(surroundings.width, len(shares))
        with torch.no_grad():  # the head begins with what is known without reading
            self.head.bias.copy_(torch.from_numpy(np.log(shares)))
        self.drawn_loss = build_loss(config.loss, shares)

    def example(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Example:
        words = window_words(batch, self.preprocessor, self.targets)
        chosen = words.last - words.first + 1 >= self.config.min_length
        chosen[chosen] = choose_words(words.rows[chosen], self.config.rate, generator)
        hidden = chosen & (generator.random(len(chosen)) < (self.config.mask_share if training else 1.0))
        ids = batch.ids.copy()
        ids.reshape(-1)[_spread(words, hidden).places] = MASK
        noised = self.noised(batch._replace(ids=ids), generator, training)
        asked = _spread(words, chosen & _is_left(words, noised.source))
        # Where the characters of each piece are now; what noise inserted behind one goes with it.
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
        """As `Objective.loss`; an example whose loss is that of drawn targets has no metrics."""
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
            self.headline: Sums(loss.item() / math.log(2), number),
            "masked_word_accuracy": Sums(number - wrong, number),
        }


def choose_words(rows: Places, rate: float, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """(N,) which words are chosen: each with probability `rate`, and one where a row has words but drew none.

    Args:
        rows: (N,) rising, the row of each word.
        rate: above 0, below 1.
        generator: where all randomness comes from.
    """
    chosen = generator.random(len(rows)) < rate
    for row in np.setdiff1d(rows, rows[chosen]):
        first, end = np.searchsorted(rows, [row, row + 1])
        chosen[generator.integers(first, end)] = True
    return chosen


class _Spread(NamedTuple):
    """The places that the pieces of some words cover, (P,), and the number of the piece at each."""

    places: Places
    pieces: Places


def _spread(words: WindowWords, chosen: npt.NDArray[np.bool_]) -> _Spread:
    pieces = np.flatnonzero(chosen[words.words])
    sizes = (words.ends - words.starts)[pieces]
    ends = np.cumsum(sizes)
    places = np.arange(sizes.sum()) + np.repeat(words.starts[pieces] - ends + sizes, sizes)
    return _Spread(places, np.repeat(pieces, sizes))


def _is_left(words: WindowWords, source: Places) -> npt.NDArray[np.bool_]:
    """(N,) which words the end of their row did not cut, where noise made the row longer than the window.

    Behind a word there was something in its window, so there is still.
    """
    length = source.shape[1]
    reached = np.arange(len(source)) * length + source.max(axis=1, initial=-1)
    is_left: npt.NDArray[np.bool_] = words.last < reached[words.rows]
    return is_left


def _counted(words: WordTargets | None) -> tuple[WordTargets, npt.NDArray[np.float64]]:
    """Targets that can be learnt, and the frequency of each, where one that does not occur counts as one that does."""
    if words is None:
        raise ConfigError(
            "the objective masked_words needs a vocabulary with word targets; this one has none. Set "
            "`vocabulary.words` in params.yaml, e.g. `words: {kind: words}`, and run the stage `vocab` again."
        )
    if words.counts is None:
        raise ConfigError(
            "the objective masked_words needs to know how frequent the word targets are, but they were not counted. "
            "Run the stage `vocab` again; in Python, give it `targets.counted(texts)`."
        )
    if words.num_targets < 2:
        raise ConfigError(
            "the objective masked_words needs at least one word as a target, but no word of the train split occurs "
            f"{words.config.min_count} times. Lower `vocabulary.words.min_count`."
        )
    counts = words.counts + 1.0
    return words, counts / counts.sum()
