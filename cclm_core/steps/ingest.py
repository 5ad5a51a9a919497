"""The stage `ingest`: reads the source, splits it by group, publishes records and the quarantine."""

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from cclm_core.artifacts import publishing, write_json
from cclm_core.reporting import Report
from cclm_core.steps.parameters import section, seed
from cclm_core.text.quarantine import Quarantine, Rejected
from cclm_core.text.records import SPLITS, Record, fault, write_shards
from cclm_core.text.sources.config import IngestConfig, describe_source, ids_may_repeat, read_source
from cclm_core.text.splits import Splitter

_REPORT_EVERY = 5000


def ingest(params: Path, downloads: Path, out: Path, report: Report) -> None:
    """Reads the source once, in a stream, and publishes the corpus.

    Args:
        params: the file with `seed` and the section `ingest`.
        downloads: where archives are kept between runs.
        out: the folder to publish: shards (see `text.records`), quarantine.jsonl, source.json, metrics.json.
        report: hears how many records were read.

    Raises:
        ConfigError: the section is wrong.
        DataError: the source cannot be read, or gives no record to one of the splits.
        IntegrityError: an archive's checksum does not match.
    """
    config = section(params, "ingest", IngestConfig)
    splitter = _splitter(config, seed(params))
    with publishing(out, "corpus") as folder, closing(_Distinct()) as distinct:
        tally = _Tally(distinct)
        with Quarantine(folder / "quarantine.jsonl") as quarantine:
            records = _accepted(config, downloads, splitter, quarantine, tally, report)
            counts = write_shards(folder, records, config.records_per_shard)
        splitter.check(counts, quarantine.reasons)
        write_json(folder / "source.json", describe_source(config.source))
        write_json(folder / "metrics.json", tally.metrics(quarantine.reasons))
        report(sum(counts.values()), {"rejected": quarantine.reasons.total()}, sum(counts.values()))


def _splitter(config: IngestConfig, run_seed: int) -> Splitter:
    shares = {"validation": config.validation_share or 0.0, "test": config.test_share or 0.0}
    return Splitter(run_seed, {"validation": config.validation_groups, "test": config.test_groups}, shares)


def _accepted(
    config: IngestConfig, downloads: Path, splitter: Splitter, quarantine: Quarantine, tally: "_Tally", report: Report
) -> Iterator[Record]:
    """The records that can stand in the corpus, in their split; the others go to the quarantine."""
    may_repeat = ids_may_repeat(config.source)
    for item in read_source(config.source, downloads):
        if isinstance(item, Rejected):
            quarantine.add(item)
            continue
        record, file, line = item
        reason = fault(record)
        if reason is None and may_repeat and not tally.distinct.add("id", record.id):
            reason = "duplicate id"
        if reason is not None:
            quarantine.add(Rejected(file, line, reason, record.text))
            continue
        record = replace(record, split=splitter.split(record.group, record.id))
        tally.add(record)
        if tally.num_records % _REPORT_EVERY == 0:
            report(tally.num_records, {"rejected": quarantine.reasons.total()})
        yield record


class _Tally:
    """Counts what goes into each split, and each edition, for the metrics."""

    def __init__(self, distinct: "_Distinct") -> None:
        self.distinct = distinct
        self.num_records = 0
        self._splits: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self._variants: dict[str, dict[str, Counter[str]]] = {split: {} for split in SPLITS}

    def add(self, record: Record) -> None:
        self.num_records += 1
        counts = [self._splits[record.split]]
        if record.variant is not None:
            counts.append(self._variants[record.split].setdefault(record.variant, Counter()))
        for counter in counts:
            counter["records"] += 1
            counter["characters"] += len(record.text)
            counter["entities"] += len(record.entities)
        if record.group is not None and self.distinct.add(f"group in {record.split}", record.group):
            self._splits[record.split]["groups"] += 1

    def metrics(self, reasons: Counter[str]) -> dict[str, Any]:
        """Numbers alone: for each split, for each edition in it, and the quarantine by reason."""
        names = ("records", "characters", "entities")
        return {
            "records": self.num_records,
            "characters": sum(counter["characters"] for counter in self._splits.values()),
            "splits": {
                split: {name: counter[name] for name in (*names, "groups")}
                | {"variants": {key: {name: value[name] for name in names} for key, value in variants.items()}}
                for (split, counter), variants in zip(self._splits.items(), self._variants.values(), strict=True)
            },
            "quarantined": {"total": reasons.total(), "reasons": dict(reasons)},
        }


class _Distinct:
    """Which names were seen before: kept in a temporary database on disk, so that memory does not grow with them."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE seen (name BLOB PRIMARY KEY) WITHOUT ROWID")
        self._last: dict[str, str] = {}

    def add(self, kind: str, name: str) -> bool:
        """Whether `name` is new among those of its kind."""
        if self._last.get(kind) == name:
            return False
        self._last[kind] = name
        key = hashlib.blake2b(f"{kind}\0{name}".encode(), digest_size=16).digest()
        return self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (key,)).rowcount == 1

    def close(self) -> None:
        """Drops the database."""
        self._database.close()
