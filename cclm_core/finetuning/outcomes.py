"""Outcomes: the statistics of every test text, by which two models of one task are compared on the same texts."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cclm_core.evaluation.metrics import Bootstrap, Measurement
from cclm_core.finetuning.measures import FORMULAS, measurement
from cclm_core.labeled.examples import LabeledText
from cclm_core.runtime.config import canonical_json
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.parquet import read_parquet

FILE = "outcomes.parquet"
_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("set", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("statistics", pa.list_(pa.float64()), nullable=False),
    ]
)

Outcomes = dict[tuple[str, str], tuple[list[str], Measurement]]
"""Test set and metric -> the ids of the texts, and the measurement."""


def texts_digest(texts: Sequence[LabeledText]) -> str:
    """SHA-256 of texts with their targets and slices. Two models can be compared only on the same ones."""
    digest = hashlib.sha256()
    for text in texts:
        values = {name: value for name, value in asdict(text).items() if value not in (None, (), {})}
        digest.update(canonical_json(values).encode("utf-8") + b"\n")
    return digest.hexdigest()


def write_outcomes(folder: Path, outcomes: Sequence[dict[str, Any]]) -> None:
    """Writes outcomes.parquet into a folder that is being published."""
    pq.write_table(pa.Table.from_pylist(list(outcomes), schema=_SCHEMA), folder / FILE, compression="zstd")


def read_outcomes(folder: Path) -> Outcomes:
    """Reads outcomes.parquet of published results.

    Raises:
        ArtifactError: the file is missing or damaged, or names an unknown metric.
    """
    path = folder / FILE
    if not path.is_file():
        raise ArtifactError(f"{FILE} not found in {folder}. Run the stage `test` again.")
    rows: dict[tuple[str, str], list[tuple[str, list[float]]]] = {}
    for row in read_parquet(path, _SCHEMA).to_pylist():
        if row["metric"] not in FORMULAS:
            raise ArtifactError(f"{path} has the unknown metric {row['metric']!r:.80}. Run the stage `test` again.")
        rows.setdefault((row["set"], row["metric"]), []).append((row["id"], row["statistics"]))
    outcomes: Outcomes = {}
    for key, entries in rows.items():
        entries.sort()
        if len({len(statistics) for _, statistics in entries}) != 1:
            raise ArtifactError(f"{path} has statistics of different lengths. Run the stage `test` again.")
        statistics = np.array([values for _, values in entries], dtype=np.float64)
        outcomes[key] = [name for name, _ in entries], measurement(key[1], statistics)
    return outcomes


class Gain(NamedTuple):
    """How much better a candidate is, in the better direction of its metric, with a confidence interval."""

    value: float
    low: float
    high: float


def gains(candidate: Outcomes, champion: Outcomes, bootstrap: Bootstrap, seed: int) -> dict[str, Gain]:
    """How much better the candidate is than the champion on the same texts, by paired bootstrap.

    Args:
        candidate, champion: outcomes of the same test texts.
        bootstrap: settings of the interval.
        seed: seed of the resampling.

    Returns:
        `METRIC_SET` -> the gain.

    Raises:
        ArtifactError: the texts or sets differ.
    """
    if candidate.keys() != champion.keys():
        missing = sorted("_".join((metric, name)) for name, metric in candidate.keys() ^ champion.keys())
        raise ArtifactError(
            f"the models were measured on different test sets: {', '.join(missing)} exists for one only."
        )
    result = {}
    for (name, metric), (ids, new) in candidate.items():
        old_ids, old = champion[name, metric]
        if ids != old_ids:
            raise ArtifactError(f"the models were measured on different texts of the set {name}.")
        difference = new.loss_without(old)
        low, high = bootstrap.interval(difference, seed) or (difference.value, difference.value)
        result[f"{metric}_{name}"] = Gain(difference.value, low, high)
    return result
