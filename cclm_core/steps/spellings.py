"""The misspellings for noise sets: read from a list, or learned from two variants of a corpus."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from cclm_core.corpus.records import Record, read_records
from cclm_core.noise.misspellings import Spellings, learn_spellings, read_misspellings
from cclm_core.noise.recipe import NoiseConfig, SpellingSources
from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.text.alignment import corresponding_words, spelling_key
from cclm_core.text.words import WORD


def misspellings(config: NoiseConfig, corpus: Path) -> Spellings:
    """Word -> misspelling -> count, from the list plus those learned from the corpus.

    Raises:
        ConfigError: a set has the kind `misspelling`, but no source has any.
        DataError: the list cannot be read, or the variants of the corpus spell all words alike.
    """
    sources = config.misspellings
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for source in (_read(sources.path), _learned(sources, corpus)):
        for word, spellings in source.items():
            counts[word].update(spellings)
    recipes = {"noise": config.recipe(0)} | {f"noise.sets.{name}": recipe for name, recipe in config.sets.items()}
    users = [name for name, recipe in recipes.items() if "misspelling" in recipe.kinds]
    if users and not counts:
        raise ConfigError(
            f"{users[0]} has the kind misspelling, but noise.misspellings has no source, or an empty list. Set "
            "noise.misspellings.path to a list, or words and spellings to two variants of the corpus."
        )
    return {word: dict(spellings) for word, spellings in counts.items()}


def word_pairs(records: Iterable[Record], words: str, spellings: str) -> Iterator[tuple[str, str]]:
    """Pairs of a word in the variant `words` and its spelling in the variant `spellings`, aligned group by group."""
    texts: dict[str, dict[str, list[str]]] = defaultdict(lambda: {words: [], spellings: []})
    for record in records:
        if record.group is not None and record.variant in (words, spellings):
            texts[record.group][record.variant].extend(WORD.findall(record.text))
    for variants in texts.values():
        yield from corresponding_words(variants[words], variants[spellings], spelling_key)


def _read(path: str | None) -> Spellings:
    return {} if path is None else read_misspellings(Path(path)).spellings


def _learned(sources: SpellingSources, corpus: Path) -> Spellings:
    words, spellings = sources.words, sources.spellings
    if words is None or spellings is None:
        return {}
    records = read_records(corpus, "train", (words, spellings))
    learned = learn_spellings(word_pairs(records, words, spellings), sources.min_count)
    if not learned:
        raise DataError(
            f"no misspellings found: in the train split of {corpus}, the variants {words} and {spellings} must share "
            "groups and spell some words differently. Check words and spellings in noise.misspellings."
        )
    return learned
