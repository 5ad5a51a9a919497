"""Builds a labeled data set: reads, splits, checks and counts."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cclm_core.corpus.quarantine import Rejected
from cclm_core.labeled.checks import Checked, check_splits, label_counts
from cclm_core.labeled.config import LabeledConfig
from cclm_core.labeled.examples import LabeledText
from cclm_core.labeled.reading import Read, read_sources
from cclm_core.labeled.splits import split_examples
from cclm_core.labeled.tags import IllegalTags, TagScheme, check_tags
from cclm_core.runtime.artifacts import rounded
from cclm_core.runtime.errors import DataError

_ENCODING_HINT = " If a file is not in UTF-8, set the key `encoding` of its source, for example to cp1252."
_QUOTES_HINT = " If quotes are ordinary characters in this file, set `quotes: false` in its source."
_MAX_REASONS = 10  # named in an error


class LabeledData(NamedTuple):
    """A data set before it is published.

    Attributes:
        splits: `train`, `validation` and `test` → their texts.
        rejected: unusable input and removed texts.
        metrics: what was counted, with the warnings.
    """

    splits: dict[str, list[LabeledText]]
    rejected: list[Rejected]
    metrics: dict[str, Any]

    @property
    def warnings(self) -> list[str]:
        """What makes the data or figures measured on it unreliable."""
        return list(self.metrics["warnings"])


def build_labeled(config: LabeledConfig, name: str, seed: int, downloads: Path) -> LabeledData:
    """Reads the sources of a data set, splits the texts and checks them.

    Args:
        config: the configuration of the data set.
        name: its name in params.yaml, for messages.
        seed: seed of the run; it selects the texts of splits that are given as shares.
        downloads: folder for files to keep between runs.

    Raises:
        DataError: a source cannot be read, no text can be used, a split is empty, or train has too few labels.
    """
    read = read_sources(config, name, downloads)
    for split, examples in read.examples.items():
        if not examples:
            raise _nothing_usable(config, name, split, read)
    checked = check_splits(config, name, split_examples(config, name, seed, read.examples))
    schemes, illegal = check_tags(read.sentences, None if config.tag_scheme == "detect" else config.tag_scheme)
    rejected = read.rejected + checked.rejected
    return LabeledData(
        {split: [example.text for example in examples] for split, examples in checked.splits.items()},
        rejected,
        _metrics(config, checked, read.rejected, rejected, schemes, illegal),
    )


def _metrics(
    config: LabeledConfig,
    checked: Checked,
    unusable: Sequence[Rejected],
    rejected: Sequence[Rejected],
    schemes: dict[str, TagScheme],
    illegal: Sequence[IllegalTags],
) -> dict[str, Any]:
    splits = {split: [example.text for example in examples] for split, examples in checked.splits.items()}
    metrics: dict[str, Any] = {
        "task": config.task,
        "texts": sum(map(len, splits.values())),
        "splits": {split: _counts(config, texts) for split, texts in splits.items()},
        "quarantined": {"total": len(rejected), "reasons": dict(Counter(item.reason for item in rejected))},
        **checked.figures,
    }
    if config.task == "tag":
        metrics["tag_schemes"] = schemes
        metrics["illegal_tags"] = [
            {"kind": kind.kind, "times": kind.times, "first": f"{kind.file}:{kind.line}"} for kind in illegal
        ]
    warnings = [*_rejections(unusable), *(f"tags: {kind.message()}" for kind in illegal), *checked.warnings]
    if len(unusable) > metrics["texts"]:
        warnings.append(f"more input was rejected than kept ({len(unusable)} and {metrics['texts']}).")
    return {**metrics, "warnings": warnings}


def _counts(config: LabeledConfig, texts: Sequence[LabeledText]) -> dict[str, Any]:
    """The figures of a split. Labels are lists of `[label, number]`, the most frequent first."""
    counts: dict[str, Any] = {
        "texts": len(texts),
        "characters": sum(len(text.text) + len(text.second or "") for text in texts),
        "groups": len({text.group for text in texts} - {None}),
    }
    if config.task == "regress":
        values = [text.value for text in texts if text.value is not None]
        mean = math.fsum(values) / len(values)
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        figures = {"min": min(values), "max": max(values), "mean": mean, "standard_deviation": deviation}
        return counts | {"value": {key: rounded(value) for key, value in figures.items()}}
    labels = label_counts(texts)
    counts["labels"] = [[label, number] for label, number in sorted(labels.items(), key=lambda p: (-p[1], p[0]))]
    if config.task == "multilabel":
        counts["without_labels"] = sum(not text.labels for text in texts)
    if config.task == "tag":
        counts |= {"words": sum(len(text.words) for text in texts), "entities": labels.total()}
    return counts


def _rejections(rejected: Sequence[Rejected]) -> list[str]:
    """One warning per reason, with the number and the first place."""
    counts = Counter(item.reason for item in rejected)
    first: dict[str, Rejected] = {}
    for item in rejected:
        first.setdefault(item.reason, item)
    warnings = []
    for reason, count in sorted(counts.items()):
        hint = _hint([reason])
        location = f"{first[reason].file}:{first[reason].line}"
        warnings.append(f"{count} rejected: {reason}, first at {location} (see quarantine.jsonl).{hint}")
    return warnings


def _hint(reasons: Collection[str]) -> str:
    """What to set if these are the reasons of rejections."""
    if any(reason.startswith("invalid ") for reason in reasons):
        return _ENCODING_HINT
    return _QUOTES_HINT if any(reason.startswith("not CSV") for reason in reasons) else ""


def _nothing_usable(config: LabeledConfig, name: str, split: str, read: Read) -> DataError:
    reasons = Counter(item.reason for item in read.rejected)
    listed = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common(_MAX_REASONS))
    cause = (
        f"Rejected: {listed}, first at {read.rejected[0].file}:{read.rejected[0].line}." if reasons else "It is empty."
    )
    hint = _hint(reasons)
    of_split = "" if len(config.sources()) == 1 else f" for the split {split}"
    return DataError(
        f"labeled.{name}: no usable text{of_split} in the source. {cause} Correct it or the columns.{hint}"
    )
