"""Similarities of two texts, from the character n-grams that they share.

A network that pools each text on its own does not see which words both texts share. These features show it.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cclm_core.text.alphabet import FIRST_CHARACTER, NUM_SPECIAL

SIZES = (1, 2, 3, 4, 5)
"""Sizes of the n-grams, in ids."""
NUM_SIMILARITIES = 3 * len(SIZES) + 3
"""S, the number of features."""

_BUCKETS = 1 << 15  # of the inverse document frequencies; n-grams share them
_KEY_BITS = 40  # of the hash of an n-gram; the bits above are the number of the pair
_MULTIPLIER = -7046029254386353131  # 2^64 / golden ratio, odd, as int64 (Knuth 1998, TAOCP 3, 6.4)
_SMALLEST_DEVIATION = 1e-3


class PairSimilarity(nn.Module):
    """Features (N, S) of N pairs, invariant to case and to the order of the two texts.

    ```
    for each size of n-grams    cosine, and the smaller and the larger share of weight that is in the other text too
    for the lengths             relative difference, logarithms of sum and difference
    ```

    The weight of an n-gram is (1 + log of its count) times its inverse document frequency in training. Each feature is
    standardized with its mean and deviation in training.

    Args:
        alphabet: the characters of the vocabulary.

    Source: TF-IDF as in scikit-learn's TfidfVectorizer, with `sublinear_tf`.
    """

    fold: Tensor
    idf: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, alphabet: str) -> None:
        super().__init__()
        self.register_buffer("fold", torch.from_numpy(lower_case(alphabet)), persistent=False)
        self.register_buffer("idf", torch.ones(len(SIZES), _BUCKETS))
        self.register_buffer("mean", torch.zeros(NUM_SIMILARITIES))
        self.register_buffer("deviation", torch.ones(NUM_SIMILARITIES))

    def fit(self, batches: Sequence[Tensor]) -> None:
        """Counts in how many texts each n-gram is, and measures mean and deviation of the features.

        Args:
            batches: ids of the training texts, each (2N, L); see `forward`.
        """
        frequencies = torch.zeros_like(self.idf)
        for ids in batches:
            for row, size in enumerate(SIZES):
                rows, codes = self._ngrams(ids, size)
                distinct = torch.unique((rows << _KEY_BITS) + codes)
                frequencies[row] += torch.bincount(distinct & (_BUCKETS - 1), minlength=_BUCKETS)
        number = sum(map(len, batches))
        self.idf.copy_(torch.log((1 + number) / (1 + frequencies.clamp(max=number))) + 1)
        features = torch.cat([self._features(ids) for ids in batches]).double()
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0, unbiased=False).clamp(min=_SMALLEST_DEVIATION))

    @torch.no_grad()
    def forward(self, ids: Tensor) -> Tensor:
        """The features (N, S) float32 of `ids` (2N, L): all first texts, then all second ones.

        Special ids, such as padding, are ignored.
        """
        return (self._features(ids) - self.mean.float()) / self.deviation.float()

    def _features(self, ids: Tensor) -> Tensor:
        number = len(ids) // 2
        columns: list[Tensor] = []
        for row, size in enumerate(SIZES):
            columns += self._shared(*self._ngrams(ids, size), self.idf[row].float(), number)
        lengths = (ids >= NUM_SPECIAL).sum(1).float().view(2, number)
        total, difference = lengths.sum(0), (lengths[0] - lengths[1]).abs()
        columns += [difference / total.clamp(min=1), torch.log1p(total), torch.log1p(difference)]
        return torch.stack(columns, dim=1)

    def _ngrams(self, ids: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """The row and the hash of each n-gram, (M,) int64 each. Special ids are in none."""
        if ids.shape[1] < size:
            return ids.new_zeros(0), ids.new_zeros(0)
        folded, keep = self.fold[ids], ids >= NUM_SPECIAL
        codes, inside = torch.zeros_like(ids[:, size - 1 :]), torch.ones_like(keep[:, size - 1 :])
        for offset in range(size):
            stop = ids.shape[1] - size + 1 + offset
            codes = (codes + folded[:, offset:stop] + 1) * _MULTIPLIER
            inside = inside & keep[:, offset:stop]
        rows = torch.arange(len(ids), device=ids.device)[:, None].expand_as(codes)
        return rows[inside], (codes[inside] >> 20) & ((1 << _KEY_BITS) - 1)

    def _shared(self, rows: Tensor, codes: Tensor, idf: Tensor, number: int) -> list[Tensor]:
        """Cosine, smaller and larger share, (N,) each, from the n-grams of one size."""
        keys, counts = torch.unique((rows << _KEY_BITS) + codes, return_counts=True)
        weights = (1 + torch.log(counts.float())) * idf[keys & (_BUCKETS - 1)]
        owners = keys >> _KEY_BITS
        sums = weights.new_zeros(2 * number).index_add(0, owners, weights).view(2, number)
        squares = weights.new_zeros(2 * number).index_add(0, owners, weights**2).view(2, number)
        is_first = owners < number
        first, second = keys[is_first], keys[~is_first] - (number << _KEY_BITS)
        if not len(first) or not len(second):
            return [sums.new_zeros(number)] * 3
        at = torch.searchsorted(second, first).clamp(max=len(second) - 1)
        both = second[at] == first
        pair, ours, theirs = owners[is_first][both], weights[is_first][both], weights[~is_first][at][both]
        products = sums.new_zeros(number).index_add(0, pair, ours * theirs)
        smaller = sums.new_zeros(number).index_add(0, pair, torch.minimum(ours, theirs))
        cosine = products / (squares[0] * squares[1]).sqrt().clamp(min=1e-9)
        return [cosine, smaller / sums.amax(0).clamp(min=1e-9), smaller / sums.amin(0).clamp(min=1e-9)]


def lower_case(alphabet: str) -> npt.NDArray[np.int64]:
    """(V,) int64: the id of each character in lower case, if that is one character of the alphabet."""
    fold, known = np.arange(FIRST_CHARACTER + len(alphabet)), {each: number for number, each in enumerate(alphabet)}
    for character, number in known.items():
        fold[FIRST_CHARACTER + number] = FIRST_CHARACTER + known.get(character.lower(), number)
    return fold
