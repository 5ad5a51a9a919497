"""Entities from the scores of words: the best valid tags, and their spans in the text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cclm_core.evaluation.spans import Tagging, TagTransitions, best_tags, tags_to_spans
from cclm_core.text.tagged_words import WordSpans


def entity_answers(
    texts: Sequence[str],
    words: Sequence[WordSpans],
    scores: Sequence[Any],
    labels: Sequence[str],
    probabilities: Sequence[Any] | None = None,
    learned: TagTransitions | None = None,
) -> list[dict[str, Any]]:
    """The entities of each text, by Viterbi decoding with the rules of BIO tags.

    Args:
        texts: N strings.
        words: start and end (excluded) of each word of each text, in characters.
        scores: for each text, the scores (words, 1 + 2K) of the tags: log-probabilities, unless there are `learned`
            transitions.
        labels: the K labels.
        probabilities: for each text, the log-probabilities (words, 1 + 2K) of the tags; None if they are the scores.
        learned: learned scores of transitions, in addition to the rules.
    """
    taggings = [
        Tagging(rows, np.ones(len(spans) + 1, dtype=bool), np.zeros(len(spans), dtype=bool))
        for rows, spans in zip(scores, words, strict=True)
    ]
    known, best = scores if probabilities is None else probabilities, best_tags(taggings, learned)
    return [
        {"entities": [_entity(text, spans, rows, span, labels) for span in tags_to_spans(tags)]}
        for text, spans, rows, tags in zip(texts, words, known, best, strict=True)
    ]


def _entity(
    text: str, words: WordSpans, probabilities: Any, span: tuple[int, int, int], labels: Sequence[str]
) -> dict[str, Any]:
    first, last, label = span
    start, end = words[first][0], words[last - 1][1]
    tags = [1 + 2 * label, *([2 + 2 * label] * (last - first - 1))]
    score = float(np.exp(probabilities[range(first, last), tags].mean()))
    return {"start": start, "end": end, "label": labels[label], "text": text[start:end], "score": score}
