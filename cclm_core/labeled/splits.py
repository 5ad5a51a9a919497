"""Assigns the texts of one source to splits. The result does not depend on their order.

Texts with groups are split by group, like a corpus. Otherwise equal texts stay together, and each label gets the same
share of every split: of the N different texts of a label, those with the smallest seeded hash are held out. So a text
keeps its split when others are added, except for the few at the boundary.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from cclm_core.ingest.sources.columns import did_you_mean, listed
from cclm_core.ingest.splits import Splitter
from cclm_core.labeled.config import LabeledConfig
from cclm_core.labeled.examples import LabeledText
from cclm_core.labeled.reading import Example
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.random import seeds_of

_HELD_OUT = ("test", "validation")
_NUM_SEEDS = float(1 << 63)
_BINS, _MIN_BIN = 10, 20  # bins of a numeric target, and the smallest number of texts per bin


def split_examples(
    config: LabeledConfig, name: str, seed: int, read: Mapping[str, Sequence[Example]]
) -> dict[str, list[Example]]:
    """Returns train, validation and test → texts, in the order of the source.

    Args:
        config: the configuration of the data set.
        name: its name, for messages.
        seed: seed of the run.
        read: split → texts of its source; those of `train` are split further.

    Raises:
        DataError: a named group does not occur.
    """
    pool = read["train"]
    named = {"validation": config.validation.groups, "test": config.test.groups}
    shares = {split: share for split in _HELD_OUT if (share := getattr(config, split).share) is not None}
    _refuse_missing_groups(pool, named, name)
    if any(example.text.group is not None for example in pool):
        splitter = Splitter(seed, named, shares)
        assigned = [splitter.split(example.text.group, text_key(example.text)) for example in pool]
    else:
        assigned = _stratified(config, seed, shares, pool)
    splits: dict[str, list[Example]] = {split: list(read.get(split, ())) for split in ("validation", "test")}
    splits = {"train": [], **splits}
    for example, split in zip(pool, assigned, strict=True):
        splits[split].append(example)
    return splits


def text_key(text: LabeledText) -> str:
    """What two texts, or pairs, that are the same have in common: their words, whatever the white space between."""
    return "\0".join(" ".join(part.split()) for part in (text.text, text.second) if part is not None)


def _stratified(config: LabeledConfig, seed: int, shares: Mapping[str, float], pool: Sequence[Example]) -> list[str]:
    strata: dict[str, dict[str, None]] = defaultdict(dict)
    stratum_of: dict[str, str] = {}
    keys = [text_key(example.text) for example in pool]
    for key, stratum in zip(keys, _strata(config, [example.text for example in pool]), strict=True):
        strata[stratum_of.setdefault(key, stratum)][key] = None
    split_of: dict[str, str] = {}
    for stratum, members in strata.items():
        rest = list(members)
        for split in _HELD_OUT:
            if split not in shares:
                continue
            # A share of a few texts is rounded at random, so that rare labels together get their share.
            fraction = seeds_of(seed, "labeled", "rounding", split)(stratum) / _NUM_SEEDS
            count = min(int(shares[split] * len(members) + fraction), max(0, len(rest) - 1))
            rest.sort(key=seeds_of(seed, "labeled", split))
            split_of |= dict.fromkeys(rest[:count], split)
            rest = rest[count:]
    return [split_of.get(key, "train") for key in keys]


def _strata(config: LabeledConfig, texts: Sequence[LabeledText]) -> list[str]:
    """Returns for each text what is to have the same share in every split: its rarest label, or its range of values."""
    if config.task == "regress":
        values = np.array([text.value for text in texts], dtype=np.float64)
        num_bins = max(1, min(_BINS, len(texts) // _MIN_BIN))
        edges = np.quantile(values, np.linspace(0, 1, num_bins + 1)[1:-1]) if len(values) else np.empty(0)
        return [str(number) for number in np.searchsorted(edges, values, side="right")]
    labels = [
        (text.label,) if text.label is not None else {*text.labels, *(entity.label for entity in text.entities)}
        for text in texts
    ]
    counts = Counter(label for own in labels for label in own)
    return [min(own, key=lambda label: (counts[label], label)) if own else "" for own in labels]


def _refuse_missing_groups(pool: Sequence[Example], named: Mapping[str, Sequence[str]], name: str) -> None:
    known = sorted({example.text.group for example in pool if example.text.group is not None})
    for split, groups in named.items():
        for group in groups:
            if group not in known:
                hint = did_you_mean(group, known).strip() or (
                    f"The groups are {listed(known)}." if known else "No text has a group. Set source.columns.group."
                )
                raise DataError(f"labeled.{name}.{split}.groups: group {group!r} not found. {hint}")
