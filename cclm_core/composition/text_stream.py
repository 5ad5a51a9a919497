"""Embeds a stream of texts, in memory bounded by a group of them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from cclm_core.composition.long_texts import TextReader, Window
from cclm_core.composition.spans import SpanGetter, span_getter, windows_of
from cclm_core.encoders.embedder import Base
from cclm_core.runtime.errors import ConfigError


def embedded(
    texts: Iterator[str], model: Base, window: int, batch_characters: int, group_size: int | None, spans: Any
) -> Iterator[npt.NDArray[np.float32]]:
    """Yields the features (L, W) of each text, one row per id.

    Args:
        texts: the strings.
        model: reads them.
        window: maximum ids per window, at least 2.
        batch_characters: ids per forward pass, including padding, at least 1.
        group_size: ids after which a group of texts is read; None for one group.
        spans: a span getter instead of `window`, if any.

    Raises:
        ConfigError: `window` or `batch_characters` is too small, or a wrong span getter.
    """
    if window < 2:
        raise ConfigError(f"`window` must be at least 2, got {window}: windows overlap by half.")
    reader = TextReader(model, window=window, batch_characters=batch_characters, causal=model.causal)
    return _read(texts, model, reader, group_size, span_getter(spans))


def _read(
    texts: Iterator[str], model: Base, reader: TextReader, group_size: int | None, getter: SpanGetter | None
) -> Iterator[npt.NDArray[np.float32]]:
    preprocessor, width = model.preprocessor, model.width
    group: list[npt.NDArray[np.integer]] = []
    windows: list[list[Window]] | None = None if getter is None else []
    for text in texts:
        if getter is not None and windows is not None:
            windows.append(windows_of(getter, text, preprocessor.offsets(text), len(group)))
        group.append(preprocessor.encode(text))
        if group_size is not None and sum(map(len, group)) >= group_size:
            yield from (features.numpy() for features in reader.whole(group, width, windows))
            group, windows = [], None if getter is None else []
    yield from (features.numpy() for features in reader.whole(group, width, windows))
