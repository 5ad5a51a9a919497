"""The misspellings that the section `noise` asks for: read from a list, or learnt from two spellings of a corpus."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from cclm_core.corpus.records import Record, read_records
from cclm_core.datasets.plays.alignment import spelling_key
from cclm_core.noise.misspellings import WORD, Spellings, learn_spellings, read_misspellings
from cclm_core.noise.pairs import corresponding
from cclm_core.noise.recipe import NoiseConfig, SpellingSources
from cclm_core.runtime.errors import ConfigError, DataError


def misspellings(config: NoiseConfig, corpus: Path) -> Spellings:
    """For each word its misspellings with their counts, those of the list and those of the corpus together.

    Raises:
        ConfigError: a set has the kind `misspelling`, but there are no misspellings.
        DataError: the list cannot be read, or the corpus teaches no spelling.
    """
    sources = config.misspellings
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for found in (_listed(sources.path), _learnt(sources, corpus)):
        for word, spellings in found.items():
            counts[word].update(spellings)
    recipes = {"noise": config.recipe(0)} | {f"noise.sets.{name}": recipe for name, recipe in config.sets.items()}
    needing = [name for name, recipe in recipes.items() if "misspelling" in recipe.kinds]
    if needing and not counts:
        raise ConfigError(
            f"{needing[0]} has the kind misspelling, so noise.misspellings must say where misspellings come from: "
            "the path of a list, or two variants of the corpus; it names neither, or an empty list"
        )
    return {word: dict(found) for word, found in counts.items()}


def word_pairs(records: Iterable[Record], words: str, spellings: str) -> Iterator[tuple[str, str]]:
    """Words of one variant and their spelling in the other, group by group."""
    texts: dict[str, dict[str, list[str]]] = defaultdict(lambda: {words: [], spellings: []})
    for record in records:
        if record.group is not None and record.variant in (words, spellings):
            texts[record.group][record.variant].extend(WORD.findall(record.text))
    for found in texts.values():
        yield from corresponding(found[words], found[spellings], spelling_key)


def _listed(path: str | None) -> Spellings:
    return {} if path is None else read_misspellings(Path(path)).spellings


def _learnt(sources: SpellingSources, corpus: Path) -> Spellings:
    words, spellings = sources.words, sources.spellings
    if words is None or spellings is None:
        return {}
    records = read_records(corpus, "train", (words, spellings))
    learnt = learn_spellings(word_pairs(records, words, spellings), sources.min_count)
    if not learnt:
        raise DataError(
            f"the train split of {corpus} must hold groups in the variants {words} and {spellings} that spell words "
            "differently, found none; see noise.misspellings."
        )
    return learnt
