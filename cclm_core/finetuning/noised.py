"""Noised copies of labeled texts: words and entities move with their characters."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cclm_core.corpus.records import Entity
from cclm_core.labeled.examples import LabeledText
from cclm_core.noise.text import TextNoiser
from cclm_core.runtime.random import derive


def noised_texts(texts: Sequence[LabeledText], noiser: TextNoiser, seed: int, name: str) -> list[LabeledText]:
    """Noisy copies of texts; words and entities move with their characters, and lost ones are left out."""
    words = [
        [Entity(start, end, str(number)) for number, (start, end) in enumerate(text.words)] or list(text.entities)
        for text in texts
    ]
    generator = derive(seed, "task", "noise", name)
    results = noiser.batch([text.text for text in texts], generator, words)
    seconds = noiser.batch([text.second or "" for text in texts], generator)
    noised = []
    for text, result, second in zip(texts, results, seconds, strict=True):
        changes: dict[str, Any] = {"text": result.text, "second": None if text.second is None else second.text}
        if text.words:
            moved = {int(word.label): (word.start, word.end) for word in result.entities}
            changes |= {"words": tuple(moved.values()), "entities": _moved(text, moved)}
        else:
            changes |= {"entities": tuple(result.entities) if text.entities else ()}
        noised.append(replace(text, **changes))
    return noised


def _moved(text: LabeledText, moved: Mapping[int, tuple[int, int]]) -> tuple[Entity, ...]:
    """The entities around the words that remain."""
    entities = []
    for entity in text.entities:
        inside = [
            moved[number]
            for number, (start, end) in enumerate(text.words)
            if number in moved and start < entity.end and end > entity.start
        ]
        if inside:
            entities.append(Entity(inside[0][0], inside[-1][1], entity.label))
    return tuple(entities)
