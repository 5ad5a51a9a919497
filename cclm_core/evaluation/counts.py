"""What counting predicts at masked places: a unigram, and a trigram model that sees the same two neighbours.

Counts come from the whole train split, the weights of the parts from masked places of it, each left out of the
counts that predict it. So a composition is compared with what little context can tell.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.corpus.windows import Windows
from cclm_core.evaluation.characters import Masked
from cclm_core.text.vocabulary import MASK, NUM_SPECIAL, PAD

_CHUNK = 1 << 20
_ROUNDS = 30  # of expectation maximisation over six weights: it settles within ten
_UNKNOWN = -1
# Which parts (see `CountModel`) can predict: both neighbours hidden, left seen, right seen, both but never together.
_USABLE = np.array([[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0], [1, 1, 1, 1, 1, 0]], dtype=bool)

Floats = npt.NDArray[np.float64]


class _Places(NamedTuple):
    """Masked places as symbols, each (N,): the character and its neighbours, -1 for one that is not shown."""

    left: npt.NDArray[np.int64]
    symbol: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]


class CountModel:
    """Interpolated unigram, bigram and trigram counts of characters between two neighbours.

    The parts: a uniform over all ids; the unigram; what follows the left neighbour; what precedes the right one;
    the product of these two over the unigram, normalised; the trigram. Their weights depend on how often the two
    neighbours were seen around a character.

    Args:
        chunks: runs of ids (N,) of the train split.
        num_ids: size of the vocabulary.
        num_symbols: characters that are told apart; rarer ones are one symbol, told apart by their unigram alone.
    """

    def __init__(self, chunks: Iterable[npt.NDArray[np.uint16]], num_ids: int, num_symbols: int) -> None:
        runs = list(chunks)
        frequencies = np.zeros(num_ids, dtype=np.int64)
        for run in runs:
            frequencies += np.bincount(run, minlength=num_ids)
        self.num_ids = num_ids
        text = frequencies.copy()
        text[:NUM_SPECIAL] = 0
        self.unigram_of_id = (text + 1) / (text + 1)[NUM_SPECIAL:].sum()
        frequent = np.argsort(-frequencies, kind="stable")[: min(num_symbols, int((frequencies > 0).sum()))]
        self.symbol_of_id = np.zeros(num_ids, dtype=np.int64)  # 0: a rare one
        self.symbol_of_id[frequent] = np.arange(1, len(frequent) + 1)
        size = len(frequent) + 1
        trigram = np.zeros(size**3, dtype=np.int64)
        for run in runs:
            symbols = self.symbol_of_id[run]
            codes = (symbols[:-2] * size + symbols[1:-1]) * size + symbols[2:]
            trigram += np.bincount(codes, minlength=size**3)
        self.trigram = trigram.reshape(size, size, size)  # left, character, right
        marks = self.symbol_of_id[:NUM_SPECIAL]
        self.trigram[:, marks[marks > 0], :] = 0  # an end mark is a neighbour, never a character to predict
        self.after = self.trigram.sum(axis=2)  # left, character
        self.before = self.trigram.sum(axis=0)  # character, right
        self.single = self.after.sum(axis=0)
        self.around = self.trigram.sum(axis=1)  # left, right
        in_symbol = np.bincount(self.symbol_of_id[NUM_SPECIAL:], (text + 1.0)[NUM_SPECIAL:], minlength=size)
        self.share = (text + 1.0) / np.maximum(in_symbol, 1e-300)[self.symbol_of_id]  # of an id within its symbol
        self.weights: Floats | None = None

    def fit(self, masked: Masked) -> "CountModel":
        """Fits the weights of the parts on masked places of the train split."""
        places = self._places(masked)
        parts, buckets = self._parts(places, masked, left_out=1), self._buckets(places, left_out=1)
        usable = np.ones((max(4, int(buckets.max(initial=0)) + 1), parts.shape[1]), dtype=bool)
        usable[:4] = _USABLE
        weights = usable / usable.sum(axis=1, keepdims=True)
        for _ in range(_ROUNDS):
            mixed = parts * weights[buckets]
            mixed /= mixed.sum(axis=1, keepdims=True)
            sums = np.stack([np.bincount(buckets, column, minlength=len(weights)) for column in mixed.T], axis=1)
            sums += usable
            weights = sums / sums.sum(axis=1, keepdims=True)
        self.weights = weights
        return self

    def bits(self, masked: Masked) -> Floats:
        """Bits (N,) of each masked character."""
        assert self.weights is not None
        places = self._places(masked)
        buckets = self._buckets(places, left_out=0).clip(max=len(self.weights) - 1)
        mixed: Floats = (self._parts(places, masked, left_out=0) * self.weights[buckets]).sum(axis=1)
        return -np.log2(mixed)

    def unigram_bits(self, masked: Masked) -> Floats:
        """Bits (N,) of each masked character when nothing around it is seen."""
        bits: Floats = -np.log2(self.unigram_of_id[masked.ids])
        return bits

    def _places(self, masked: Masked) -> _Places:
        sides = []
        for side, counts in ((masked.left, self.after.sum(axis=1)), (masked.right, self.before.sum(axis=0))):
            symbols = self.symbol_of_id[side]
            hidden = (side == MASK) | (side == PAD) | (counts[symbols] == 0)
            sides.append(np.where(hidden, _UNKNOWN, symbols))
        return _Places(sides[0], self.symbol_of_id[masked.ids], sides[1])

    def _buckets(self, places: _Places, left_out: int) -> npt.NDArray[np.int64]:
        """(N,): 0 both neighbours hidden, 1 the right, 2 the left; else 3 + log2 of how often both were seen."""
        seen_left, seen_right = places.left >= 0, places.right >= 0
        seen = np.maximum(self.around[places.left, places.right] - left_out, 0)
        buckets: npt.NDArray[np.int64] = np.where(
            seen_left & seen_right, 3 + np.log2(seen + 1).astype(np.int64), seen_left + 2 * seen_right
        )
        return buckets

    def _parts(self, places: _Places, masked: Masked, left_out: int) -> Floats:
        """(N, 6): the probability of each masked character by each part; 0 where its neighbour is hidden."""
        left, symbol, right = places
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
        """(S, S): for each pair of neighbours, what the product of both bigrams over the unigram adds up to."""
        following = self.after / np.maximum(1, self.after.sum(axis=1, keepdims=True))
        preceding = self.before / np.maximum(1, self.before.sum(axis=0, keepdims=True))
        inverse = np.where(self.single > 0, self.single.sum() / np.maximum(1, self.single), 0)
        # No BLAS: its number of threads would be one more thing that decides the last bits.
        product: Floats = np.einsum("lc,cr->lr", following * inverse, preceding)
        return product


def train_runs(windows: Windows) -> Iterable[npt.NDArray[np.uint16]]:
    """All ids that `windows` reads, in runs of bounded length."""
    for start, end in zip(windows.starts.tolist(), windows.ends.tolist(), strict=True):
        for first in range(start, end, _CHUNK):
            yield windows.split.ids[first : min(first + _CHUNK, end)]


def _share(counts: npt.NDArray[np.int64], totals: npt.NDArray[np.int64] | int, left_out: int) -> Floats:
    shares: Floats = np.maximum(counts - left_out, 0) / np.maximum(np.asarray(totals) - left_out, 1)
    return shares
