"""One split of an encoded corpus: its ids and tags, its documents, and their labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.parquet import read_row_groups
from cclm_core.text.vocabulary import Ids

if TYPE_CHECKING:  # not needed by workers
    import pandas as pd

Tags = npt.NDArray[np.uint8]

MAX_DOCUMENT_LABELS = 1000
"""More distinct labels of documents are probably identifiers."""

DOCUMENTS = pa.schema(
    [("id", pa.string()), ("start", pa.int64()), ("length", pa.int32())]
    + [(name, pa.string()) for name in ("author", "group", "variant", "label")]
)
"""The columns of the documents of a split."""


@dataclass(frozen=True)
class EncodedSplit:
    """One split of an encoded corpus.

    Attributes:
        ids: (N,) uint16, memory-mapped, read-only.
        tags: (N,) uint8, memory-mapped, read-only.
        path: the Parquet file of the documents.
        training_labels: the labels of the training documents, which are numbered.
    """

    ids: Ids
    tags: Tags
    path: Path
    training_labels: "DocumentLabels"

    @cached_property
    def documents(self) -> "pd.DataFrame":
        """One row per document, in the order of the ids; the module lists the columns."""
        documents: pd.DataFrame = pa.concat_tables(self.document_groups()).to_pandas()
        return documents

    def labels_at(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The number in `document_labels` of the label of the document at each position of `ids`.

        Args:
            positions: any shape, from 0 to N - 1. An END belongs to the document before it.

        Returns:
            The same shape; -1 for a document without a label, or with one that no training document has.
        """
        starts, numbers = self._labels
        labels: npt.NDArray[np.int64] = numbers[np.searchsorted(starts, positions, side="right") - 1]
        return labels

    @cached_property
    def _labels(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The start of each document and the number of its label; 16 bytes of memory per document."""
        names = pa.array(self.training_labels.names, pa.string())
        starts, numbers = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        for group in self.document_groups(["start", "label"]):
            starts.append(group.column("start").to_numpy().astype(np.int64))
            found = pc.index_in(group.column("label"), names).fill_null(-1)
            numbers.append(found.to_numpy().astype(np.int64))
        return np.concatenate(starts), np.concatenate(numbers)

    def document_groups(self, columns: Sequence[str] = DOCUMENTS.names) -> Iterator[pa.Table]:
        """Yields these columns of the documents in tables of bounded size, at least one.

        Raises:
            ArtifactError: the file is missing or damaged, or a document lies outside the ids.
        """
        yield DOCUMENTS.empty_table().select(list(columns))
        for group in read_row_groups(self.path, DOCUMENTS, sorted({*columns, "start", "length"})):
            starts, lengths = (group.column(name).to_numpy().astype(np.int64) for name in ("start", "length"))
            if (
                min(starts.min(initial=0), lengths.min(initial=0)) < 0
                or ((starts > len(self.ids)) | (lengths >= len(self.ids) - starts)).any()
            ):
                raise ArtifactError(
                    f"{self.path} is damaged: a document is outside the ids. Run the stage `vocab` again."
                )
            yield group.select(list(columns))


@dataclass(frozen=True)
class DocumentLabels:
    """The labels of the documents in a Parquet file, which is read once, when they are needed.

    Attributes:
        path: the file.
    """

    path: Path

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The distinct labels, sorted; the column is not read further than to `MAX_DOCUMENT_LABELS` + 1 of them.

        Raises:
            ArtifactError: the file is missing or damaged.
        """
        labels: set[str] = set()
        for group in read_row_groups(self.path, DOCUMENTS, ["label"]):
            labels.update(label for label in pc.unique(group.column("label")).to_pylist() if label is not None)
            if len(labels) > MAX_DOCUMENT_LABELS:
                break
        return tuple(sorted(labels)[: MAX_DOCUMENT_LABELS + 1])
