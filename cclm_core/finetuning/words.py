"""Words and their tags: from entity spans to one BIO tag per word, and back."""

from collections.abc import Sequence

from cclm_core.corpus.records import Entity
from cclm_core.finetuning.any_model import Texts
from cclm_core.labeled.examples import LabeledText
from cclm_core.text.tagged_words import WordSpans, characters_of, words_of


def units_of(example: LabeledText, unit: str) -> WordSpans:
    """The words or characters of an example that get a tag."""
    if unit == "character":
        return characters_of(example.text)
    return tuple(example.words) or words_of(example.text)


def tagged_units(examples: Sequence[LabeledText], unit: str, labels: Sequence[str]) -> tuple[Texts, list[int]]:
    """Labeled texts with the words or characters that get a tag, and the tags of all of them, one after the other."""
    units = [units_of(example, unit) for example in examples]
    return Texts([example.text for example in examples], words=units), tags_of_texts(examples, units, labels)


def tags_of_texts(examples: Sequence[LabeledText], words: Sequence[WordSpans], labels: Sequence[str]) -> list[int]:
    """The tags of all words of all examples, one after the other."""
    return [tag for example, own in zip(examples, words, strict=True) for tag in tags_of(own, example.entities, labels)]


def tags_of(words: WordSpans, entities: Sequence[Entity], labels: Sequence[str]) -> list[int]:
    """The tag of each word: 0 is O, 1 + 2k is B of label k, 2 + 2k is I of label k.

    A word belongs to the entity that contains its first character. The first word of an entity is B.

    >>> tags_of(((0, 3), (4, 8), (9, 11)), [Entity(0, 8, "PER")], ["LOC", "PER"])
    [3, 4, 0]
    """
    numbers = {label: number for number, label in enumerate(labels)}
    tags, following, previous = [], list(entities), None
    for start, _ in words:
        while following and following[0].end <= start:
            following.pop(0)
        entity = following[0] if following and following[0].start <= start else None
        if entity is None or entity.label not in numbers:
            tags.append(0)
            previous = None
            continue
        tags.append((2 if entity is previous else 1) + 2 * numbers[entity.label])
        previous = entity
    return tags
