"""Text generation: samples one character at a time from a language model.

>>> next_probabilities(np.log([0.5, 0.3, 0.2]), Sampling(temperature=1, top_k=2)).round(3).tolist()
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
"""First bytes of UTF-8 with a restricted range of second bytes, (low, high): The Unicode Standard, table 3-7."""


class Sampling(Config):
    """How to sample the next character. Temperature 0 always takes the most likely one; the seed then has no effect."""

    temperature: float = Field(default=0.8, ge=0, le=10, description="values below 1 favor likely characters")
    top_k: int | None = Field(default=None, ge=1, description="sample from the k most likely; null for all")
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="sample from the most likely that together have this probability"
    )
    max_characters: int = Field(default=200, ge=0, description="maximum number of characters, without the prompt")
    seed: int = Field(default=1, description="the same seed generates the same text")


def generate(model: LanguageModel, prompt: str = "", sampling: Sampling | None = None) -> Iterator[str]:
    """Continues a prompt, one character at a time, until the text ends or has `sampling.max_characters`.

    A character that is encoded in bytes is yielded when it is complete. Only valid UTF-8 is generated.

    Args:
        model: the language model.
        prompt: the beginning of the text; by default, a new text is started.
        sampling: how to sample; `Sampling()` by default.

    Raises:
        DataError: the prompt contains a lone surrogate.
    """
    sampling = sampling or Sampling()
    ids, generator = model.ids(prompt), derive(sampling.seed, "generate")
    num_characters, pending = 0, b""
    while num_characters < sampling.max_characters:
        scores = model.scores(ids)
        scores[~allowed_ids(pending, len(scores))] = -np.inf
        next_id = sample(scores, sampling, generator)
        if next_id == END:
            return
        ids.append(next_id)
        if FIRST_BYTE <= next_id < FIRST_CHARACTER:
            pending += bytes([next_id - FIRST_BYTE])
            if len(pending) < utf8_length(pending[0]):
                continue
            character, pending = pending.decode(), b""
        else:
            character = model.preprocessor.decode([next_id])
        num_characters += 1
        yield character


def utf8_length(first: int) -> int:
    """Number of bytes of a character whose UTF-8 begins with the byte `first`.

    >>> [utf8_length("aé—😀".encode()[index]) for index in (0, 1, 3, 6)]
    [1, 2, 3, 4]
    """
    return 1 + (first >= 0xC0) + (first >= 0xE0) + (first >= 0xF0)


def allowed_ids(pending: bytes, num_ids: int) -> npt.NDArray[np.bool_]:
    """(V,) true for the ids that can follow `pending`: the first bytes of an incomplete character, or no bytes."""
    allowed = np.zeros(num_ids, dtype=bool)
    if not pending:
        allowed[FIRST_CHARACTER:] = allowed[END] = True
        ranges = [(0x00, 0x80), (0xC2, 0xF5)]
    else:
        ranges = [_SECOND.get(pending[0], (0x80, 0xC0)) if len(pending) == 1 else (0x80, 0xC0)]
    for low, high in ranges:
        allowed[FIRST_BYTE + low : FIRST_BYTE + high] = True
    return allowed


def next_probabilities(scores: Scores, sampling: Sampling) -> Scores:
    """(V,) the probability of each id, after temperature, top-k and top-p, in this order."""
    if sampling.temperature == 0:
        best: Scores = np.where(np.arange(len(scores)) == scores.argmax(), 1.0, 0.0)
        return best
    probabilities: Scores = np.exp((scores - scores.max()) / sampling.temperature)
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order]
    if sampling.top_k is not None:
        ranked[sampling.top_k :] = 0
    ranked /= ranked.sum()
    # Keep the most likely id, and each id before which the cumulative probability is below `top_p`.
    ranked[1:][np.cumsum(ranked)[:-1] >= sampling.top_p] = 0
    probabilities = np.zeros_like(probabilities)
    probabilities[order] = ranked / ranked.sum()
    return probabilities


def sample(scores: Scores, sampling: Sampling, generator: np.random.Generator) -> int:
    """Samples an id from unnormalized log-probabilities `scores` (V,)."""
    probabilities = next_probabilities(scores, sampling)
    return int(generator.choice(len(probabilities), p=probabilities))
