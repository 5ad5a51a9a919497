"""Baselines for masked characters: a unigram model, and a trigram model that sees both neighbors.

The counts come from the whole train split. The interpolation weights are fitted on masked positions of the train split,
with each position left out of the counts that predict it.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.evaluation.baselines.base import CharacterBaseline, Masked
from cclm_core.evaluation.metrics import Floats
from cclm_core.runtime.config import Config
from cclm_core.text.vocabulary import MASK, NUM_SPECIAL, PAD

_ROUNDS = 30  # of expectation maximization over six weights; it converges within ten
_UNKNOWN = -1
# Usable estimates of `TrigramCounts`, if neither neighbor is seen, only the left, only the right, or both but never as
# a pair in training.
_USABLE = np.array([[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0], [1, 1, 1, 1, 1, 0]], dtype=bool)

Runs = Sequence[npt.NDArray[np.uint16]]


class UnigramConfig(Config):
    """Character frequencies."""

    baseline: Literal["unigram"] = "unigram"

    def build(self, context: EncodedCorpus) -> "UnigramCounts":
        """The unfitted baseline."""
        return UnigramCounts(context.preprocessor.num_ids)


class TrigramConfig(Config):
    """Character frequencies between two neighbors."""

    baseline: Literal["trigram"] = "trigram"
    num_symbols: int = Field(
        default=127, ge=1, le=255, description="number of distinct characters in the counts; the rarer ones share one"
    )

    def build(self, context: EncodedCorpus) -> "TrigramCounts":
        """The unfitted baseline."""
        return TrigramCounts(context.preprocessor.num_ids, self.num_symbols)


class UnigramCounts(CharacterBaseline):
    """Character frequencies with add-one smoothing.

    Args:
        num_ids: size of the vocabulary.
    """

    def __init__(self, num_ids: int) -> None:
        self.num_ids = num_ids
        self._shares: Floats = np.full(num_ids, 1 / num_ids)

    def fit(self, runs: Runs, masked: Masked) -> None:  # noqa: ARG002 - it has no weights to fit
        """See `CharacterBaseline.fit`."""
        text = _frequencies(runs, self.num_ids)
        text[:NUM_SPECIAL] = 0
        self._shares = (text + 1) / (text + 1)[NUM_SPECIAL:].sum()

    def bits(self, masked: Masked) -> Floats:
        """See `CharacterBaseline.bits`."""
        bits: Floats = -np.log2(self._shares[masked.ids])
        return bits


class _Contexts(NamedTuple):
    """Symbols (N,) of the masked characters and their neighbors; -1 for a hidden neighbor."""

    left: npt.NDArray[np.int64]
    symbol: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]


class TrigramCounts(CharacterBaseline):
    """Interpolated unigram, bigram and trigram estimates of a character c between its neighbors l and r.

    The estimates, whose weights depend on the count of (l, r) in training:

        1 / num_ids    P(c)    P(c | l)    P(c | r)    P(c | l) · P(c | r) / P(c), normalized    P(c | l, r)

    Args:
        num_ids: size of the vocabulary.
        num_symbols: number of distinct characters in the counts. The rarer ones share one symbol, whose probability
            is divided by their frequencies.
    """

    def __init__(self, num_ids: int, num_symbols: int) -> None:
        self.num_ids, self.num_symbols = num_ids, num_symbols
        self.weights: Floats | None = None

    def fit(self, runs: Runs, masked: Masked) -> None:
        """Counts `runs`, then fits the weights of the estimates on `masked`, by expectation maximization."""
        self._count(runs)
        contexts = self._contexts(masked)
        estimates, buckets = self._estimates(contexts, masked, left_out=1), self._buckets(contexts, left_out=1)
        usable = np.ones((max(4, int(buckets.max(initial=0)) + 1), estimates.shape[1]), dtype=bool)
        usable[:4] = _USABLE
        weights = usable / usable.sum(axis=1, keepdims=True)
        for _ in range(_ROUNDS):
            mixed = estimates * weights[buckets]
            mixed /= mixed.sum(axis=1, keepdims=True)
            sums = np.stack([np.bincount(buckets, column, minlength=len(weights)) for column in mixed.T], axis=1)
            sums += usable
            weights = sums / sums.sum(axis=1, keepdims=True)
        self.weights = weights

    def _count(self, runs: Runs) -> None:
        frequencies = _frequencies(runs, self.num_ids)
        frequent = np.argsort(-frequencies, kind="stable")[: min(self.num_symbols, int((frequencies > 0).sum()))]
        self.symbol_of_id = np.zeros(self.num_ids, dtype=np.int64)  # 0: rare ids
        self.symbol_of_id[frequent] = np.arange(1, len(frequent) + 1)
        size = len(frequent) + 1
        trigram = np.zeros(size**3, dtype=np.int64)
        for run in runs:
            symbols = self.symbol_of_id[run]
            codes = (symbols[:-2] * size + symbols[1:-1]) * size + symbols[2:]
            trigram += np.bincount(codes, minlength=size**3)
        self.trigram = trigram.reshape(size, size, size)  # left, character, right
        special = self.symbol_of_id[:NUM_SPECIAL]
        self.trigram[:, special[special > 0], :] = 0  # an end mark can be a neighbor, but is never predicted
        self.after = self.trigram.sum(axis=2)  # left, character
        self.before = self.trigram.sum(axis=0)  # character, right
        self.single = self.after.sum(axis=0)
        self.around = self.trigram.sum(axis=1)  # left, right
        text = frequencies + 1.0
        text[:NUM_SPECIAL] = 1.0
        in_symbol = np.bincount(self.symbol_of_id[NUM_SPECIAL:], text[NUM_SPECIAL:], minlength=size)
        self.share = text / np.maximum(in_symbol, 1e-300)[self.symbol_of_id]  # of an id within its symbol

    def bits(self, masked: Masked) -> Floats:
        """See `CharacterBaseline.bits`."""
        assert self.weights is not None
        contexts = self._contexts(masked)
        buckets = self._buckets(contexts, left_out=0).clip(max=len(self.weights) - 1)
        mixed: Floats = (self._estimates(contexts, masked, left_out=0) * self.weights[buckets]).sum(axis=1)
        return -np.log2(mixed)

    def _contexts(self, masked: Masked) -> _Contexts:
        sides = []
        for side, counts in ((masked.left, self.after.sum(axis=1)), (masked.right, self.before.sum(axis=0))):
            symbols = self.symbol_of_id[side]
            hidden = (side == MASK) | (side == PAD) | (counts[symbols] == 0)
            sides.append(np.where(hidden, _UNKNOWN, symbols))
        return _Contexts(sides[0], self.symbol_of_id[masked.ids], sides[1])

    def _buckets(self, contexts: _Contexts, left_out: int) -> npt.NDArray[np.int64]:
        """Weight buckets (N,): 0 if both neighbors are hidden, 1 or 2 if the right or left one is, else 3 + log2 of the
        count of the pair plus 1, rounded down."""
        seen_left, seen_right = contexts.left >= 0, contexts.right >= 0
        count = np.maximum(self.around[contexts.left, contexts.right] - left_out, 0)
        buckets: npt.NDArray[np.int64] = np.where(
            seen_left & seen_right, 3 + np.log2(count + 1).astype(np.int64), seen_left + 2 * seen_right
        )
        return buckets

    def _estimates(self, contexts: _Contexts, masked: Masked, left_out: int) -> Floats:
        """(N, 6): each estimate of the probability of each masked character; 0 if it needs a hidden neighbor."""
        left, symbol, right = contexts
        total = int(self.single.sum())
        seen_left, seen_right = left >= 0, right >= 0
        unigram = _share(self.single[symbol], total, left_out)
        following = _share(self.after[left, symbol], self.after.sum(axis=1)[left], left_out) * seen_left
        preceding = _share(self.before[symbol, right], self.before.sum(axis=0)[right], left_out) * seen_right
        both = _share(self.trigram[left, symbol, right], self.around[left, right], left_out) * (seen_left & seen_right)
        own = following * preceding / np.maximum(unigram, 1e-300)
        full = self._product()[left, right]
        if left_out:
            counted = self.after[left, symbol] / np.maximum(1, self.after.sum(axis=1)[left])
            counted = counted * self.before[symbol, right] / np.maximum(1, self.before.sum(axis=0)[right])
            full = full - counted * total / np.maximum(1, self.single[symbol]) + own
        product = np.divide(own, full, out=np.zeros_like(own), where=(own > 0) & (full > 0)).clip(max=1.0)
        shared = np.stack([unigram, following, preceding, product, both], axis=1) * self.share[masked.ids][:, None]
        return np.concatenate([np.full((len(shared), 1), 1 / self.num_ids), shared], axis=1)

    def _product(self) -> Floats:
        """(S, S): the normalizer of the product estimate for each pair (l, r): Σ_c P(c | l) · P(c | r) / P(c)."""
        following = self.after / np.maximum(1, self.after.sum(axis=1, keepdims=True))
        preceding = self.before / np.maximum(1, self.before.sum(axis=0, keepdims=True))
        inverse = np.where(self.single > 0, self.single.sum() / np.maximum(1, self.single), 0)
        # einsum does not use BLAS here, so the number of threads cannot change the last bits.
        product: Floats = np.einsum("lc,cr->lr", following * inverse, preceding)
        return product


def _frequencies(runs: Runs, num_ids: int) -> npt.NDArray[np.int64]:
    frequencies = np.zeros(num_ids, dtype=np.int64)
    for run in runs:
        frequencies += np.bincount(run, minlength=num_ids)
    return frequencies


def _share(counts: npt.NDArray[np.int64], totals: npt.NDArray[np.int64] | int, left_out: int) -> Floats:
    shares: Floats = np.maximum(counts - left_out, 0) / np.maximum(np.asarray(totals) - left_out, 1)
    return shares
