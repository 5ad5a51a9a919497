"""The stage `noise`: noise sets of the test split, one per recipe, and a clean set."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cclm_core.corpus.records import SCHEMA, Record, read_records
from cclm_core.noise.engine import num_opportunities
from cclm_core.noise.kinds import kind_names
from cclm_core.noise.misspellings import write_misspellings
from cclm_core.noise.recipe import NoiseConfig, NoiseRecipe
from cclm_core.noise.text import NoisedText, TextNoiser, noise_text
from cclm_core.runtime.artifacts import publishing, verify, write_json
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.random import derive, derive_seed
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params
from cclm_core.steps.spellings import misspellings

_SCHEMA = pa.schema(
    [SCHEMA.field(name) for name in ("id", "text", "label", "group", "entities")]
    + [pa.field("source", pa.list_(pa.int32()), nullable=False)]
)


def noise(params: Params, corpus: Path, out: Path, report: Report) -> None:
    """Publishes noise sets of the same test documents, and the misspellings that they use.

    ```
    clean.parquet        the documents without noise
    rate-0.05.parquet    one set for each of `rates`
    set-NAME.parquet     one set for each of `sets`
    misspellings.csv     word, misspelling, count; only the header without a source of misspellings
    metrics.json         sizes, and the measured rates of each set
    ```

    Columns: id, text, label, group, entities (moved), source (the edit map: see `noise.edits`). The noise of a document
    is seeded with its set and id, so it does not depend on other documents or their order.

    Args:
        params: the parameters; reads the seed and the section `noise`.
        corpus: folder of the corpus.
        out: folder to publish the sets at.
        report: receives the requested and the measured rate of each set.

    Raises:
        ConfigError: invalid section or seed, or a set needs misspellings and no source has any.
        ArtifactError: `corpus` is not a corpus.
        IntegrityError: `corpus` was altered.
        DataError: the test split has no document of these variants, or misspellings cannot be read or learned.
    """
    config, run_seed = params.section(NoiseConfig), params.seed
    verify(corpus, "corpus")
    records = sample(read_records(corpus, "test"), config, run_seed)
    if not records:
        variants = f" of the variants {', '.join(config.variants)}" if config.variants is not None else ""
        raise DataError(
            f"no document{variants} in the test split of {corpus}. Check noise.variants, and ingest.test_groups or "
            "ingest.test_share."
        )
    spellings = misspellings(config, corpus)
    sets = {f"rate-{rate:g}": config.recipe(rate) for rate in config.rates}
    sets |= {f"set-{name}": recipe for name, recipe in config.sets.items()}
    with publishing(out, "noise") as folder:
        write_misspellings(folder / "misspellings.csv", spellings)
        _write(folder / "clean.parquet", (_row(record, _clean(record)) for record in records))
        measured: dict[str, Any] = {}
        for number, (name, recipe) in enumerate(sets.items()):
            tally = _write_set(folder / f"{name}.parquet", records, TextNoiser(recipe, spellings), run_seed)
            key = name.removeprefix("rate-").removeprefix("set-")
            measured[key] = tally.measured()
            report(number + 1, {"rate": recipe.rate, "rate_measured": measured[key]["rate"]}, len(sets))
        sizes = {
            "documents": len(records),
            "characters": sum(len(record.text) for record in records),
            "entities": sum(len(record.entities) for record in records),
        }
        words = {"words_misspelt": len(spellings), "misspellings": sum(map(len, spellings.values()))}
        write_json(folder / "metrics.json", {**sizes, **words, "rates": measured})


def sample(records: Iterable[Record], config: NoiseConfig, run_seed: int) -> list[Record]:
    """At most `max_documents` of the records, sorted by id. The order of `records` does not matter.

    Selects the ids with the lowest hashes, so adding a record changes at most one document.
    """
    candidates = (
        record
        for record in records
        if config.variants is None or record.variant is None or record.variant in config.variants
    )
    lowest = heapq.nsmallest(
        config.max_documents,
        candidates,
        key=lambda record: (derive_seed(run_seed, "noise", "document", record.id), record.id),
    )
    return sorted(lowest, key=lambda record: record.id)


@dataclass
class Tally:
    """Counts the edits in a noise set."""

    chances: int = 0
    edits: Counter[str] = field(default_factory=Counter)
    entities_kept: int = 0
    entities_lost: int = 0

    def count(self, record: Record, noiser: TextNoiser, noised: NoisedText) -> NoisedText:
        """Counts the edits of one document. Returns `noised`."""
        self.chances += num_opportunities(noiser.eligible(record.text, record.entities), noised.edits)
        names = kind_names()
        self.edits.update(names[kind] for kind in noised.edits.kinds.tolist())
        self.entities_kept += len(noised.entities)
        self.entities_lost += len(record.entities) - len(noised.entities)
        return noised

    def measured(self) -> dict[str, Any]:
        """Edits per character (or word) that could be edited, in total and by kind.

        Characters that the edit of another one consumes, such as the second of a swap, are not counted.
        """
        chances = max(1, self.chances)
        return {
            "chances": self.chances,
            "edits": self.edits.total(),
            "rate": self.edits.total() / chances,
            "rate_by_kind": {name: self.edits[name] / chances for name in kind_names() if self.edits[name]},
            "entities_kept": self.entities_kept,
            "entities_lost": self.entities_lost,
        }


def _write_set(path: Path, records: list[Record], noiser: TextNoiser, run_seed: int) -> Tally:
    """Writes the noised records to `path`, whose name is part of the seed, and counts their edits."""
    name, tally = path.stem, Tally()
    seed_name = f"{noiser.recipe.rate:g}" if name.startswith("rate-") else name
    _write(
        path,
        (_row(record, tally.count(record, noiser, _noised(record, noiser, run_seed, seed_name))) for record in records),
    )
    return tally


def _noised(record: Record, noiser: TextNoiser, run_seed: int, set_name: str) -> NoisedText:
    return noiser(record.text, derive(run_seed, "noise", set_name, record.id), record.entities)


def _clean(record: Record) -> NoisedText:
    return noise_text(record.text, NoiseRecipe(rate=0), np.random.default_rng(0), record.entities)


def _row(record: Record, noised: NoisedText) -> dict[str, Any]:
    return {
        "id": record.id,
        "text": noised.text,
        "label": record.label,
        "group": record.group,
        "entities": [entity._asdict() for entity in noised.entities],
        "source": noised.source,
    }


def _write(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows), schema=_SCHEMA), path, compression="zstd")
