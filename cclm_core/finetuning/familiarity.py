"""How usual a text looks, next to the training texts: an estimate of its typing noise that needs no model.

Texts are read in lower case, because capital letters are no typing errors. The n-grams of the training texts are
counted in a hash table of fixed size.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from cclm_core.encoders.weights import read_weights, save_weights
from cclm_core.finetuning.any_model import Floats

FILE = "familiarity.safetensors"
NUM_MEASURES = 2
_BUCKETS = 1 << 18
_LONGEST = 4  # characters of the longest n-gram; the share of unknown ones is that of this size
_BACKOFF = 0.4  # Brants et al. 2007, "Large Language Models in Machine Translation" (stupid backoff)
_FACTORS = [np.uint64(pow(0x9E3779B97F4A7C15, power, 1 << 64)) for power in range(1, _LONGEST + 1)]

Codes = npt.NDArray[np.uint64]


class Familiarity:
    """Counts of the character n-grams of texts, of 1 to 4 characters.

    Args:
        counts: (262144,) float32, the count of each hashed n-gram.
    """

    def __init__(self, counts: npt.NDArray[np.float32]) -> None:
        self._counts = counts

    @classmethod
    def fit(cls, texts: Sequence[str]) -> "Familiarity":
        """Counts the n-grams of texts."""
        hashes = [codes for text in texts for codes in _hashes(text)]
        every = np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)
        return cls(np.bincount((every % _BUCKETS).astype(np.int64), minlength=_BUCKETS).astype(np.float32))

    def measures(self, texts: Sequence[str]) -> Floats:
        """For each text the share of unknown n-grams, 0 to 1, and bits per character, (N, 2).

        The bits are those of the counts as a language model with backoff: they are no probabilities that sum to 1, but
        grow with the number of unusual characters.
        """
        return np.array([self._measures(text) for text in texts], dtype=np.float64).reshape(-1, NUM_MEASURES)

    def save(self, folder: Path) -> None:
        """Writes the counts."""
        save_weights({"counts": torch.from_numpy(self._counts)}, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> "Familiarity":
        """Reads what `save` wrote.

        Raises:
            ArtifactError: the file is missing or damaged.
        """
        expected = {"counts": torch.empty(_BUCKETS, device="meta")}
        return cls(read_weights(folder / FILE, expected, "the counted n-grams")["counts"].numpy())

    def _measures(self, text: str) -> tuple[float, float]:
        if not text.strip():
            return 0.0, 0.0
        counts = [self._counts[(codes % _BUCKETS).astype(np.int64)] for codes in _hashes(text)]
        unknown = float((counts[-1] == 0).mean())
        probability = np.full(len(counts[0]), 1 / _BUCKETS)
        for size, own in enumerate(counts):
            # The context of the n-gram that ends at a character is the shorter n-gram that ends one character earlier.
            context = self._total if size == 0 else np.concatenate([[0.0], counts[size - 1][:-1]])
            seen = (own > 0) & (np.asarray(context) > 0)
            ratio = np.divide(own, context, out=np.zeros_like(probability), where=seen)
            probability = np.where(seen, ratio, _BACKOFF * probability)
        return unknown, float(-np.log2(probability).mean())

    @property
    def _total(self) -> float:
        return max(1.0, float(self._counts.sum()) / _LONGEST)


def _hashes(text: str) -> list[Codes]:
    """For each size from 1 to 4, the hash of the n-gram that ends at each character, (L,) uint64.

    A text begins after a space, so that n-grams at its start are like those at the start of a word.
    """
    padded = " " * (_LONGEST - 1) + " ".join(text.lower().split()) + " "
    codes = np.frombuffer(padded.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    length = len(codes) - (_LONGEST - 1)
    hashes, state = [], np.zeros(length, dtype=np.uint64)
    for size in range(_LONGEST):
        start = _LONGEST - 1 - size
        state = state + (codes[start : start + length] + np.uint64(1)) * _FACTORS[size]
        hashes.append(_mixed(state + np.uint64(size)))
    return hashes


def _mixed(state: Codes) -> Codes:
    """Spreads hashes over all bits (the finalizer of splitmix64)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
