"""Choosing which characters to hide: single characters and spans of geometric length.

Only the spans are drawn, not a number for every character: the work grows with what is hidden.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cclm_core.text.vocabulary import MASK, NUM_SPECIAL

Places = npt.NDArray[np.int64]


def choose_places(
    ids: npt.NDArray[np.integer[Any]], rate: float, mean_span: float, generator: np.random.Generator
) -> Places:
    """Chooses about `rate` of the characters of `ids` (B, L), in spans of geometric length with mean `mean_span`.

    Special ids (padding, end marks) are never chosen, so the share is of the characters alone. A row that has
    characters but drew no span gets one character, so that no row is wasted.

    Args:
        ids: (B, L), of any integer type.
        rate: above 0, below 1.
        mean_span: in characters, at least 1; overlaps and the ends of rows shorten spans.
        generator: where all randomness comes from.

    Returns:
        (N,) int64, rising: the chosen places of the flattened ids.

    Source: spans of geometric length, SpanBERT (Joshi et al. 2020, arXiv 1907.10529, section 3.1).
    """
    rows, length = ids.shape
    flat = np.ascontiguousarray(ids).reshape(-1)
    starts = _starts(_start_rate(rate, mean_span), flat.size, generator)
    places = starts if mean_span == 1 else _covered(starts, mean_span, length, generator)
    places = places[flat[places] >= NUM_SPECIAL]
    edges = np.searchsorted(places, np.arange(rows + 1) * length)
    empty = np.flatnonzero(edges[1:] == edges[:-1])
    extra = [row * length + generator.choice(found) for row in empty.tolist() if len(found := _text(ids[row]))]
    return np.sort(np.append(places, extra).astype(np.int64)) if extra else places


def choose_spans(
    ids: npt.NDArray[np.integer[Any]], rate: float, mean_span: float, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """The same choice as `choose_places` makes, as a mask (B, L)."""
    chosen = np.zeros(ids.shape, dtype=bool)
    chosen.reshape(-1)[choose_places(ids, rate, mean_span, generator)] = True
    return chosen


def mask_spans(ids: Tensor, rate: float, mean_span: float, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Hides spans of `ids` (B, L) int64 behind the mask id.

    Returns:
        The masked ids (B, L), and a bool tensor (B, L) that is true at the characters to predict.
    """
    chosen = choose_spans(ids.numpy(), rate, mean_span, generator)
    return torch.where(torch.from_numpy(chosen), MASK, ids), torch.from_numpy(chosen)


def _text(row: npt.NDArray[np.integer[Any]]) -> Places:
    return np.flatnonzero(row >= NUM_SPECIAL)


def _starts(rate: float, length: int, generator: np.random.Generator) -> Places:
    """Each index below `length` with probability `rate`, by drawing the gaps between them."""
    scale, found, last = -1 / np.log1p(-rate), [np.empty(0, dtype=np.int64)], -1
    while last < length - 1:
        expected = (length - last) * rate
        gaps = generator.standard_exponential(int(expected + 4 * np.sqrt(expected)) + 8)
        gaps *= scale
        found.append(np.cumsum(gaps.astype(np.int64) + 1) + last)
        last = int(found[-1][-1])
    places = found[1] if len(found) == 2 else np.concatenate(found)
    return places[: np.searchsorted(places, length)]


def _covered(starts: Places, mean_span: float, length: int, generator: np.random.Generator) -> Places:
    """The places that spans from `starts` cover, each once; a span ends with its row of `length` places at the latest.

    Spans of [3, 4, 9] with lengths [3, 1, 2] in rows of 10 cover [3, 4, 5, 9].
    """
    drawn = generator.standard_exponential(len(starts)) * (-1 / np.log1p(-1 / mean_span))
    ends = np.minimum(starts + drawn.astype(np.int64) + 1, (starts // length + 1) * length)
    # A span stops where the next one begins, so what a longer one covers behind that is added to the next.
    reach = np.maximum.accumulate(ends)
    sizes = np.minimum(reach, np.append(starts[1:], reach[-1:])) - starts
    before = np.cumsum(sizes) - sizes
    return np.repeat(starts - before, sizes) + np.arange(int(sizes.sum()))


@cache
def _start_rate(rate: float, mean_span: float) -> float:
    """The chance of a span to start at a place, such that spans cover `rate` of all places, overlaps counted once.

    A place stays free when no span that starts `back` places before it is longer than that:
    1 - rate = prod over back of (1 - start * (1 - 1 / mean_span) ** back), solved by bisection.
    """
    longer = (1 - 1 / mean_span) ** np.arange(int(60 * mean_span))
    low, high = 0.0, rate
    for _ in range(60):
        middle = (low + high) / 2
        if -np.log1p(-middle * longer).sum() < -np.log1p(-rate):
            low = middle
        else:
            high = middle
    return (low + high) / 2
