"""Selects the documents and texts that an evaluation reads, the same ones for all compositions."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from cclm_core.corpus.encoded_split import EncodedSplit
from cclm_core.corpus.records import SCHEMA
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.parquet import read_parquet
from cclm_core.runtime.random import derive

CLEAN = "clean"

_SCHEMA = pa.schema([SCHEMA.field(name) for name in ("id", "text", "label", "entities")])


class TextSet(NamedTuple):
    """A test set: the test documents, clean or with noise.

    Attributes:
        name: `clean`, `noise_RATE`, or the name of a set in `noise.sets`.
        rate: edits per letter, 0 for the clean set; None for a set in `noise.sets`.
        ids, texts, labels, entities: one per document; entities are (start, end, label) in characters.
    """

    name: str
    rate: float | None
    ids: list[str]
    texts: list[str]
    labels: list[str | None]
    entities: list[list[tuple[int, int, str]]]


def read_text_sets(folder: Path) -> list[TextSet]:
    """The test sets in `folder`: the clean set, the sets by increasing noise rate, then the named sets.

    Raises:
        ArtifactError: the clean set is missing.
    """
    if not (folder / "clean.parquet").is_file():
        raise ArtifactError(f"clean.parquet not found in {folder}. Run `cclm run --target noise`.")
    rates = sorted((path.stem.removeprefix("rate-") for path in folder.glob("rate-*.parquet")), key=float)
    noisy = [_read(folder / f"rate-{rate}.parquet", f"noise_{rate}", float(rate)) for rate in rates]
    named = [_read(path, path.stem.removeprefix("set-"), None) for path in sorted(folder.glob("set-*.parquet"))]
    return [_read(folder / "clean.parquet", CLEAN, 0.0), *noisy, *named]


def labeled_ids(clean: TextSet, min_characters: int) -> set[str]:
    """Ids of the test documents with a label and, without noise, at least `min_characters` characters."""
    rows = zip(clean.ids, clean.texts, clean.labels, strict=True)
    return {number for number, text, label in rows if label is not None and len(text) >= min_characters}


def with_variants(documents: pd.DataFrame, variants: tuple[str, ...] | None) -> pd.DataFrame:
    """The documents with one of these variants, and those without a variant; None for all documents."""
    if variants is None:
        return documents
    return documents[documents["variant"].isna() | documents["variant"].isin(variants)]


def shuffled(documents: pd.DataFrame, seed: int, *purpose: str) -> pd.DataFrame:
    """The documents in random order, seeded with `seed` and `purpose`."""
    return documents.iloc[derive(seed, "evaluation", *purpose).permutation(len(documents))]


def limit_ids(documents: pd.DataFrame, num_ids: int) -> pd.DataFrame:
    """The first documents, up to the one that reaches `num_ids` ids in total."""
    before = documents["length"].cumsum() - documents["length"]
    return documents[before < num_ids]


def document_ids(
    split: EncodedSplit, documents: pd.DataFrame, max_ids: int | None = None
) -> list[npt.NDArray[np.uint16]]:
    """The ids (L,) of each document, truncated to `max_ids`."""
    return [split.ids[start:stop] for start, stop in bounds(documents, max_ids)]


def bounds(documents: pd.DataFrame, max_ids: int | None = None) -> list[tuple[int, int]]:
    """The range of ids of each document, truncated to `max_ids`."""
    starts = documents["start"].to_numpy(np.int64)
    lengths = documents["length"].to_numpy(np.int64)
    lengths = lengths if max_ids is None else np.minimum(lengths, max_ids)
    return list(zip(starts.tolist(), (starts + lengths).tolist(), strict=True))


def _read(path: Path, name: str, rate: float | None) -> TextSet:
    rows = read_parquet(path, _SCHEMA).to_pydict()
    entities = [[(span["start"], span["end"], span["label"]) for span in spans or []] for spans in rows["entities"]]
    return TextSet(name, rate, rows["id"], rows["text"], rows["label"], entities)
