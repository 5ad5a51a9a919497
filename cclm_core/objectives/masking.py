"""Choosing which characters to hide: single characters and spans of geometric length."""

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cclm_core.text.vocabulary import MASK, NUM_SPECIAL


def choose_spans(
    ids: npt.NDArray[np.int64], rate: float, mean_span: float, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Marks about `rate` of the characters of `ids` (B, L), in spans of geometric length with mean `mean_span`.

    Special ids (padding, end marks) are never marked, so the share is of the characters alone. A row that has
    characters but drew no span gets one character, so that no row is wasted.

    Source: spans of geometric length, SpanBERT (Joshi et al. 2020, arXiv 1907.10529, section 3.1).
    """
    rows, length = ids.shape
    eligible = ids >= NUM_SPECIAL
    start_rate = _start_rate(rate, mean_span)
    starts = generator.random((rows, length)) < start_rate
    spans = np.where(starts, generator.geometric(1 / mean_span, size=(rows, length)), 0)
    reach = np.maximum.accumulate(np.where(starts, np.arange(length) + spans, 0), axis=1)
    chosen = (np.arange(length) < reach) & eligible
    chances = np.where(eligible, generator.random((rows, length)), -1.0)
    fallback = np.argmax(chances, axis=1) if length else np.zeros(rows, dtype=np.int64)
    empty = np.flatnonzero(~chosen.any(axis=1) & eligible.any(axis=1))
    chosen[empty, fallback[empty]] = True
    return chosen


def mask_spans(ids: Tensor, rate: float, mean_span: float, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Hides spans of `ids` (B, L) int64 behind the mask id.

    Returns:
        The masked ids (B, L), and a bool tensor (B, L) that is true at the characters to predict.
    """
    chosen = torch.from_numpy(choose_spans(ids.numpy(), rate, mean_span, generator))
    return torch.where(chosen, MASK, ids), chosen


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
