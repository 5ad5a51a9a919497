"""Generating text: characters are sampled one by one from the predictions of a language model.

>>> sharpened(np.log([0.5, 0.3, 0.2]), Sampling(temperature=1, top_k=2)).round(3).tolist()
[0.625, 0.375, 0.0]
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cclm_core.applications.language_model import LanguageModel, Scores
from cclm_core.runtime.config import Config
from cclm_core.runtime.random import derive
from cclm_core.text.vocabulary import END, FIRST_BYTE, FIRST_CHARACTER

_SECOND = {0xE0: (0xA0, 0xC0), 0xED: (0x80, 0xA0), 0xF0: (0x90, 0xC0), 0xF4: (0x80, 0x90)}
"""First bytes of UTF-8 whose second byte has a range of its own (the Unicode Standard, table 3-7)."""


class Sampling(Config):
    """How the next character is sampled. With temperature 0 it is the most likely one, and the seed has no effect."""

    temperature: float = Field(default=0.8, ge=0, le=10, description="values below 1 favor likely characters")
    top_k: int | None = Field(default=None, ge=1, description="sample from the k most likely; null for all")
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="sample from the most likely that together have this probability"
    )
    max_characters: int = Field(default=200, ge=0, description="maximum number of characters, without the prompt")
    seed: int = Field(default=1, description="the same seed generates the same text")


def write(model: LanguageModel, prompt: str = "", sampling: Sampling | None = None) -> Iterator[str]:
    """Continues `prompt`, one whole character at a time, until the text ends or is long enough.

    Without a prompt it starts a text. A character that is spelled in bytes is yielded when it is complete: only bytes
    that continue valid UTF-8 are sampled.

    Raises:
        DataError: the prompt contains a lone surrogate.
    """
    sampling = sampling or Sampling()
    ids, generator = model.ids(prompt), derive(sampling.seed, "generate")
    written, begun = 0, b""
    while written < sampling.max_characters:
        scores = model.scores(ids)
        scores[~allowed(begun, len(scores))] = -np.inf
        drawn = draw(scores, sampling, generator)
        if drawn == END:
            return
        ids.append(drawn)
        if FIRST_BYTE <= drawn < FIRST_CHARACTER:
            begun += bytes([drawn - FIRST_BYTE])
            if len(begun) < size_of(begun[0]):
                continue
            character, begun = begun.decode(), b""
        else:
            character = model.preprocessor.decode([drawn])
        written += 1
        yield character


def size_of(first: int) -> int:
    """Number of bytes of a character whose UTF-8 begins with `first`.

    >>> [size_of("aé—😀".encode()[place]) for place in (0, 1, 3, 6)]
    [1, 2, 3, 4]
    """
    return 1 + (first >= 0xC0) + (first >= 0xE0) + (first >= 0xF0)


def allowed(begun: bytes, num_ids: int) -> npt.NDArray[np.bool_]:
    """Which ids (V,) may come next after `begun`, the first bytes of a character, or no bytes."""
    may = np.zeros(num_ids, dtype=bool)
    if not begun:
        may[FIRST_CHARACTER:] = may[END] = True
        ranges = [(0x00, 0x80), (0xC2, 0xF5)]
    else:
        ranges = [_SECOND.get(begun[0], (0x80, 0xC0)) if len(begun) == 1 else (0x80, 0xC0)]
    for low, high in ranges:
        may[FIRST_BYTE + low : FIRST_BYTE + high] = True
    return may


def sharpened(scores: Scores, sampling: Sampling) -> Scores:
    """The probabilities (V,) of each id, after temperature, top-k and top-p, in this order."""
    if sampling.temperature == 0:
        best: Scores = np.where(np.arange(len(scores)) == scores.argmax(), 1.0, 0.0)
        return best
    chances: Scores = np.exp((scores - scores.max()) / sampling.temperature)
    order = np.argsort(-chances, kind="stable")
    ranked = chances[order]
    if sampling.top_k is not None:
        ranked[sampling.top_k :] = 0
    ranked /= ranked.sum()
    # The most likely is always kept; another one only if those before it have less than `top_p`.
    ranked[1:][np.cumsum(ranked)[:-1] >= sampling.top_p] = 0
    chances = np.zeros_like(chances)
    chances[order] = ranked / ranked.sum()
    return chances


def draw(scores: Scores, sampling: Sampling, generator: np.random.Generator) -> int:
    """Samples an id."""
    chances = sharpened(scores, sampling)
    return int(generator.choice(len(chances), p=chances))
