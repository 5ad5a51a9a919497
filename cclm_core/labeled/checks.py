"""Checks the splits of a labeled data set: leakage, contradictions, and labels that cannot be learned or measured."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from cclm_core.corpus.quarantine import Rejected
from cclm_core.corpus.records import SPLITS
from cclm_core.labeled.config import LabeledConfig
from cclm_core.labeled.examples import LabeledText, train_labels
from cclm_core.labeled.reading import Example
from cclm_core.labeled.splits import text_key
from cclm_core.runtime.errors import DataError

FEW_TEXTS = 100
"""A held-out split of fewer texts gets a warning: with 100, the standard error of an accuracy is up to 5 points."""

_NAMED = 5  # labels that a message names


@dataclass
class Checked:
    """The splits after the checks.

    Attributes:
        splits: split → its texts, in order.
        rejected: texts that were removed, in order.
        figures: what was counted, for metrics.json.
        warnings: sentences for people.
    """

    splits: dict[str, list[Example]]
    rejected: list[Rejected] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def check_splits(config: LabeledConfig, name: str, splits: Mapping[str, Sequence[Example]]) -> Checked:
    """Finds what is wrong with the splits, and removes leakage if configured.

    Args:
        config: the configuration of the data set.
        name: its name, for messages.
        splits: `train`, `validation` and `test` → their texts.

    Raises:
        DataError: a split is empty, or train has fewer than two labels or values, or no entities.
    """
    checked = Checked({split: list(splits[split]) for split in SPLITS})
    _refuse_empty(name, checked.splits)
    checked.figures["leakage"] = {}
    for first, second in (("validation", "test"), ("train", "test"), ("train", "validation")):
        _check_leakage(config, checked, first, second)
    _refuse_empty(name, checked.splits)
    checked.warnings += _shared_groups(checked.splits)
    _check_repeats(checked)
    _check_targets(config, name, checked)
    for split in ("validation", "test"):
        if (count := len(checked.splits[split])) < FEW_TEXTS:
            checked.warnings.append(
                f"split {split} has {count} texts; figures measured on fewer than {FEW_TEXTS} are uncertain."
            )
    return checked


def target_of(text: LabeledText) -> tuple[Any, ...]:
    """What a model is to predict, in a form that can be compared."""
    return text.label, text.labels, text.value, text.entities


def _refuse_empty(name: str, splits: Mapping[str, Sequence[Example]]) -> None:
    for split in SPLITS:
        if not splits[split]:
            sizes = ", ".join(f"{other} {len(splits[other]):,}" for other in SPLITS)
            has_groups = any(example.text.group is not None for example in splits["train"])
            groups = " Groups are never divided; `groups` names those to hold out." if has_groups else ""
            raise DataError(
                f"labeled.{name}: split {split} has no text ({sizes}). Use more texts or other splits.{groups}"
            )


def _check_leakage(config: LabeledConfig, checked: Checked, first: str, second: str) -> None:
    """Finds texts of the split `first` that are also in `second`, the split that is measured on."""
    known = {text_key(example.text): example.location for example in reversed(checked.splits[second])}
    leaked = [example for example in checked.splits[first] if text_key(example.text) in known]
    checked.figures["leakage"][f"{first}_in_{second}"] = len(leaked)
    if not leaked:
        return
    where = f"such as {leaked[0].location} and {known[text_key(leaked[0].text)]}"
    count = f"texts of {first} that are also in {second}: {len(leaked)} of {len(checked.splits[first])}, {where}"
    if config.leakage == "keep":
        checked.warnings.append(
            f"{count}. Figures on {second} are too good; without `leakage: keep`, they are removed."
        )
        return
    checked.warnings.append(f"{count}. They were removed from {first}; `leakage: keep` keeps them.")
    checked.rejected += [
        Rejected(item.file, item.line, f"also in {second}", item.text.text, known[text_key(item.text)])
        for item in leaked
    ]
    checked.splits[first] = [item for item in checked.splits[first] if text_key(item.text) not in known]


def _shared_groups(splits: Mapping[str, Sequence[Example]]) -> Iterator[str]:
    groups = {split: {item.text.group for item in splits[split]} - {None} for split in SPLITS}
    for first, second in combinations(SPLITS, 2):
        if shared := sorted(str(group) for group in groups[first] & groups[second]):
            yield f"groups in both {first} and {second}: {len(shared)}, such as {shared[0]!r:.80}."


def _check_repeats(checked: Checked) -> None:
    """Counts repeated texts of each split, and finds those with different targets."""
    repeats, conflicts = {}, {}
    for split, examples in checked.splits.items():
        first: dict[str, Example] = {}
        contradicting: dict[str, tuple[Example, Example]] = {}
        for example in examples:
            earlier = first.setdefault(text_key(example.text), example)
            if target_of(earlier.text) != target_of(example.text):
                contradicting.setdefault(text_key(example.text), (earlier, example))
        repeats[split], conflicts[split] = len(examples) - len(first), len(contradicting)
        if contradicting:
            earlier, later = next(iter(contradicting.values()))
            checked.warnings.append(
                f"texts of {split} with different labels: {len(contradicting)}, such as {earlier.location} "
                f"({_shown(earlier.text)}) and {later.location} ({_shown(later.text)})."
            )
    checked.figures |= {"repeated_texts": repeats, "texts_with_different_labels": conflicts}


def _check_targets(config: LabeledConfig, name: str, checked: Checked) -> None:
    train = [example.text for example in checked.splits["train"]]
    if config.task == "regress":
        if len({text.value for text in train}) < 2:
            raise DataError(f"labeled.{name}: all targets of train are {train[0].value}. Use other data.")
        return
    labels = train_labels(train)
    if config.task == "tag" and not labels:
        raise DataError(
            f"labeled.{name}: no text of train has an entity. Check the columns; for bare labels set `tag_scheme: io`."
        )
    if len(labels) < (2 if config.task == "classify" else 1):
        raise DataError(
            f"labeled.{name}: train must have at least two labels, got {', '.join(map(repr, labels)) or 'none'}. "
            "Check the column of the labels, or use other data."
        )
    for split in ("validation", "test"):
        own = train_labels(example.text for example in checked.splits[split])
        if new := sorted(own - labels):
            checked.warnings.append(
                f"labels of {split} that are not in train, so never predicted: {len(new)} of {len(own)}, "
                f"{_listed(new)}."
            )
    counts = label_counts(train)
    if rare := sorted(label for label, count in counts.items() if count == 1):
        checked.warnings.append(f"labels with one example in train: {len(rare)} of {len(counts)}, {_listed(rare)}.")


def label_counts(texts: Sequence[LabeledText]) -> Counter[str]:
    """Label → number of texts with it; for entities, number of entities."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.labels)
        counts.update(entity.label for entity in text.entities)
        if text.label is not None:
            counts[text.label] += 1
    return counts


def _listed(labels: Sequence[str]) -> str:
    rest = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    return ", ".join(f"{label!r:.80}" for label in labels[:_NAMED]) + rest


def _shown(text: LabeledText) -> str:
    if text.label is not None:
        return text.label[:80]
    if text.value is not None:
        return f"{text.value:g}"
    if text.entities:
        return ", ".join(f"{text.text[part.start : part.end]}: {part.label}" for part in text.entities)[:80]
    return ", ".join(text.labels)[:80] or "none"
