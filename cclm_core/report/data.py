"""The data and the vocabulary: sizes, lengths, labels, characters outside the alphabet, rejected input."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from markupsafe import Markup

from cclm_core.corpus.records import SPLITS, read_texts
from cclm_core.labeled.examples import LabeledSet
from cclm_core.report.charts import histogram
from cclm_core.report.published import Collection, Published
from cclm_core.report.tables import Cell, Table, count_cell, number_cell, share_cell, text_cell
from cclm_core.runtime.readers import read_json
from cclm_core.runtime.reporting import format_share

MAX_TEXTS = 20_000  # per split, for lengths and characters
MAX_LABELS = 100
MAX_REJECTED = 100_000  # lines of the quarantine to look for examples in
EXAMPLES = 3  # per reason
BINS = 20
_MAX_OUTSIDE = 15  # characters
_CATEGORIES = {
    "M": "marks",
    "N": "digits and numbers",
    "P": "punctuation",
    "S": "symbols",
    "Z": "spaces",
}


@dataclass
class DataSection:
    """What the page shows about one data set."""

    name: str
    path: str
    summary: str
    sizes: Table
    lengths: Markup = field(default_factory=Markup)
    labels: Table | None = None
    rejected: Table | None = None
    warnings: list[str] = field(default_factory=list)
    drift: Table | None = None
    expectations: Table | None = None


@dataclass
class VocabularySection:
    """What the page shows about the vocabulary."""

    path: str
    summary: str
    scripts: Table
    alphabet: str
    splits: Table
    outside: Table | None
    fallback_share: float


def data_sections(collection: Collection) -> list[DataSection]:
    """The corpus, then the labeled sets."""
    return [_corpus(item, collection.first("checks")) for item in collection.of_kind("corpus")] + [
        _labeled(item) for item in collection.of_kind("labeled")
    ]


def vocabulary_section(collection: Collection) -> VocabularySection | None:
    """The vocabulary and how much text it does not cover; None without an encoded corpus."""
    encoded = collection.first("encoded")
    if encoded is None:
        return None
    alphabet = str(read_json(encoded.folder / "preprocessor.json").get("alphabet", ""))
    splits = _in_order(encoded.values.get("splits", {}))
    rows = [
        [
            text_cell(name),
            count_cell(values["documents"]),
            count_cell(values["characters"]),
            Cell(f"{values['fallback_share']:.4%}", values["fallback_share"]),
        ]
        for name, values in splits.items()
    ]
    scripts = Counter(map(group_of, alphabet))
    total = max(1, len(alphabet))
    share = max((values["fallback_share"] for values in splits.values()), default=0.0)
    return VocabularySection(
        path=encoded.path,
        summary=(
            f"The alphabet has {len(alphabet):,} characters. A character outside it is encoded as its UTF-8 bytes, so "
            f"no text is lost. At most {share:.3%} of the characters of a split are outside."
        ),
        scripts=Table(
            ("kind", "characters"), [[text_cell(name), share_cell(n, total)] for name, n in scripts.most_common()]
        ),
        alphabet=alphabet,
        splits=Table(("split", "texts", "characters", "encoded as bytes"), rows),
        outside=_outside(collection, alphabet),
        fallback_share=share,
    )


def group_of(character: str) -> str:
    """The kind of a character: the script of a letter, otherwise its general category.

    >>> [group_of(character) for character in "aя7!☃ "]
    ['latin letters', 'cyrillic letters', 'digits and numbers', 'punctuation', 'symbols', 'spaces']
    """
    category = unicodedata.category(character)[0]
    if category == "L":
        return f"{unicodedata.name(character, 'other').split()[0].lower()} letters"
    return _CATEGORIES.get(category, "control and unassigned characters")


def _outside(collection: Collection, alphabet: str) -> Table | None:
    """The most frequent characters outside the alphabet, in the first texts of the train split."""
    corpus = collection.first("corpus")
    if corpus is None:
        return None
    known = set(alphabet)
    counts: Counter[str] = Counter()
    for text in _texts(corpus, "train"):
        counts.update(character for character in text if character not in known)
    if not counts:
        return None
    top = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:_MAX_OUTSIDE]
    rows = [[text_cell(character), text_cell(f"U+{ord(character):04X}"), count_cell(n)] for character, n in top]
    return Table(("character", "code point", "times"), rows, _sampled("the train split"))


def _corpus(item: Published, checks: Published | None) -> DataSection:
    values = item.values
    splits = _in_order(values.get("splits", {}))
    rows = [
        [
            text_cell(name),
            count_cell(split["records"]),
            count_cell(split["characters"]),
            number_cell(split["characters"] / max(1, split["records"])),
            count_cell(split["labeled"]),
            count_cell(split["entities"]),
        ]
        for name, split in splits.items()
    ]
    quarantined = values.get("quarantined", {})
    summary = f"{values.get('records', 0):,} texts with {values.get('characters', 0):,} characters for pretraining"
    return DataSection(
        name="Corpus",
        path=item.path,
        summary=f"{summary}; {quarantined.get('total', 0):,} pieces of input were rejected.",
        sizes=Table(("split", "texts", "characters", "characters per text", "labeled", "entities"), rows),
        lengths=_lengths("corpus", (len(text) for split in SPLITS for text in _texts(item, split))),
        labels=_labels({name: split.get("labels", []) for name, split in splits.items()}),
        rejected=_rejected(item, quarantined),
        warnings=[*values.get("warnings", []), *(_not_met(checks) if checks else [])],
        drift=_drift(checks) if checks else None,
        expectations=_expectations(checks) if checks else None,
    )


def _not_met(checks: Published) -> list[str]:
    return [str(check["message"]) for check in checks.values["checks"] if check["state"] == "not met"]


def _drift(checks: Published) -> Table | None:
    """How the data differ from the accepted ones; None if no data have been accepted."""
    if not checks.values["accepted"]:
        return None
    shown: dict[str, Callable[[float], Cell]] = {
        "count": count_cell,
        "share": lambda value: Cell(format_share(value), value),
        "distance": number_cell,
        "bits": number_cell,
    }
    rows = [
        [
            text_cell("all" if source == "source" else source),
            text_cell(row["measure"]),
            Cell("") if row["accepted"] is None else shown[row["kind"]](row["accepted"]),
            shown[row["kind"]](row["now"]),
        ]
        for source, measures in checks.values["differences"].items()
        for row in measures
    ]
    caption = "A distance is a total variation distance: 0 if nothing has changed, 1 if everything has."
    return Table(("source", "measure", "accepted data", "now"), rows, caption)


def _expectations(checks: Published) -> Table | None:
    """The checked expectations; None if there are none."""
    rows = [
        [
            text_cell(check["expectation"]),
            text_cell(check["unit"]),
            text_cell(check["state"]),
            text_cell(check["action"]),
            Cell(check["message"], is_long=True),
        ]
        for check in checks.values["checks"]
    ]
    return Table(("expectation", "about", "state", "action", "details"), rows) if rows else None


def _labeled(item: Published) -> DataSection:
    values = item.values
    splits = _in_order(values.get("splits", {}))
    rows = [
        [
            text_cell(name),
            count_cell(split["texts"]),
            count_cell(split["characters"]),
            number_cell(split["characters"] / max(1, split["texts"])),
            count_cell(values.get("repeated_texts", {}).get(name, 0)),
        ]
        for name, split in splits.items()
    ]
    quarantined = values.get("quarantined", {})
    leakage = sum(values.get("leakage", {}).values())
    opened = LabeledSet.open(item.folder)
    lengths = (len(text.text) for split in SPLITS for text in islice(opened.split(split), MAX_TEXTS))
    return DataSection(
        name=f"Labeled set {item.name}",
        path=item.path,
        summary=(
            f"{values.get('texts', 0):,} texts for a task of the kind {values.get('task')}; "
            f"{quarantined.get('total', 0):,} pieces of input were rejected, and {leakage:,} texts are in two splits."
        ),
        sizes=Table(("split", "texts", "characters", "characters per text", "repeated"), rows),
        lengths=_lengths(item.name, lengths),
        labels=_labels({name: split.get("labels", []) for name, split in splits.items()}),
        rejected=_rejected(item, quarantined),
        warnings=list(values.get("warnings", [])),
    )


def _in_order(splits: Mapping[str, Any]) -> dict[str, Any]:
    """The splits in the order of `SPLITS`."""
    return {name: splits[name] for name in SPLITS if name in splits}


def _texts(item: Published, split: str) -> Iterator[str]:
    return islice(read_texts(item.folder, split), MAX_TEXTS)


def _sampled(what: str) -> str:
    return f"In the first {MAX_TEXTS:,} texts of {what}."


def _lengths(name: str, lengths: Iterable[int]) -> Markup:
    """A histogram of the lengths, with bins of equal width up to the 99th percentile."""
    ordered = sorted(lengths)
    if not ordered:
        return Markup("")
    top = max(BINS, ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))])
    width = -(-top // BINS)
    counts = Counter(min(length // width, BINS) for length in ordered)
    bins = [(f"{width * number}-{width * (number + 1) - 1}", counts[number]) for number in range(BINS)]
    return histogram(f"lengths of the texts of {name}", [*bins, (f"{width * BINS}+", counts[BINS])], "characters")


def _labels(splits: Mapping[str, Sequence[Sequence[Any]]]) -> Table | None:
    """The labels with their share of each split; None without labels."""
    counts = {name: {str(label): int(number) for label, number in pairs} for name, pairs in splits.items()}
    totals = {name: sum(labels.values()) for name, labels in counts.items()}
    names = {label for labels in counts.values() for label in labels}
    if not names:
        return None
    first = next(iter(counts))
    order = sorted(names, key=lambda label: (-counts[first].get(label, 0), label))
    rows = [
        [text_cell(label), *(share_cell(labels.get(label, 0), totals[name]) for name, labels in counts.items())]
        for label in order[:MAX_LABELS]
    ]
    caption = f"The {MAX_LABELS} most frequent of {len(order):,} labels." if len(order) > MAX_LABELS else ""
    return Table(("label", *counts), rows, caption)


def _rejected(item: Published, quarantined: Mapping[str, Any]) -> Table | None:
    """Reasons of rejection with their number and examples; None if nothing was rejected."""
    reasons: Mapping[str, int] = quarantined.get("reasons", {})
    if not reasons:
        return None
    examples: dict[str, list[str]] = {reason: [] for reason in reasons}
    for row in item.lines("quarantine.jsonl", MAX_REJECTED):
        shown = examples.get(str(row.get("reason")))
        if shown is not None and len(shown) < EXAMPLES:
            line = f":{row['line']}" if row.get("line") else ""
            shown.append(f"{row.get('file', '')}{line}  {row.get('excerpt', '')}")
    total = sum(reasons.values())
    rows = [
        [text_cell(reason), share_cell(number, total), Cell("\n".join(examples[reason]), is_long=True)]
        for reason, number in sorted(reasons.items(), key=lambda entry: (-entry[1], entry[0]))
    ]
    return Table(("reason", "rejected", "examples"), rows)
