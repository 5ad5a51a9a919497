"""The stage `ingest`: reads the source, splits it by group, and publishes records and rejected input."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cclm_core.corpus.parallel import process_map
from cclm_core.corpus.quarantine import Quarantine, Rejected
from cclm_core.corpus.records import SPLITS, ShardWriter
from cclm_core.ingest.config import IngestConfig
from cclm_core.ingest.duplicates import Duplicates
from cclm_core.ingest.prepare import Block, Preparation, keys
from cclm_core.ingest.splits import Splitter
from cclm_core.runtime.artifacts import publishing, write_json
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params

_COUNTS = ("records", "characters", "entities")


def ingest(params: Params, downloads: Path, out: Path, report: Report, workers: int | None = None) -> None:
    """Reads the source once, as a stream, and publishes the corpus.

    Args:
        params: the parameters; reads the seed and the section `ingest`.
        downloads: folder where archives are kept between runs.
        out: folder to publish the corpus at: shards (see `corpus.records`), quarantine.jsonl, source.json,
            metrics.json.
        report: receives the number of records read and rejected.
        workers: number of processes; does not change the result. None for `corpus.parallel.num_workers`.

    Raises:
        ConfigError: invalid section.
        DataError: the source cannot be read, or a split gets no record.
        IntegrityError: an archive's checksum does not match.
    """
    config = params.section(IngestConfig)
    splitter = _splitter(config, params.seed)
    if not (config.source.reads_in_workers or config.filters or config.transforms or config.duplicates):
        workers = 1  # processing a record takes less time than sending it to a worker
    with publishing(out, "corpus") as folder:
        index = folder / ".index"
        index.mkdir()
        duplicates = Duplicates(index, config.duplicates)
        tally = _Tally(duplicates)
        with (
            Quarantine(folder / "quarantine.jsonl") as quarantine,
            ShardWriter(folder, config.records_per_shard) as writer,
            process_map(Preparation(config, splitter), config.source.parts(downloads), workers) as blocks,
        ):
            for block in blocks:
                distinct = _without_duplicates(block, duplicates, quarantine)
                splitter.note(pc.unique(distinct.column("group")).to_pylist, distinct.column("id").to_pylist)
                tally.add(distinct)
                for split in SPLITS:
                    writer.add(split, distinct.filter(pc.equal(distinct.column("split"), split)))
                report(tally.num_records, {"rejected": quarantine.reasons.total()})
        duplicates.close()
        shutil.rmtree(index)
        splitter.check(writer.num_records, quarantine.reasons)
        write_json(folder / "source.json", config.source.describe())
        write_json(folder / "metrics.json", tally.metrics(quarantine.reasons))
        total = sum(writer.num_records.values())
        report(total, {"rejected": quarantine.reasons.total()}, total)


def _splitter(config: IngestConfig, run_seed: int) -> Splitter:
    shares = {"validation": config.validation_share or 0.0, "test": config.test_share or 0.0}
    return Splitter(run_seed, {"validation": config.validation_groups, "test": config.test_groups}, shares)


def _without_duplicates(block: Block, duplicates: Duplicates, quarantine: Quarantine) -> pa.Table:
    """The records of a block without repeats. Quarantines repeats and rejected input in the order of the source."""
    rejected = list(block.rejected)
    is_kept = np.ones(len(block.lines), dtype=bool)

    def remove(reason: str, rows: npt.NDArray[np.int64], first: npt.NDArray[np.int64]) -> None:
        """Rejects the rows whose `first` occurrence, a record number, is an earlier record."""
        repeats = first != numbers[rows]
        texts = block.table.column("text")
        for index, original in zip(rows[repeats].tolist(), first[repeats].tolist(), strict=True):
            location = duplicates.location(original)
            item = Rejected(block.files[index], int(block.lines[index]), reason, texts[index].as_py(), location)
            rejected.append((int(block.orders[index]), item))
            is_kept[index] = False

    if block.ids is not None or duplicates.config is not None:
        numbers = duplicates.number(block.files, block.lines)
        if block.ids is not None:
            remove("duplicate id", np.arange(len(is_kept)), duplicates.same_id(block.ids, numbers))
        if block.texts is not None:
            rows = np.flatnonzero(is_kept & block.compared)
            remove("duplicate text", rows, duplicates.same_text(block.texts[rows], numbers[rows]))
        if block.signatures is not None:
            compared = is_kept & block.compared
            nearest = duplicates.near_text(block.signatures, numbers, compared)
            remove("near duplicate", np.flatnonzero(compared), nearest[compared])
    for _, item in sorted(rejected, key=lambda pair: pair[0]):
        quarantine.add(item)
    return block.table if is_kept.all() else block.table.filter(pa.array(is_kept))


class _Tally:
    """Counts records, characters, entities and groups per split and variant, for the metrics."""

    def __init__(self, duplicates: Duplicates) -> None:
        self.num_records = 0
        self._duplicates = duplicates
        self._splits: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self._variants: dict[str, dict[str, Counter[str]]] = {split: {} for split in SPLITS}

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

    def metrics(self, reasons: Counter[str]) -> dict[str, Any]:
        """Counts per split and per variant of a split, and rejected records by reason."""
        return {
            "records": self.num_records,
            "characters": sum(counter["characters"] for counter in self._splits.values()),
            "splits": {
                split: {name: counter[name] for name in (*_COUNTS, "groups")}
                | {"variants": {key: {name: value[name] for name in _COUNTS} for key, value in variants.items()}}
                for (split, counter), variants in zip(self._splits.items(), self._variants.values(), strict=True)
            },
            "quarantined": {"total": reasons.total(), "reasons": dict(reasons)},
        }


def _grouped(table: pa.Table, by: list[str], sums: list[tuple[str, str]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.group_by(by, use_threads=False).aggregate(sums).to_pylist()
    return rows
