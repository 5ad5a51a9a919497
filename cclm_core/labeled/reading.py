"""Reads the sources of a labeled data set."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.corpus.records import Record
from cclm_core.ingest.sources.archive import ArchiveConfig
from cclm_core.ingest.sources.conll import TaggedRecord
from cclm_core.ingest.sources.files import named_files
from cclm_core.labeled.columns import LabeledColumns, RowRecord
from cclm_core.labeled.config import LabeledConfig, LabeledDataset, LabeledFiles
from cclm_core.labeled.examples import LabeledText, fault
from cclm_core.labeled.tags import TaggedSentence
from cclm_core.labeled.targets import (
    UnusableError,
    indicated_labels,
    label_list,
    number,
    sentence,
    slice_values,
    string_list,
    tag_list,
)
from cclm_core.runtime.errors import DataError

Source = LabeledFiles | LabeledDataset | ArchiveConfig


class Example(NamedTuple):
    """A labeled text and its location: the name of the file and the line, from 1."""

    text: LabeledText
    file: str
    line: int

    @property
    def location(self) -> str:
        """The location as `file:line`."""
        return f"{self.file}:{self.line}"


@dataclass
class Read:
    """What the sources contain.

    Attributes:
        examples: split → its texts, in order. `train` also has the texts of splits without a source of their own.
        rejected: unusable input, in order.
        sentences: the tags of the sentences, in order.
    """

    examples: dict[str, list[Example]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    sentences: list[TaggedSentence] = field(default_factory=list)


def read_sources(config: LabeledConfig, name: str, downloads: Path) -> Read:
    """Reads all sources of a data set.

    Args:
        config: the configuration of the data set.
        name: its name, for messages.
        downloads: folder for files to keep between runs.

    Raises:
        DataError: a source cannot be read, or a file is in two splits.
    """
    sources = config.sources()
    _refuse_shared_files(sources, name)
    read = Read()
    ids: dict[str, str] = {}
    for split, source in sources.items():
        own: set[str] = set()
        read.examples[split] = []
        for item in _items(config, split, source, name, downloads, read):
            if isinstance(item, Rejected):
                read.rejected.append(item)
                continue
            text = item.text
            if text.id in own:
                original = ids[text.id]
                read.rejected.append(Rejected(item.file, item.line, "duplicate id", text.text, original))
                continue
            own.add(text.id)
            if text.id in ids:  # two sources may number their rows alike
                item = item._replace(text=replace(text, id=f"{split}:{text.id}"))
            ids.setdefault(text.id, item.location)
            read.examples[split].append(item)
    return read


def key_of_source(config: LabeledConfig, split: str) -> str:
    """The key of params.yaml, below the data set, that names the source of a split."""
    part = None if split == "train" else getattr(config, split)
    return "source" if part is None else f"{split}.source" if part.source is not None else split


def _items(
    config: LabeledConfig, split: str, source: Source, name: str, downloads: Path, read: Read
) -> Iterator[Example | Rejected]:
    try:
        for item in source.read(downloads):
            if isinstance(source, LabeledDataset):  # the splits of a dataset have the same title
                item = _in_split(item, source.split)
            yield item if isinstance(item, Rejected) else _example(item, config, source, read)
    except DataError as error:
        key = key_of_source(config, split)
        message = str(error)
        for own in ("paths", "split"):
            if key == split:
                message = message.replace(f"ingest.source.{own}", f"labeled.{name}.{split}.{own}")
        settings = "source" if key == split else key
        raise type(error)(message.replace("ingest.source", f"labeled.{name}.{settings}")) from None


def _example(item: Located, config: LabeledConfig, source: Source, read: Read) -> Example | Rejected:
    record, file, line = item
    try:
        text, tagged = _labeled_text(record, config, source, file, line)
    except UnusableError as error:
        return Rejected(file, line, str(error), record.text or _excerpt(record))
    reason = fault(text, config.task, config.is_pair)
    if reason is not None:
        return Rejected(file, line, reason, text.text)
    if tagged is not None:
        read.sentences.append(tagged)
    return Example(text, file, line)


def _labeled_text(
    record: Record, config: LabeledConfig, source: Source, file: str, line: int
) -> tuple[LabeledText, TaggedSentence | None]:
    cells = record.cells if isinstance(record, RowRecord) else {}
    columns = LabeledColumns() if isinstance(source, ArchiveConfig) else source.columns
    slices = slice_values(cells, columns.slices)
    if config.task == "tag":
        return _tagged_text(record, config, source, slices, TaggedSentence(file, (line,), ()))
    second = cells.get(columns.second) if columns.second else None
    if second is not None and not isinstance(second, str):
        raise UnusableError("second text is not a string")
    text = LabeledText(record.id, record.text, second, group=record.group, slices=slices)
    if config.task == "classify":
        return replace(text, label=record.label), None
    if config.task == "regress":
        return replace(text, value=number(cells.get(str(columns.value)))), None
    if len(columns.labels) == 1:
        labels = label_list(cells.get(columns.labels[0]), config.label_separator)
    else:
        labels = indicated_labels(cells, columns.labels)
    return replace(text, labels=labels), None


def _tagged_text(
    record: Record, config: LabeledConfig, source: Source, slices: dict[str, str], at: TaggedSentence
) -> tuple[LabeledText, TaggedSentence | None]:
    if isinstance(record, TaggedRecord):
        tokens, tags, lines = list(record.tokens), list(record.tags), record.lines
    elif isinstance(record, RowRecord) and isinstance(source, LabeledFiles | LabeledDataset) and source.columns.tokens:
        tokens = string_list(record.cells.get(source.columns.tokens), "tokens")
        tags = tag_list(record.cells.get(str(source.columns.tags)), config.tag_names)
        lines = at.lines * len(tags)
    else:
        text = LabeledText(record.id, record.text, entities=record.entities, group=record.group, slices=slices)
        return text, None
    separator = source.token_separator if isinstance(source, LabeledFiles) else " "
    joined, entities, words = sentence(tokens, tags, config.tag_scheme == "io", separator)
    text = LabeledText(record.id, joined, entities=entities, words=words, group=record.group, slices=slices)
    return text, at._replace(lines=tuple(lines), tags=tuple(tags))


def _in_split(item: Located | Rejected, split: str) -> Located | Rejected:
    """Adds the split of a dataset to the name of the file, and to an id that has that name."""
    file = f"{item.file}[{split}]"
    if isinstance(item, Rejected):
        return item._replace(file=file)
    record = item.record
    if record.id == f"{item.file}:{item.line}":
        record = replace(record, id=f"{file}:{item.line}")
    return Located(record, file, item.line)


def _excerpt(record: Record) -> str:
    """The cells of a row without a text, for its rejection."""
    return str(dict(record.cells)) if isinstance(record, RowRecord) else ""


def _refuse_shared_files(sources: dict[str, Source], name: str) -> None:
    split_of: dict[Path, str] = {}
    for split, source in sources.items():
        if not isinstance(source, LabeledFiles):
            continue
        for path, title in _files(source):
            other = split_of.setdefault(path.resolve(), split)
            if other != split:
                raise DataError(
                    f"labeled.{name}: {title} is in the split {other} and in the split {split}. Give each file to one "
                    "split."
                )


def _files(source: LabeledFiles) -> list[tuple[Path, str]]:
    try:
        return named_files(source)
    except DataError:
        return []  # reading the source reports it
