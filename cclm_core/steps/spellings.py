"""The misspellings that the section `noise` asks for: read from a list, or learnt from two spellings of a corpus."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from cclm_core.errors import ConfigError, DataError
from cclm_core.noise.misspellings import Spellings, learn_spellings, read_misspellings
from cclm_core.noise.pairs import corresponding
from cclm_core.noise.recipe import LearntSpellings, NoiseConfig
from cclm_core.text.plays.alignment import spelling_key
from cclm_core.text.records import Record, read_records

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")


def misspellings(config: NoiseConfig, corpus: Path) -> Spellings:
    """For each word its misspellings with their counts; empty if the configuration names no source.

    Raises:
        ConfigError: a recipe has the kind `misspelling`, but there is no source.
        DataError: the list cannot be read, or the corpus teaches no spelling.
    """
    match config.misspellings:
        case None:
            for name, recipe in {"": config.recipe(0), "training": config.training, **config.sets}.items():
                if "misspelling" in recipe.kinds:
                    where = f"noise.sets.{name}" if name in config.sets else f"noise.{name}".rstrip(".")
                    raise ConfigError(
                        f"{where} has the kind misspelling, so noise.misspellings must say where misspellings come "
                        "from: the path of a list, or two variants of the corpus"
                    )
            return {}
        case str(path):
            return read_misspellings(Path(path)).spellings
        case LearntSpellings() as learnt:
            records = read_records(corpus, "train", (learnt.words, learnt.spellings))
            spellings = learn_spellings(word_pairs(records, learnt), learnt.min_count)
            if not spellings:
                raise DataError(
                    f"the train split of {corpus} must hold groups in the variants {learnt.words} and "
                    f"{learnt.spellings} that spell words differently, found none; see noise.misspellings."
                )
            return spellings


def word_pairs(records: Iterable[Record], learnt: LearntSpellings) -> Iterator[tuple[str, str]]:
    """Words of one variant and their spelling in the other, group by group."""
    words: dict[str, dict[str, list[str]]] = defaultdict(lambda: {learnt.words: [], learnt.spellings: []})
    for record in records:
        if record.group is not None and record.variant in (learnt.words, learnt.spellings):
            words[record.group][record.variant].extend(_WORD.findall(record.text))
    for found in words.values():
        yield from corresponding(found[learnt.words], found[learnt.spellings], spelling_key)
