"""Counts what a corpus contains, for its metrics and for warnings about data that gives no reliable figures."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cclm_core.corpus.records import SPLITS
from cclm_core.ingest.duplicates import Duplicates
from cclm_core.ingest.prepare import keys

FEW_RECORDS = 100
"""A split of fewer records gets a warning: with 100 texts, the standard error of an accuracy is up to 5 points."""

_COUNTS = ("records", "characters", "entities")
_MAX_LABELS = 1000  # different labels that are counted one by one in a split
_FEW_OF_LABEL = 2  # in the train split


class Tally:
    """Counts records, characters, groups, labels and entities per split and variant.

    Args:
        duplicates: remembers the groups, so that memory does not grow with their number.
    """

    def __init__(self, duplicates: Duplicates) -> None:
        self.num_records = 0
        self._duplicates = duplicates
        self._splits: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self._variants: dict[str, dict[str, Counter[str]]] = {split: {} for split in SPLITS}
        self._labels: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self._entity_labels: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}

    @property
    def num_groups(self) -> int:
        """Number of groups, and of records without one."""
        return sum(counter["groups"] + counter["ungrouped"] for counter in self._splits.values())

    def add(self, table: pa.Table) -> None:
        """Counts the records of a block."""
        self.num_records += table.num_rows
        sizes = pa.table(
            {
                "split": table.column("split"),
                "variant": table.column("variant"),
                "records": pa.array(np.ones(table.num_rows, dtype=np.int64)),
                "characters": pc.cast(pc.utf8_length(table.column("text")), pa.int64()),
                "entities": pc.cast(pc.list_value_length(table.column("entities")), pa.int64()),
            }
        )
        for row in _grouped(sizes, ["split", "variant"], [(name, "sum") for name in _COUNTS]):
            counters = [self._splits[row["split"]]]
            if row["variant"] is not None:
                counters.append(self._variants[row["split"]].setdefault(row["variant"], Counter()))
            for counter in counters:
                counter.update({name: row[f"{name}_sum"] for name in _COUNTS})
        grouped = table.select(["split", "group"]).filter(pc.is_valid(table.column("group")))
        rows = _grouped(grouped, ["split", "group"], [])
        for split in SPLITS:
            names = [row["group"] for row in rows if row["split"] == split]
            self._splits[split]["groups"] += self._duplicates.new_groups(keys(f"{split}\0{name}" for name in names))
            self._add_labels(split, table.filter(pc.equal(table.column("split"), split)))

    def _add_labels(self, split: str, table: pa.Table) -> None:
        counter = self._splits[split]
        counter["ungrouped"] += table.column("group").null_count
        counter["labeled"] += table.num_rows - table.column("label").null_count
        _count(self._labels[split], table.column("label"))
        _count(self._entity_labels[split], pc.struct_field(pc.list_flatten(table.column("entities")), "label"))

    def summary(self, reasons: Counter[str]) -> dict[str, float]:
        """Returns the figures for the progress line: rejected input, sizes of the splits, labeled records, labels."""
        labels = set[str]().union(*self._labels.values())
        figures = {"rejected": reasons.total()}
        figures |= {split: counter["records"] for split, counter in self._splits.items()}
        if labels:
            figures |= {"labeled": sum(counter["labeled"] for counter in self._splits.values()), "labels": len(labels)}
        if entities := sum(counter["entities"] for counter in self._splits.values()):
            figures["entities"] = entities
        return dict(figures)

    def metrics(self, reasons: Counter[str]) -> dict[str, Any]:
        """Returns the counts per split and per variant of a split, rejected input by reason, and the warnings.

        Labels are lists of `[label, number]`, the most frequent first; after 1,000 different ones no more are added.
        """
        return {
            "records": self.num_records,
            "characters": sum(counter["characters"] for counter in self._splits.values()),
            "splits": {
                split: {name: counter[name] for name in (*_COUNTS, "groups", "labeled")}
                | {"labels": _ranked(self._labels[split]), "entity_labels": _ranked(self._entity_labels[split])}
                | {"variants": {key: {name: value[name] for name in _COUNTS} for key, value in variants.items()}}
                for (split, counter), variants in zip(self._splits.items(), self._variants.values(), strict=True)
            },
            "quarantined": {"total": reasons.total(), "reasons": dict(reasons)},
            "warnings": self.warnings(reasons),
        }

    def warnings(self, reasons: Counter[str]) -> list[str]:
        """Returns what makes figures unreliable: small splits, labels that are not in train, much rejected input."""
        found = [
            f"split {split} has {counter['records']} records; figures measured on fewer than {FEW_RECORDS} are "
            "uncertain."
            for split, counter in self._splits.items()
            if counter["records"] < FEW_RECORDS
        ]
        for split in ("validation", "test"):
            for kind, labels in (("labels", self._labels), ("entity labels", self._entity_labels)):
                new = sorted(set(labels[split]) - set(labels["train"]))
                if new and labels["train"]:
                    names = ", ".join(map(repr, new[:5])) + (" and others" if len(new) > 5 else "")
                    found.append(f"{len(new)} of {len(labels[split])} {kind} in {split} are not in train: {names}.")
        rare = sorted(label for label, number in self._labels["train"].items() if number < _FEW_OF_LABEL)
        if rare:
            found.append(
                f"{len(rare)} of {len(self._labels['train'])} labels have fewer than {_FEW_OF_LABEL} records in train."
            )
        unlabeled = self._splits["test"]["records"] - self._splits["test"]["labeled"]
        if unlabeled and self._splits["test"]["labeled"]:
            found.append(f"{unlabeled} of {self._splits['test']['records']} records in test have no label.")
        if reasons.total() > self.num_records:
            found.append(
                f"more input was rejected than kept ({reasons.total()} of {reasons.total() + self.num_records})."
            )
        if invalid := sum(number for reason, number in reasons.items() if reason.startswith("invalid ")):
            found.append(
                f"{invalid} lines could not be decoded. If a file is not in UTF-8, set ingest.source.encoding."
            )
        return found


def _count(counter: Counter[str], values: Any) -> None:
    """Adds the numbers of equal values to those of known ones; also of new ones, while there are few enough."""
    for value, number in ((pair["values"], pair["counts"]) for pair in pc.value_counts(values).to_pylist()):
        if value is not None and (value in counter or len(counter) < _MAX_LABELS):
            counter[value] += number


def _ranked(counter: Counter[str]) -> list[list[Any]]:
    return [[label, number] for label, number in sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))]


def _grouped(table: pa.Table, by: list[str], sums: list[tuple[str, str]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.group_by(by, use_threads=False).aggregate(sums).to_pylist()
    return rows
