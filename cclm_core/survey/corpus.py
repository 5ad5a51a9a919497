"""Counts the texts and characters of a corpus, and checks that they can be split."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cclm_core.corpus.quarantine import Rejected
from cclm_core.ingest.sources.files import FilesConfig
from cclm_core.ingest.splits import Splitter
from cclm_core.noise.keyboards import LAYOUTS
from cclm_core.runtime.errors import DataError

ENOUGH = 20_000_000
"""Characters after which counting stops: the settings for all larger corpora are the same."""

_SHARES = {"validation": 0.1, "test": 0.1}
_FEW_GROUPS = 40  # with fewer groups, shares of groups can be empty: groups are named
_MAX_NAMED = 100_000  # groups that are counted
_MIN_LETTERS = 0.01  # share of the letters from which a script counts
_SCRIPTS = ("qwerty", "jcuken", "greek", "hebrew", "arabic")


@dataclass
class CorpusSurvey:
    """What a corpus has.

    Attributes:
        num_texts, num_characters: counts of the usable texts that were read.
        is_complete: whether all texts were read.
        rejected: unusable input, the first of each reason.
        num_rejected: reason -> how often.
        characters: character -> how often.
        splits: keys of `IngestConfig` for the splits.
    """

    num_texts: int = 0
    num_characters: int = 0
    is_complete: bool = True
    rejected: dict[str, Rejected] = field(default_factory=dict)
    num_rejected: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    splits: dict[str, Any] = field(default_factory=dict)

    @property
    def layouts(self) -> list[str]:
        """A keyboard for each script of the texts."""
        letters = Counter({letter: count for letter, count in self.characters.items() if letter.isalpha()})
        own = [
            name
            for name in _SCRIPTS
            if sum(letters[letter] for row in LAYOUTS[name] for letter in row) >= _MIN_LETTERS * max(1, letters.total())
        ]
        return own or ["qwerty"]


def survey_corpus(source: Mapping[str, Any], seed: int) -> CorpusSurvey:
    """Reads a corpus, and chooses how it is split.

    Args:
        source: the section `ingest.source`.
        seed: seed of the run, which decides the splits.

    Raises:
        DataError: the source cannot be read, or has too few texts or groups.
    """
    config = FilesConfig.parse(source, "ingest.source")
    survey = CorpusSurvey()
    counts: Counter[str] = Counter()
    groups: Counter[str] = Counter()
    splitter = Splitter(seed, {}, _SHARES)
    for item in config.read(Path()):
        if isinstance(item, Rejected):
            survey.num_rejected[item.reason] += 1
            survey.rejected.setdefault(item.reason, item)
            continue
        record = item.record
        survey.num_texts += 1
        survey.num_characters += len(record.text)
        survey.characters.update(record.text)
        counts[splitter.split(record.group, record.id)] += 1
        if record.group is not None and (record.group in groups or len(groups) < _MAX_NAMED):
            groups[record.group] += 1
        if survey.num_characters >= ENOUGH:
            survey.is_complete = False
            break
    survey.splits = _splits(counts, groups, survey)
    return survey


def _splits(counts: Counter[str], groups: Counter[str], survey: CorpusSurvey) -> dict[str, Any]:
    if groups and len(groups) < _FEW_GROUPS and groups.total() == survey.num_texts:
        if len(groups) < 3:
            raise DataError(f"the texts must have at least 3 groups, got {', '.join(groups)}. Leave out --group.")
        return {f"{split}_groups": names for split, names in named_groups(groups).items()}
    if not survey.num_texts:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in survey.num_rejected.most_common(5))
        raise DataError(f"no usable text in the data{f' ({reasons})' if reasons else ''}. Check the files.")
    if len([split for split in ("train", "validation", "test") if counts[split]]) < 3:
        raise DataError(
            f"{survey.num_texts} texts are too few to be split into train, validation and test. Use at least 50."
        )
    return {f"{split}_share": share for split, share in _SHARES.items()}


def named_groups(groups: Counter[str]) -> dict[str, list[str]]:
    """Groups for `validation` and `test`, each with about a tenth of the texts; the smallest groups first."""
    remaining = sorted(groups, key=lambda name: (groups[name], name))
    named: dict[str, list[str]] = {}
    for split in ("test", "validation"):
        named[split] = [remaining.pop(0)]
        while len(remaining) > 2 and sum(groups[name] for name in named[split]) < 0.1 * groups.total():
            named[split].append(remaining.pop(0))
    return named
