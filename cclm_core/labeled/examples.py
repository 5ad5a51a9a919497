"""A labeled data set on disk: one Parquet file per split, and a description.

```
train.parquet, validation.parquet, test.parquet   the texts of each split, in the order of the source
labeled.json                                      task, labels, whether the texts are pairs, slice columns
metrics.json, quarantine.jsonl, source.json       counts and warnings, rejected input, where the texts come from
```

Equal texts give equal bytes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from cclm_core.corpus.records import SPLITS, Entity, encodable, entities_fault
from cclm_core.runtime.artifacts import read_json, verify, write_json
from cclm_core.runtime.errors import ArtifactError, ConfigError
from cclm_core.runtime.files import StrPath, as_path
from cclm_core.runtime.parquet import read_row_groups

LabeledTask = Literal["classify", "multilabel", "regress", "tag"]
"""One label per text, any number of labels, a number, or entities."""

TASKS: tuple[LabeledTask, ...] = get_args(LabeledTask)

DESCRIPTION = "labeled.json"

_REMEDY = "Delete the folder, then run `dvc checkout` or the stage `labeled`."
_GROUP_TEXTS = 4096
_GROUP_CHARACTERS = 4 << 20
_KEYS = {"task": str, "labels": list, "is_pair": bool, "slices": list}
_WORD = pa.struct([("start", pa.int32()), ("end", pa.int32())])
_ENTITY = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string())])
_SLICE = pa.struct([("name", pa.string()), ("value", pa.string())])
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("second", pa.string()),
        pa.field("label", pa.string()),
        pa.field("labels", pa.list_(pa.string()), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("entities", pa.list_(_ENTITY), nullable=False),
        pa.field("words", pa.list_(_WORD), nullable=False),
        pa.field("group", pa.string()),
        pa.field("slices", pa.list_(_SLICE), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class LabeledText:
    """One text, or pair of texts, with what a model is trained to predict.

    Args:
        id: unique in the data set.
        text: not empty.
        second: the second text of a pair; None unless the task is on pairs.
        label: the label, for `classify`.
        labels: the labels, sorted and without repeats, for `multilabel`; may be empty.
        value: the target, finite, for `regress`.
        entities: character spans in `text`, sorted and without overlaps, for `tag`.
        words: character spans of the words of `text`, in order, for `tag`; empty if the source has no words.
        group: texts of a group are in one split; None for no group.
        slices: slice column → value, for figures by slice. A column without a value is left out.
    """

    id: str
    text: str
    second: str | None = None
    label: str | None = None
    labels: tuple[str, ...] = ()
    value: float | None = None
    entities: tuple[Entity, ...] = ()
    words: tuple[tuple[int, int], ...] = ()
    group: str | None = None
    slices: Mapping[str, str] = field(default_factory=dict)


def fault(text: LabeledText, task: LabeledTask, is_pair: bool) -> str | None:
    """The reason why `text` cannot be in a data set of this task; None if it can.

    >>> fault(LabeledText("1", "Where is my card?", label="card"), "classify", is_pair=False)
    >>> fault(LabeledText("1", "Where is my card?"), "classify", is_pair=False)
    'no label'
    """
    for value in (text.text, text.second) if is_pair else (text.text,):
        if value is None or not value or value.isspace():
            return "empty text"
    strings = (text.id, text.text, text.second, text.label, text.group, *text.labels, *text.slices.values())
    for value in strings:
        if value is not None and "\0" in value:
            return "NUL character"
        if value is not None and not encodable(value):
            return "lone surrogate"
    if task == "classify":
        return None if text.label is not None and text.label.strip() else "no label"
    if task == "multilabel":
        return None if all(label.strip() for label in text.labels) else "empty label"
    if task == "regress":
        return None if text.value is not None and math.isfinite(text.value) else "target is not a finite number"
    return _span_fault(text)


class LabeledSet:
    """A published labeled data set. Its texts are read when they are asked for.

    Attributes:
        folder: the published folder.
        digest: SHA-256 of its manifest.
        task: `classify`, `multilabel`, `regress` or `tag`.
        labels: the labels of the train split, sorted; entity labels for `tag`, none for `regress`.
        is_pair: whether every text has a second one.
        slices: names of the slice columns.
    """

    def __init__(self, folder: Path, digest: str, description: Mapping[str, Any]) -> None:
        self.folder, self.digest = folder, digest
        self.task: LabeledTask = description["task"]
        self.labels: tuple[str, ...] = tuple(description["labels"])
        self.is_pair: bool = description["is_pair"]
        self.slices: tuple[str, ...] = tuple(description["slices"])

    @classmethod
    def open(cls, folder: StrPath) -> Self:
        """Checks the digests of a published folder and reads its description.

        Raises:
            ArtifactError: the folder is missing, or is not a labeled data set.
            IntegrityError: a file is missing, unexpected or altered.
        """
        folder = as_path(folder, "folder")
        digest = verify(folder, "labeled")
        description = read_json(folder / DESCRIPTION)
        if set(description) != set(_KEYS) or not all(isinstance(description[key], _KEYS[key]) for key in _KEYS):
            raise ArtifactError(f"{folder / DESCRIPTION} must have the keys {', '.join(_KEYS)}. {_REMEDY}")
        if description["task"] not in TASKS:
            raise ArtifactError(
                f"{folder / DESCRIPTION}: task must be one of {', '.join(TASKS)}, got {description['task']!r:.80}. "
                f"{_REMEDY}"
            )
        if not all(isinstance(name, str) for key in ("labels", "slices") for name in description[key]):
            raise ArtifactError(f"{folder / DESCRIPTION}: labels and slices must be lists of names. {_REMEDY}")
        return cls(folder, digest, description)

    def split(self, name: str) -> list[LabeledText]:
        """The texts of a split, in the order of the source.

        Args:
            name: `train`, `validation` or `test`.

        Raises:
            ConfigError: another name.
            ArtifactError: the file is damaged.
        """
        if name not in SPLITS:
            raise ConfigError(f"`name` must be one of {', '.join(SPLITS)}, got {name!r:.80}.")
        path = self.folder / f"{name}.parquet"
        texts = []
        for table in read_row_groups(path, SCHEMA):
            for row in table.to_pylist():
                text = _labeled_text(row)
                if (reason := fault(text, self.task, self.is_pair)) is not None:
                    raise ArtifactError(f"{path} is damaged: text {text.id!r:.80}: {reason}. {_REMEDY}")
                texts.append(text)
        return texts


def write_labeled(
    folder: StrPath, task: LabeledTask, splits: Mapping[str, Sequence[LabeledText]], slices: Sequence[str] = ()
) -> None:
    """Writes the texts and the description of a data set; the caller publishes the folder as `labeled`.

    Args:
        folder: an existing folder.
        task: the task.
        splits: `train`, `validation` and `test` → their texts. All of them are pairs, or none is.
        slices: names of the slice columns.
    """
    folder = as_path(folder, "folder")
    is_pair = any(text.second is not None for text in splits["train"])
    for split in SPLITS:
        for text in splits[split]:
            reason = fault(text, task, is_pair)
            assert reason is None, f"{text.id}: {reason}"
        _write(folder / f"{split}.parquet", splits[split])
    description = {
        "task": task,
        "labels": sorted(train_labels(splits["train"])),
        "is_pair": is_pair,
        "slices": list(slices),
    }
    write_json(folder / DESCRIPTION, description)


def train_labels(texts: Iterable[LabeledText]) -> set[str]:
    """The labels, of texts and of entities, that occur in `texts`."""
    labels: set[str] = set()
    for text in texts:
        labels.update(text.labels)
        labels.update(entity.label for entity in text.entities)
        if text.label is not None:
            labels.add(text.label)
    return labels


def _write(path: Path, texts: Sequence[LabeledText]) -> None:
    with pq.ParquetWriter(path, SCHEMA, compression="zstd", compression_level=1, version="2.6") as writer:
        group: list[LabeledText] = []
        characters = 0
        for text in texts:
            group.append(text)
            characters += len(text.text) + len(text.second or "")
            if len(group) == _GROUP_TEXTS or characters >= _GROUP_CHARACTERS:
                writer.write_table(_table(group))
                group, characters = [], 0
        writer.write_table(_table(group))


def _table(texts: Sequence[LabeledText]) -> pa.Table:
    return pa.Table.from_pydict({name: [_cell(text, name) for text in texts] for name in SCHEMA.names}, SCHEMA)


def _cell(text: LabeledText, name: str) -> Any:
    if name == "entities":
        return [entity._asdict() for entity in text.entities]
    if name == "words":
        return [{"start": start, "end": end} for start, end in text.words]
    if name == "slices":
        return [{"name": column, "value": value} for column, value in sorted(text.slices.items())]
    return getattr(text, name)


def _labeled_text(row: dict[str, Any]) -> LabeledText:
    return LabeledText(
        row["id"],
        row["text"],
        row["second"],
        row["label"],
        tuple(row["labels"]),
        row["value"],
        tuple(Entity(**entity) for entity in row["entities"]),
        tuple((word["start"], word["end"]) for word in row["words"]),
        row["group"],
        {part["name"]: part["value"] for part in row["slices"]},
    )


def _span_fault(text: LabeledText) -> str | None:
    if (reason := entities_fault(text.text, text.entities)) is not None:
        return reason
    previous = 0
    for start, end in text.words:
        if not previous <= start < end <= len(text.text):
            return "word span out of range"
        previous = end
    return None
