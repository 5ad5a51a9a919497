"""Small corpora that a model learns from in seconds."""

from pathlib import Path

import numpy as np

from cclm_core.corpus.encoded import EncodedCorpus, EncodedWriter
from cclm_core.corpus.records import Entity, Record
from cclm_core.runtime.artifacts import publishing
from cclm_core.text.vocabulary import Preprocessor, TargetsConfig, VocabularyConfig
from cclm_core.text.word_targets import FILE as TARGETS
from cclm_core.text.word_targets import WordTargets

NAMES = ("Viola", "Orsino", "Feste", "Olivia", "Antonio")
VERBS = ("loves", "scorns", "follows", "greets", "remembers")
THINGS = ("the sea", "a sad song", "the letter", "his ring", "the captain")


def sentence(generator: np.random.Generator, number: int, split: str) -> Record:
    """A sentence such as "Viola loves the sea.": the name is an entity, its first letter determines the label."""
    name, verb, thing = (words[generator.integers(len(words))] for words in (NAMES, VERBS, THINGS))
    text = f"{name} {verb} {thing}."
    entity = Entity(0, len(name), "PERSON")
    group = f"{split}-{number % 4}"
    return Record(
        f"{split}/{number}", text, name, group, "modern", "vowel" if name[0] in "AO" else "other", (entity,), split
    )


def records(size: int = 200) -> list[Record]:
    """`size` training sentences, and a quarter as many for validation and for test."""
    generator = np.random.default_rng(5)
    sizes = {"train": size, "validation": size // 4, "test": size // 4}
    return [sentence(generator, number, split) for split, count in sizes.items() for number in range(count)]


def encode(folder: Path, corpus: list[Record], words: TargetsConfig | None = None) -> EncodedCorpus:
    """Publishes an encoded corpus at `folder` (with word targets if `words` is given) and opens it."""
    texts = [record.text for record in corpus if record.split == "train"]
    preprocessor = Preprocessor(VocabularyConfig(words=words)).fit(texts)
    labels = {entity.label for record in corpus for entity in record.entities}
    with publishing(folder, "encoded") as output, EncodedWriter(output, preprocessor, labels) as writer:
        for _ in writer.write(corpus):
            pass
        if words is not None:
            WordTargets.fit(texts, words, preprocessor).with_counts(texts).save(output / TARGETS)
    return EncodedCorpus.open(folder)
