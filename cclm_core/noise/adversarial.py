"""The worst case: the one or two edits of a text that lower a score most.

Source: Pruthi, Dhingra and Lipton 2019, "Combating adversarial misspellings with robust word recognition"
(arXiv 1905.11268): one edit of inner letters took BERT from 90.3 to 45.8 % on SST.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.text import TextNoiser
from cclm_core.runtime.errors import ConfigError, DataError

Scorer = Callable[[Sequence[str]], Sequence[float]]
"""Returns the scores of texts, e.g. the probability of the correct label; an attack minimizes the score."""


class Attacked(NamedTuple):
    """The result of an attack.

    Attributes:
        text: the text with the lowest score; the original text if no edit lowers the score.
        score: its score.
        num_edits: the number of edits in it, at most `max_edits`.
        num_scored: the number of texts that were scored.
    """

    text: str
    score: float
    num_edits: int
    num_scored: int


def attack(
    text: str,
    scorer: Scorer,
    noise: NoiseRecipe | TextNoiser,
    max_edits: int = 1,
    max_candidates: int = 10_000,
    protected: Sequence[tuple[int, int]] = (),
    seed: int = 0,
    batch_size: int = 256,
) -> Attacked:
    """Searches greedily for the edits that lower a score most: the worst single edit, then the worst next one.

    Args:
        text: the text to attack.
        scorer: the score to lower; called with up to `batch_size` texts at once.
        noise: a recipe, whose kinds and protections define the possible edits (its rate is not used), or a noiser with
            a recipe and possibly a list of misspellings.
        max_edits: at least 1. With 2 or more, the result is not guaranteed to be the worst.
        max_candidates: the most edits to try in each round, at least 1; a seeded sample if there are more.
        protected: spans of characters that are not edited, half open.
        seed: the seed of this sample.
        batch_size: the number of texts to score at once, at least 1.

    Raises:
        ConfigError: a number is too small, or the kind `misspelling` has no list.
        DataError: the scorer did not return one finite score for each text.
    """
    noiser = noise if isinstance(noise, TextNoiser) else TextNoiser(noise)
    for name, value in (("max_edits", max_edits), ("max_candidates", max_candidates), ("batch_size", batch_size)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    best, lowest = text, _scores(scorer, [text])[0]
    spans = list(protected)
    num_edits, num_scored = 0, 1
    for number in range(max_edits):
        edits = list(noiser.single_edits(best, spans))
        if len(edits) > max_candidates:
            sample = np.random.default_rng([seed, number]).choice(len(edits), max_candidates, replace=False)
            edits = [edits[index] for index in np.sort(sample).tolist()]
        candidates = [best[: edit.start] + edit.replacement + best[edit.end :] for edit in edits]
        scores = [score for batch in _batches(candidates, batch_size) for score in _scores(scorer, batch)]
        num_scored += len(scores)
        if not scores or min(scores) >= lowest:
            break
        place = int(np.argmin(scores))
        edit, best, lowest = edits[place], candidates[place], scores[place]
        grown = len(edit.replacement) - (edit.end - edit.start)
        spans = [(start + grown, end + grown) if start >= edit.end else (start, end) for start, end in spans]
        num_edits += 1
    return Attacked(best, lowest, num_edits, num_scored)


def _batches(texts: Sequence[str], batch_size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), batch_size):
        yield texts[start : start + batch_size]


def _scores(scorer: Scorer, texts: Sequence[str]) -> list[float]:
    scores = [float(score) for score in scorer(texts)]
    if len(scores) != len(texts) or not np.isfinite(scores).all():
        raise DataError(f"a scorer must return one finite score for each of {len(texts)} texts, got {scores[:5]}…")
    return scores
