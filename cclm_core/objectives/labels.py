"""Labels: the label of the document that a text is from."""

import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.corpus.encoded_split import MAX_DOCUMENT_LABELS
from cclm_core.corpus.windows import WindowBatch
from cclm_core.encoders.pooling import Pooling, PoolingKind
from cclm_core.objectives.base import Example, Objective, ObjectiveContext, Sums
from cclm_core.objectives.spans import Span, document_parts, rows_of
from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ArtifactError, ConfigError
from cclm_core.text.vocabulary import PAD

DOCUMENT_LABELS = "document_labels.json"
"""The file with the labels that the head predicts, next to the head."""

_FORMAT = "cclm-document-labels-1"
_MAX_ROWS = 2  # texts per window of the batch; bounds the memory, since short texts are padded to the longest one


class LabelsConfig(Config):
    """Which texts are labeled, and how their characters become one text."""

    objective: Literal["labels"] = "labels"
    min_characters: int = Field(
        default=16, ge=1, description="leave out shorter texts, and shorter parts of documents that a window cuts"
    )
    pooling: PoolingKind = Field(default="mean_max", description="how to pool the characters of a text")
    label_smoothing: float = Field(default=0.1, ge=0, lt=1, description="probability given to the other labels")

    def build(self, context: ObjectiveContext) -> "Labels":
        """Builds the objective with a new head."""
        return Labels(self, context)


class Labels(Objective):
    """Cross-entropy of the label of each document, from its pooled characters.

    A window can hold several documents, or a part of one. Each part is a text of its own, so a long document is read in
    parts that share its label. In training, the texts have typing noise. Documents without a label are left out, and so
    are held-out documents with a label that no training document has.

    With `embedding: {kind: characters}` and `encoder: {kind: none}`, this is a bag of hashed character n-grams with a
    factorized linear head, trained in seconds.

    Held-out metrics: `bits_per_label` and `label_accuracy`.

    Source: fastText (Joulin et al. 2017, arXiv 1607.01759) for the bag of n-grams.

    Raises:
        ConfigError: the training documents have fewer than two labels, or over 1,000.
    """

    selection_metric = "bits_per_label"

    def __init__(self, config: LabelsConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        number = len(context.document_labels)
        if number < 2:
            raise ConfigError(
                f"the objective labels needs training documents with at least two labels, got {number}. Set "
                "ingest.source.columns.label, or use another objective."
            )
        if number > MAX_DOCUMENT_LABELS:
            raise ConfigError(
                f"the objective labels needs categories, at most {MAX_DOCUMENT_LABELS:,} labels, got more. Check "
                "ingest.source.columns.label."
            )
        self.config, self.labels = config, context.document_labels
        self.pooling = Pooling(config.pooling, context.width)
        self.linear = nn.Linear(self.pooling.width, number)

    def save(self, folder: Path) -> None:
        """Writes the head, and the labels that it predicts."""
        super().save(folder)
        write_json(folder / DOCUMENT_LABELS, {"format": _FORMAT, "labels": list(self.labels)})

    def example(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Example:
        """Ids (N, L) of the texts, and their `labels` (N,). Rows without an origin have no labels."""
        parts = document_parts(batch.ids)
        labels = np.full(len(parts.rows), -1, dtype=np.int64)
        if batch.origin is not None:
            labels = batch.origin.split.labels_at(batch.origin.positions[parts.rows, parts.starts])
        usable = np.flatnonzero((labels >= 0) & (parts.stops - parts.starts >= self.config.min_characters))
        selected = np.sort(generator.permutation(usable)[: _MAX_ROWS * batch.num_rows])
        spans = [Span(*(int(values[part]) for values in parts)) for part in selected.tolist()]
        rows = rows_of(batch.ids, spans)
        ids = self._noiser(rows, generator).ids if training else rows.ids
        return Example(torch.from_numpy(ids), {"labels": torch.from_numpy(labels[selected])})

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """Cross-entropy with label smoothing. The metrics are those without it."""
        labels = example.targets["labels"]
        logits = self.linear(self.pooling(features, example.ids != PAD)).float()
        smoothing = self.config.label_smoothing
        total = nn.functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
        with torch.no_grad():
            bits = nn.functional.cross_entropy(logits, labels, reduction="sum").item() / math.log(2)
            correct = int((logits.argmax(-1) == labels).sum())
        return total / max(1, len(labels)), {
            self.selection_metric: Sums(bits, len(labels)),
            "label_accuracy": Sums(correct, len(labels)),
        }


def read_document_labels(folder: Path) -> tuple[str, ...]:
    """The labels of a saved head, in the order of its outputs; empty if the folder has none.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = folder / DOCUMENT_LABELS
    if not path.is_file():
        return ()
    content = read_json(path)
    labels = content.get("labels") if isinstance(content, dict) and content.get("format") == _FORMAT else None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ArtifactError(f"{path} must have format {_FORMAT} and a list of labels. Train the component again.")
    return tuple(labels)
