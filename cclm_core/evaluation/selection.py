"""Which documents and texts an evaluation reads: the same for every composition."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from cclm_core.corpus.encoded import EncodedSplit
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.random import derive
from cclm_core.text.vocabulary import Preprocessor

CLEAN = "clean"


class TextSet(NamedTuple):
    """Test documents, clean or at one noise rate.

    Attributes:
        name: `clean`, `noise_` and the rate, or the name of a set with a recipe of its own.
        rate: edits per letter, 0 for clean; None for a set with a recipe of its own.
        ids, texts, labels, entities: of each document; entities are (start, end, label) in characters.
    """

    name: str
    rate: float | None
    ids: list[str]
    texts: list[str]
    labels: list[str | None]
    entities: list[list[tuple[int, int, str]]]


def read_text_sets(folder: Path) -> list[TextSet]:
    """The clean set, the set of every noise rate of `folder`, by rising rate, and the named sets.

    Raises:
        ArtifactError: the clean set is missing.
    """
    if not (folder / "clean.parquet").is_file():
        raise ArtifactError(f"clean.parquet not found in {folder}. Run the stage `noise`.")
    rates = sorted((path.stem.removeprefix("rate-") for path in folder.glob("rate-*.parquet")), key=float)
    noisy = [_read(folder / f"rate-{rate}.parquet", f"noise_{rate}", float(rate)) for rate in rates]
    named = [_read(path, path.stem.removeprefix("set-"), None) for path in sorted(folder.glob("set-*.parquet"))]
    return [_read(folder / "clean.parquet", CLEAN, 0.0), *noisy, *named]


def labeled(clean: TextSet, min_characters: int) -> set[str]:
    """The ids of the test documents that have a label and, without noise, at least `min_characters` characters."""
    rows = zip(clean.ids, clean.texts, clean.labels, strict=True)
    return {number for number, text, label in rows if label is not None and len(text) >= min_characters}


def of_variants(documents: pd.DataFrame, variants: tuple[str, ...]) -> pd.DataFrame:
    """The rows whose variant is among `variants`, and those that have none."""
    return documents[documents["variant"].isna() | documents["variant"].isin(variants)]


def shuffled(documents: pd.DataFrame, seed: int, *purpose: str) -> pd.DataFrame:
    """The rows in a random order that depends on `seed` and `purpose`."""
    return documents.iloc[derive(seed, "evaluation", *purpose).permutation(len(documents))]


def up_to(documents: pd.DataFrame, num_ids: int) -> pd.DataFrame:
    """The first rows, until they hold `num_ids` ids; at least one, if there are any."""
    before = documents["length"].cumsum() - documents["length"]
    return documents[before < num_ids]


def document_ids(
    split: EncodedSplit, documents: pd.DataFrame, longest: int | None = None
) -> list[npt.NDArray[np.uint16]]:
    """The ids of each document (L,), cut after `longest`."""
    return [split.ids[start:stop] for start, stop in bounds(documents, longest)]


def texts_of(split: EncodedSplit, documents: pd.DataFrame, preprocessor: Preprocessor, longest: int) -> list[str]:
    """The text of each document, cut after `longest` ids."""
    return [preprocessor.decode(ids) for ids in document_ids(split, documents, longest)]


def bounds(documents: pd.DataFrame, longest: int | None = None) -> list[tuple[int, int]]:
    """The range of ids of each document, cut after `longest`."""
    starts = documents["start"].to_numpy(np.int64)
    lengths = documents["length"].to_numpy(np.int64)
    lengths = lengths if longest is None else np.minimum(lengths, longest)
    return list(zip(starts.tolist(), (starts + lengths).tolist(), strict=True))


def _read(path: Path, name: str, rate: float | None) -> TextSet:
    rows = pq.read_table(path, columns=["id", "text", "label", "entities"]).to_pydict()
    entities = [[(span["start"], span["end"], span["label"]) for span in spans or []] for spans in rows["entities"]]
    return TextSet(name, rate, rows["id"], rows["text"], rows["label"], entities)
