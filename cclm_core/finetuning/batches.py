"""Batches of labeled texts, computed by index arithmetic: batch k is a function of the seed and k."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cclm_core.labeled.examples import LabeledText
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.random import derive

_POOL = 16  # batches whose texts are sorted by length, so that a batch has little padding


class TextBatch(NamedTuple):
    """Labeled texts."""

    texts: tuple[LabeledText, ...]

    @property
    def num_rows(self) -> int:
        """B, the number of texts or pairs."""
        return len(self.texts)

    def rows(self, start: int, stop: int) -> "TextBatch":
        """The texts from `start` to `stop`, `stop` excluded."""
        return TextBatch(self.texts[start:stop])


class LabeledTexts:
    """The texts of one split in batches: every text once per epoch, in a new order each epoch.

    Texts of similar length share a batch. The last batch of an epoch can be smaller.

    Raises:
        DataError: there are no texts.
    """

    def __init__(self, texts: Sequence[LabeledText], split: str = "train") -> None:
        if not texts:
            raise DataError(f"the {split} split has no texts. Check the files and the shares of the labeled set.")
        self.texts = tuple(texts)
        self._lengths = np.array([len(text.text) + len(text.second or "") for text in texts])
        self._epoch: tuple[tuple[int, int, int], list[list[int]]] | None = None

    def batches_per_epoch(self, batch_size: int) -> int:
        """The number of batches in an epoch."""
        return -(-len(self.texts) // batch_size)

    def batch(self, number: int, batch_size: int, seed: int) -> TextBatch:
        """Batch `number` (from 0) of a training with `batch_size` texts per batch."""
        epoch, within = divmod(number, self.batches_per_epoch(batch_size))
        key = (epoch, batch_size, seed)
        cached = self._epoch
        if cached is None or cached[0] != key:
            # Replace the tuple and never modify it: several threads draw batches.
            self._epoch = cached = (key, self._batches(*key))
        return TextBatch(tuple(self.texts[index] for index in cached[1][within]))

    def fixed(self, num_windows: int, seed: int) -> TextBatch:
        """A random sample of `num_windows` texts, or all if there are fewer."""
        order = derive(seed, "fixed").permutation(len(self.texts))[:num_windows]
        return TextBatch(tuple(self.texts[index] for index in sorted(order.tolist())))

    def _batches(self, epoch: int, batch_size: int, seed: int) -> list[list[int]]:
        generator = derive(seed, "texts", epoch)
        order = generator.permutation(len(self.texts))
        batches: list[list[int]] = []
        for first in range(0, len(order), _POOL * batch_size):
            pool = order[first : first + _POOL * batch_size]
            pool = pool[np.argsort(self._lengths[pool], kind="stable")]
            batches += [pool[start : start + batch_size].tolist() for start in range(0, len(pool), batch_size)]
        shuffled = generator.permutation(len(batches))
        return [batches[number] for number in shuffled]
