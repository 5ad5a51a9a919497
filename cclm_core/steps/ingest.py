"""The stage `ingest`: reads the sources, splits them by group, and publishes records and rejected input.

It also profiles the data and checks the expectations of `ingest.expectations`, see docs/contract.md.
"""

import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
from cclm_core.ingest.expectations import NOT_COMPARED, NOT_MET, Check, check
from cclm_core.ingest.measures import Incoming, differences
from cclm_core.ingest.mixed import Weights
from cclm_core.ingest.prepare import Block, Preparation
from cclm_core.ingest.profile import PROFILE, Accepted, Profile, Profiler, Unit, profile_json
from cclm_core.ingest.tally import Tally
from cclm_core.runtime.artifacts import publishing, write_json
from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params

CHECKS = "checks"
"""The kind of artifact with the profile of the data and the checked expectations."""


@dataclass(frozen=True)
class Contract:
    """Where the contract on the data is.

    Args:
        accepted: folder with the profile of the data that were accepted last; see `ingest.profile`.
        checks: folder to publish the profile of the corpus and the checks at.
        refused: folder to publish them at if an expectation stops the stage, instead of `checks`.
    """

    accepted: Path
    checks: Path
    refused: Path


def ingest(
    params: Params,
    downloads: Path,
    out: Path,
    report: Report,
    workers: int | None = None,
    contract: Contract | None = None,
) -> None:
    """Reads each source as a stream and publishes the corpus.

    If an expectation with the action `quarantine` is not met, the sources are read again without what it is about.

    Args:
        params: the parameters; reads the seed and the section `ingest`.
        downloads: folder where archives are kept between runs.
        out: folder to publish the corpus at: shards (see `corpus.records`), quarantine.jsonl, source.json,
            metrics.json.
        report: receives the number of records read and rejected.
        workers: number of processes; does not change the result. None for `corpus.parallel.num_workers`.
        contract: where the contract on the data is; None to check none.

    Raises:
        ConfigError: invalid section, or it has expectations and there is no contract.
        DataError: the source cannot be read, a split gets no record, or an expectation stops the stage.
        IntegrityError: an archive's checksum does not match.
    """
    config = params.section(IngestConfig)
    if config.expectations and contract is None:
        raise ConfigError(
            f"{params.source}: ingest.expectations need the folder of the accepted data. Pass --accepted, --checks and "
            "--refused, as dvc.yaml does, or remove the expectations."
        )
    accepted = None if contract is None else Accepted.read(contract.accepted)
    with ExitStack() as stack:
        folder = stack.enter_context(publishing(out, "corpus"))
        reading = _Reading(config, params.seed, downloads, report, workers, accepted)
        profiles = reading.write(folder, {})
        checks = check(config.expectations, profiles, accepted)
        if contract is not None:
            checks_folder = stack.enter_context(publishing(contract.checks, CHECKS))
            _refuse(checks, contract, profiles, accepted)
            if excluded := _excluded(checks):
                _empty(folder)
                _write_checks(checks_folder / "refused", checks, profiles, accepted)
                profiles = reading.write(folder, excluded)
            _write_checks(checks_folder, checks, profiles, accepted)
    for item in checks:
        if item.state in (NOT_MET, NOT_COMPARED):
            print(f"ingest: {'warning: ' if item.state == NOT_MET else ''}{item.message}", file=sys.stderr)
    for warning in reading.warnings:
        print(f"ingest: warning: {warning}", file=sys.stderr)
    if contract is not None:
        shutil.rmtree(contract.refused, ignore_errors=True)


class _Reading:
    """Reads all sources into the folder of a corpus.

    Attributes:
        warnings: what makes figures uncertain, see `Tally.warnings`.
    """

    def __init__(
        self,
        config: IngestConfig,
        seed: int,
        downloads: Path,
        report: Report,
        workers: int | None,
        accepted: Accepted | None,
    ) -> None:
        self.warnings: list[str] = []
        self._config, self._seed, self._downloads, self._report = config, seed, downloads, report
        self._reader, self._accepted = config.reader, accepted
        if not (self._reader.reads_in_workers or config.filters or config.transforms or config.duplicates):
            workers = 1  # processing a record takes less time than sending it to a worker
        self._workers = workers

    def write(self, folder: Path, excluded: Mapping[Unit, str]) -> dict[Unit, Profile]:
        """Writes the corpus without the excluded sources and files; returns the profiles of the input.

        Raises:
            DataError: the source cannot be read, or a split gets no record.
            IntegrityError: an archive's checksum does not match.
        """
        config, splitter = self._config, self._config.splitter(self._seed)
        weights = Weights(self._seed, config.sources)
        profiler = Profiler(self._accepted, any(member.by == "file" for member in config.expectations))
        prepared = Preparation(config, splitter, excluded)
        with (
            _duplicates(folder, config) as duplicates,
            Quarantine(folder / "quarantine.jsonl") as quarantine,
            ShardWriter(folder, config.records_per_shard) as writer,
            process_map(prepared, self._reader.parts(self._downloads), self._workers) as blocks,
        ):
            tally = Tally(duplicates)
            for block in blocks:
                is_kept, rejected = _without_duplicates(block, duplicates)
                for item in rejected:
                    quarantine.add(item)
                distinct = block.table if is_kept.all() else block.table.filter(pa.array(is_kept))
                profiler.add(block.source, distinct, *_locations(block, is_kept), rejected)
                splitter.note(pc.unique(distinct.column("group")).to_pylist, distinct.column("id").to_pylist)
                weighted = weights.apply(distinct)
                tally.add(weighted)
                for split in SPLITS:
                    writer.add(split, weighted.filter(pc.equal(weighted.column("split"), split)))
                self._report(tally.num_records, tally.summary(quarantine.reasons))
        splitter.check(writer.num_records, quarantine.reasons, tally.num_groups)
        write_json(folder / "source.json", self._reader.describe())
        write_json(folder / "metrics.json", tally.metrics(quarantine.reasons))
        total = sum(writer.num_records.values())
        self._report(total, tally.summary(quarantine.reasons), total)
        self.warnings = tally.warnings(quarantine.reasons)
        return profiler.finish()


@contextmanager
def _duplicates(folder: Path, config: IngestConfig) -> Iterator[Duplicates]:
    """The index of duplicates, in a folder that is deleted at the end."""
    index = folder / ".index"
    index.mkdir()
    duplicates = Duplicates(index, config.duplicates)
    yield duplicates
    duplicates.close()
    shutil.rmtree(index)


def _locations(block: Block, is_kept: npt.NDArray[np.bool_]) -> tuple[list[str], list[int]]:
    """Files and lines of the kept records of a block."""
    rows = np.flatnonzero(is_kept).tolist()
    return [block.files[row] for row in rows], [int(block.lines[row]) for row in rows]


def _without_duplicates(block: Block, duplicates: Duplicates) -> tuple[npt.NDArray[np.bool_], list[Rejected]]:
    """Which records of a block are no repeats, (N,), and repeats and rejected input in the order of the source."""
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
    return is_kept, [item for _, item in sorted(rejected, key=lambda pair: pair[0])]


def _refuse(
    checks: list[Check], contract: Contract, profiles: Mapping[Unit, Profile], accepted: Accepted | None
) -> None:
    """Stops the stage if an expectation demands it, and publishes what was checked in the folder of refused data."""
    stopping = [item for item in checks if item.state == NOT_MET and item.action == "stop"]
    if not stopping:
        return
    with publishing(contract.refused, CHECKS) as folder:
        _write_checks(folder, checks, profiles, accepted)
    unmet = "an expectation" if len(stopping) == 1 else f"{len(stopping)} expectations"
    lines = "\n".join(f"  {item.message}" for item in stopping)
    raise DataError(
        f"the incoming data do not meet {unmet}, so the former corpus is kept:\n{lines}\nCorrect the input. If the "
        "change is intended, accept it with `cclm data accept --refused`, or change the bound in params.yaml, and run "
        "again."
    )


def _excluded(checks: list[Check]) -> dict[Unit, str]:
    """The sources and files to put into quarantine, each with the reason."""
    excluded: dict[Unit, str] = {}
    for item in checks:
        if item.state == NOT_MET and item.action == "quarantine":
            excluded.setdefault(item.unit, f"expectation {item.expectation} of its {_kind(item.unit)} not met")
    return excluded


def _kind(unit: Unit) -> str:
    return "file" if unit.file else "source"


def _write_checks(
    folder: Path, checks: list[Check], profiles: Mapping[Unit, Profile], accepted: Accepted | None
) -> None:
    """Writes the profiles of the sources, and the checks and differences as `metrics.json`."""
    folder.mkdir(exist_ok=True)
    sources = {unit.source: profile for unit, profile in profiles.items() if not unit.file}
    write_json(folder / PROFILE, profile_json(profiles))
    write_json(
        folder / "metrics.json",
        {
            "accepted": accepted is not None,
            "checks": [item.as_json() for item in checks],
            "differences": {name: differences(Incoming(Unit(name), sources[name], accepted)) for name in sources},
        },
    )


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
