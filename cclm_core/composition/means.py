"""Mean vectors of texts of any length, as a stream."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from cclm_core.composition.long_texts import WINDOW, TextReader, Window
from cclm_core.encoders.embedder import Base
from cclm_core.text.texts import strings

Vectors = npt.NDArray[np.float32]

_POOL_IDS = 1 << 20  # read ahead, and batched by length, so that batches have little padding
_POOL_TEXTS = 8192
_BATCH_IDS = 16384


class MeanEmbedder:
    """Embeds each text as the mean of the features of its characters.

    Texts are read ahead up to a million ids and sorted by length, so that a batch has little padding. Only the sums are
    kept, so memory does not grow with the number or the length of the texts. The vector of a text does not depend on
    the other texts, apart from the last digits.

    Args:
        encoder: an embedder or a composition.
        window: ids per window; longer texts are read in windows that overlap by half; see `TextReader`.
        batch_ids: ids per forward pass, including padding.
    """

    def __init__(self, encoder: Base, *, window: int = WINDOW, batch_ids: int = _BATCH_IDS) -> None:
        self._encoder = encoder.eval()
        self._reader = _FewShapes(encoder, window=window, batch_characters=batch_ids, causal=encoder.causal)

    @property
    def width(self) -> int:
        """W, the numbers in a vector."""
        return self._encoder.width

    def embed(self, texts: Sequence[str]) -> Vectors:
        """The vectors (N, W) of N texts; zeros for an empty text.

        Raises:
            DataError: a text is not a string, or has a lone surrogate.
        """
        return self._means([self._encoder.preprocessor.encode(text) for text in strings(texts)])

    def stream(self, texts: Iterable[str]) -> Iterator[Vectors]:
        """Yields the vector (W,) of each text, in order. `texts` can be a generator.

        Raises:
            DataError: see `embed`.
        """
        pool: list[npt.NDArray[np.integer]] = []
        num_ids = 0
        for text in strings(texts):
            pool.append(self._encoder.preprocessor.encode(text))
            num_ids += len(pool[-1])
            if num_ids >= _POOL_IDS or len(pool) == _POOL_TEXTS:
                yield from self._means(pool)
                pool, num_ids = [], 0
        yield from self._means(pool)

    def _means(self, encoded: Sequence[npt.NDArray[np.integer]]) -> Vectors:
        sums = np.zeros((len(encoded), self.width))  # float64: a text may have millions of characters
        for text, _, features in self._reader.pieces(encoded):
            sums[text] += features.sum(0).numpy()
        lengths = np.maximum(1, [len(ids) for ids in encoded]).reshape(-1, 1)
        means: Vectors = (sums / lengths).astype(np.float32)
        return means


class _FewShapes(TextReader):
    """A `TextReader` whose batches have few different shapes.

    For every new shape, the library for matrix products keeps a program in memory: texts of a thousand different
    lengths took 1.1 GiB.
    """

    def read(self, ids: npt.NDArray[np.int64]) -> Tensor:
        """See `TextReader.read`; `ids` (B, L) are padded to `_rounded(L)`."""
        length = ids.shape[1]
        padded = np.zeros((len(ids), _rounded(length)), dtype=np.int64)
        padded[:, :length] = ids
        return super().read(padded)[:, :length]

    def _batches(self, windows: Sequence[Window]) -> Iterator[Sequence[Window]]:
        start = 0
        while start < len(windows):
            stop = start + max(1, self.batch_characters // _rounded(windows[start].size))
            yield windows[start:stop]
            start = stop


def _rounded(size: int) -> int:
    """The next of 8 lengths between two powers of two; a multiple of 16.

    >>> _rounded(5), _rounded(100), _rounded(1030), _rounded(2048)
    (16, 112, 1152, 2048)
    """
    step = max(16, 1 << max(0, (size - 1).bit_length() - 4))
    return -(-size // step) * step
