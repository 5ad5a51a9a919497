"""The stage `ingest`: reads the sources, splits them by group, and publishes records and rejected input."""

import shutil
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cclm_core.corpus.parallel import process_map
from cclm_core.corpus.quarantine import Quarantine, Rejected
from cclm_core.corpus.records import SPLITS, ShardWriter
from cclm_core.ingest.config import IngestConfig
from cclm_core.ingest.duplicates import Duplicates
from cclm_core.ingest.mixed import Weights
from cclm_core.ingest.prepare import Block, Preparation
from cclm_core.ingest.tally import Tally
from cclm_core.runtime.artifacts import publishing, write_json
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params


def ingest(params: Params, downloads: Path, out: Path, report: Report, workers: int | None = None) -> None:
    """Reads each source once, as a stream, and publishes the corpus.

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
    reader, splitter, weights = config.reader, config.splitter(params.seed), Weights(params.seed, config.sources)
    if not (reader.reads_in_workers or config.filters or config.transforms or config.duplicates):
        workers = 1  # processing a record takes less time than sending it to a worker
    with publishing(out, "corpus") as folder:
        index = folder / ".index"
        index.mkdir()
        duplicates = Duplicates(index, config.duplicates)
        tally = Tally(duplicates)
        with (
            Quarantine(folder / "quarantine.jsonl") as quarantine,
            ShardWriter(folder, config.records_per_shard) as writer,
            process_map(Preparation(config, splitter), reader.parts(downloads), workers) as blocks,
        ):
            for block in blocks:
                distinct = _without_duplicates(block, duplicates, quarantine)
                splitter.note(pc.unique(distinct.column("group")).to_pylist, distinct.column("id").to_pylist)
                weighted = weights.apply(distinct)
                tally.add(weighted)
                for split in SPLITS:
                    writer.add(split, weighted.filter(pc.equal(weighted.column("split"), split)))
                report(tally.num_records, tally.summary(quarantine.reasons))
        duplicates.close()
        shutil.rmtree(index)
        splitter.check(writer.num_records, quarantine.reasons, tally.num_groups)
        write_json(folder / "source.json", reader.describe())
        write_json(folder / "metrics.json", tally.metrics(quarantine.reasons))
        total = sum(writer.num_records.values())
        report(total, tally.summary(quarantine.reasons), total)
    for warning in tally.warnings(quarantine.reasons):
        print(f"ingest: warning: {warning}", file=sys.stderr)


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
