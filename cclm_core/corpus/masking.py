"""Selects the characters to mask: single characters, or spans of geometric length.

The cost grows with the number of masked characters, because random numbers are drawn per span and not per character.
"""

import math
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cclm_core.text.vocabulary import MASK, NUM_SPECIAL

Positions = npt.NDArray[np.int64]


def choose_positions(
    ids: npt.NDArray[np.integer[Any]], rate: float, mean_span: float, generator: np.random.Generator
) -> Positions:
    """Selects about `rate` of the characters of `ids` (B, L), in spans of geometric length with mean `mean_span`.

    Special ids (padding, END) are never selected, so the rate refers to characters. A row without a span gets a single
    random character, so that every row with text is used.

    Args:
        ids: (B, L), any integer type.
        rate: between 0 and 1, both excluded.
        mean_span: in characters, at least 1. Spans can touch, and a row can end within a span.
        generator: source of randomness.

    Returns:
        (N,) int64, increasing: the selected positions in the flattened ids.

    Source: SpanBERT (Joshi et al. 2020, arXiv 1907.10529, section 3.1), spans of geometric length.
    """
    rows, length = ids.shape
    flat = np.ascontiguousarray(ids).reshape(-1)
    positions = _in_spans(flat.size, rate, mean_span, generator)
    positions = positions[flat[positions] >= NUM_SPECIAL]
    edges = np.searchsorted(positions, _row_starts(rows, length))
    is_empty = edges[1:] == edges[:-1]
    if not is_empty.any():
        return positions
    empty = np.flatnonzero(is_empty).tolist()
    extra = [row * length + generator.choice(columns) for row in empty if len(columns := _text(ids[row]))]
    return np.sort(np.append(positions, extra).astype(np.int64))


def choose_spans(
    ids: npt.NDArray[np.integer[Any]], rate: float, mean_span: float, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """The selection of `choose_positions` as a mask, (B, L) bool."""
    mask = np.zeros(ids.shape, dtype=bool)
    mask.reshape(-1)[choose_positions(ids, rate, mean_span, generator)] = True
    return mask


def mask_spans(ids: Tensor, rate: float, mean_span: float, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Replaces spans of `ids` (B, L) int64 by the mask id; see `choose_positions` for the arguments.

    Returns:
        The masked ids (B, L) int64, and the mask (B, L) bool: true at the characters to predict.
    """
    mask = torch.from_numpy(choose_spans(ids.numpy(), rate, mean_span, generator))
    return torch.where(mask, MASK, ids), mask


def _text(row: npt.NDArray[np.integer[Any]]) -> Positions:
    return np.flatnonzero(row >= NUM_SPECIAL)


def _in_spans(length: int, rate: float, mean_span: float, generator: np.random.Generator) -> Positions:
    """The positions below `length` that are in spans. Gaps, possibly empty, and spans alternate; both are geometric.

    This is a Markov chain with two states that starts in its stationary distribution: every position is in a span with
    probability `rate`. With a mean span of 1, positions are independent.

    Example: gaps of 3 and 4 and spans of 2 and 1 give the positions 3, 4, 9.
    """
    gap_scale, span_scale = _scales(rate, mean_span)
    parts: list[Positions] = []
    end = 0
    while end < length:
        expected = (length - end) * rate / mean_span
        number = int(expected + 4 * math.sqrt(expected)) + 8
        gaps = (generator.standard_exponential(number, dtype=np.float32) * gap_scale).astype(np.int64)
        if not parts:
            gaps[0] = 0 if generator.random() < rate else gaps[0] + 1
        # A position is the sum of all gaps before it plus the number of span positions before it.
        positions = np.cumsum(gaps)
        if span_scale is not None:
            spans = (generator.standard_exponential(number, dtype=np.float32) * span_scale).astype(np.int64)
            spans += 1
            positions = np.repeat(positions, spans)
        positions += np.arange(end, end + len(positions))
        parts.append(positions)
        end = int(positions[-1]) + 1
    selected = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype=np.int64), *parts])
    return selected[: np.searchsorted(selected, length)]


@cache
def _scales(rate: float, mean_span: float) -> tuple[np.float32, np.float32 | None]:
    """Scales from exponential draws, rounded down, to lengths of gaps and to lengths of spans - 1 (None: always 0)."""
    gap = 1 / math.log1p(rate / (mean_span * (1 - rate)))
    return np.float32(gap), np.float32(-1 / math.log1p(-1 / mean_span)) if mean_span > 1 else None


@lru_cache(maxsize=8)
def _row_starts(rows: int, length: int) -> Positions:
    starts = np.arange(rows + 1) * length
    starts.flags.writeable = False
    return starts
