"""Choosing which characters to hide: single characters and spans of geometric length.

Only the spans are drawn, not a number per character: the work grows with the number of hidden characters.
"""

import math
from functools import cache, lru_cache
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

    Special ids (padding, END) are never chosen, so the rate refers to characters. A row with characters that got no
    span gets one character, so that no row is wasted.

    Args:
        ids: (B, L), of any integer type.
        rate: above 0, below 1.
        mean_span: in characters, at least 1. Spans may touch, and the end of a row cuts one in two.
        generator: the source of all randomness.

    Returns:
        (N,) int64, increasing: the chosen positions of the flattened ids.

    Source: spans of geometric length, SpanBERT (Joshi et al. 2020, arXiv 1907.10529, section 3.1).
    """
    rows, length = ids.shape
    flat = np.ascontiguousarray(ids).reshape(-1)
    places = _in_spans(flat.size, rate, mean_span, generator)
    places = places[flat[places] >= NUM_SPECIAL]
    edges = np.searchsorted(places, _row_starts(rows, length))
    is_empty = edges[1:] == edges[:-1]
    if not is_empty.any():
        return places
    empty = np.flatnonzero(is_empty).tolist()
    extra = [row * length + generator.choice(found) for row in empty if len(found := _text(ids[row]))]
    return np.sort(np.append(places, extra).astype(np.int64))


def choose_spans(
    ids: npt.NDArray[np.integer[Any]], rate: float, mean_span: float, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """The choice of `choose_places` as a mask (B, L) bool."""
    chosen = np.zeros(ids.shape, dtype=bool)
    chosen.reshape(-1)[choose_places(ids, rate, mean_span, generator)] = True
    return chosen


def mask_spans(ids: Tensor, rate: float, mean_span: float, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Replaces spans of `ids` (B, L) int64 by the mask id.

    Returns:
        The masked ids (B, L), and a bool tensor (B, L) that is true at the characters to predict.
    """
    chosen = choose_spans(ids.numpy(), rate, mean_span, generator)
    return torch.where(torch.from_numpy(chosen), MASK, ids), torch.from_numpy(chosen)


def _text(row: npt.NDArray[np.integer[Any]]) -> Places:
    return np.flatnonzero(row >= NUM_SPECIAL)


def _in_spans(length: int, rate: float, mean_span: float, generator: np.random.Generator) -> Places:
    """Positions below `length` that are in spans: alternating gaps and spans of geometric length; gaps may be 0.

    This is a Markov chain of two states that starts in its stationary distribution: each position is in a span with
    probability `rate`, and spans of length 1 are independent positions.

    Gaps of 3, 4 and spans of 2, 1 give the places 3, 4, 9.
    """
    gap_scale, span_scale = _scales(rate, mean_span)
    parts: list[Places] = []
    reached = 0
    while reached < length:
        expected = (length - reached) * rate / mean_span
        number = int(expected + 4 * math.sqrt(expected)) + 8
        gaps = (generator.standard_exponential(number, dtype=np.float32) * gap_scale).astype(np.int64)
        if not parts:
            gaps[0] = 0 if generator.random() < rate else gaps[0] + 1
        # A position is the sum of all gaps before it, plus the number of span positions before it.
        places = np.cumsum(gaps)
        if span_scale is not None:
            spans = (generator.standard_exponential(number, dtype=np.float32) * span_scale).astype(np.int64)
            spans += 1
            places = np.repeat(places, spans)
        places += np.arange(reached, reached + len(places))
        parts.append(places)
        reached = int(places[-1]) + 1
    chosen = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype=np.int64), *parts])
    return chosen[: np.searchsorted(chosen, length)]


@cache
def _scales(rate: float, mean_span: float) -> tuple[np.float32, np.float32 | None]:
    """Scales that turn exponential draws, rounded down, into lengths of gaps, and of spans minus one (None: all 0)."""
    gap = 1 / math.log1p(rate / (mean_span * (1 - rate)))
    return np.float32(gap), np.float32(-1 / math.log1p(-1 / mean_span)) if mean_span > 1 else None


@lru_cache(maxsize=8)
def _row_starts(rows: int, length: int) -> Places:
    starts = np.arange(rows + 1) * length
    starts.flags.writeable = False
    return starts
