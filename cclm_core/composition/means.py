"""Mean vectors of texts of any length, as a stream."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.long_texts import WINDOW, TextReader, Window, rounded, split
from cclm_core.encoders.embedder import Base
from cclm_core.text.texts import strings

Vectors = npt.NDArray[np.float32]

_POOL_IDS = 1 << 20  # read ahead, and batched by length, so that batches have little padding
_POOL_TEXTS = 8192
_BATCH_IDS = 16384
_CONTEXT_IDS = 256  # per piece of a text that is encoded as a context, as in the default training


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
        self._reader = TextReader(encoder, window=window, batch_characters=batch_ids, causal=encoder.causal)

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

    @property
    def context_width(self) -> int:
        """Numbers in a vector of `embed_contexts`; 0 if no part reads contexts."""
        if not isinstance(self._encoder, ComposedModel):
            return 0
        return sum(part.width for part, _ in self._encoder.context_parts.values())

    def embed_contexts(self, texts: Sequence[str]) -> Vectors:
        """The encodings (N, `context_width`) of N texts as contexts, those of all parts that read contexts.

        A longer text is the mean of its pieces of 256 ids. The mean over the texts of an author encodes the author.
        """
        assert isinstance(self._encoder, ComposedModel)
        encoded = [self._encoder.preprocessor.encode(text) for text in strings(texts)]
        counts = np.array([-(-len(ids) // _CONTEXT_IDS) for ids in encoded], dtype=np.int64)
        pieces = np.zeros((counts.sum(), _CONTEXT_IDS), dtype=np.int64)
        for first, count, ids in zip(np.cumsum(counts) - counts, counts, encoded, strict=True):
            pieces[first : first + count].reshape(-1)[: len(ids)] = ids
        vectors = np.zeros((len(encoded), self.context_width))
        owners, step = np.repeat(np.arange(len(encoded)), counts), max(1, self._reader.batch_characters // _CONTEXT_IDS)
        for start in range(0, len(pieces), step):
            with torch.inference_mode():
                parts = self._encoder.encode_contexts(pieces[start : start + step]).values()
            encodings = torch.cat(list(parts), dim=1).double().cpu().numpy()
            np.add.at(vectors, owners[start : start + step], encodings)
        return (vectors / np.maximum(counts, 1)[:, None]).astype(np.float32)

    def _means(self, encoded: Sequence[npt.NDArray[np.integer]]) -> Vectors:
        sums = np.zeros((len(encoded), self.width))  # float64: a text may have millions of characters
        weights = [self._weights(len(ids)) for ids in encoded]
        windows = [window for index, ids in enumerate(encoded) for window in self._split(len(ids), index)]
        windows.sort(key=lambda window: -window.size)
        start = 0
        while start < len(windows):
            # Few different shapes: each new one took 7 MiB.
            length = rounded(windows[start].size, sizes=4, multiple=16)
            num_rows = max(1, self._reader.batch_characters // length)
            batch = windows[start : start + num_rows]
            start += len(batch)
            num_rows = min(num_rows, 1 << (len(batch) - 1).bit_length())
            ids = np.zeros((num_rows, length), dtype=np.int64)
            weight = np.zeros((num_rows, 1, length), dtype=np.float32)
            for row, window in enumerate(batch):
                ids[row, : window.size] = encoded[window.text][window.start : window.stop]
                weight[row, 0, : window.size] = weights[window.text][window.start : window.stop]
                if self._encoder.causal:
                    weight[row, 0, : window.first - window.start] = 0
            means = torch.bmm(torch.from_numpy(weight), self._reader.read(ids))
            np.add.at(sums, [window.text for window in batch], means[: len(batch), 0].numpy())
        return sums.astype(np.float32)

    def _split(self, length: int, text: int) -> list[Window]:
        return split(length, self._reader.window, self._reader.overlap, text)

    def _weights(self, length: int) -> npt.NDArray[np.float32]:
        """The weight (L,) of each id in each window that contains it: the mean over the windows, then over the ids."""
        coverage = np.zeros(length, dtype=np.float32)
        for window in self._split(length, 0):
            coverage[window.start : window.stop] += 1
        if self._encoder.causal:  # only the earliest window counts
            coverage[:] = 1
        weights: npt.NDArray[np.float32] = (1 / (coverage * max(1, length))).astype(np.float32)
        return weights
