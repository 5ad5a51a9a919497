"""The texts that `cclm predict` and `cclm embed` read: lines, or columns of tables; from files or standard input."""

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cclm_core.corpus.quarantine import Rejected
from cclm_core.corpus.records import encodable
from cclm_core.ingest.sources.lines import read_lines
from cclm_core.ingest.sources.paths import find_files
from cclm_core.labeled.columns import RowRecord
from cclm_core.labeled.config import LabeledFiles
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.terminal import printable
from cclm_core.survey.layout import Layout, recognize

STDIN = "standard input"
InputFormat = Literal["text", "csv", "tsv", "jsonl", "parquet"]

_SHOWN = 20  # unusable rows that are printed one by one
_SUFFIXES = {"csv": ".csv", "tsv": ".tsv", "jsonl": ".jsonl", "parquet": ".parquet"}


class Item(NamedTuple):
    """A text to process.

    Attributes:
        id: `file:line`, or the line of standard input.
        text, second: the text, and the second text of a pair.
        kept: the columns to keep.
    """

    id: str
    text: str
    second: str | None
    kept: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Input:
    """What to read.

    Attributes:
        paths: files, folders, patterns, or `-` for standard input.
        text: column of the text in tables; None for `text`.
        second: column of the second text.
        is_pair: whether two texts are needed; in plain lines, a tab separates them.
        keep: columns to keep.
        encoding: encoding of the files; None to recognize it.
        stdin_format: format of standard input.
    """

    paths: Sequence[str] = ("-",)
    text: str | None = None
    second: str | None = None
    is_pair: bool = False
    keep: Sequence[str] = ()
    encoding: str | None = None
    stdin_format: InputFormat = "text"


@dataclass
class Problems:
    """Unusable rows: the first ones are printed with file and line, all are counted."""

    counts: Counter[str] = field(default_factory=Counter)

    def add(self, item: Rejected) -> None:
        """Reports a row on standard error."""
        self.counts[item.reason] += 1
        if self.counts.total() <= _SHOWN:
            print(printable(f"{item.file}:{item.line}: {item.reason}"), file=sys.stderr)

    def report(self) -> None:
        """Prints how many rows were left out, if any."""
        if total := self.counts.total():
            reasons = ", ".join(f"{count:,} x {reason}" for reason, count in self.counts.most_common())
            rows = "row was" if total == 1 else "rows were"
            print(printable(f"warning: {total:,} {rows} left out: {reasons}"), file=sys.stderr)


def read_items(wanted: Input, problems: Problems) -> Iterator[Item]:
    """Yields the texts in order; unusable rows go to `problems`.

    Raises:
        DataError: a file cannot be read, or lacks a column.
    """
    for configured in wanted.paths:
        if configured == "-":
            yield from _from_stdin(wanted, problems)
            continue
        try:
            paths = list(find_files(configured, None))
        except DataError as error:
            raise DataError(str(error).removeprefix("ingest.source.paths: ")) from None
        for path in paths:
            yield from _from_file(Path(path), path, wanted, problems)


def _from_stdin(wanted: Input, problems: Problems) -> Iterator[Item]:
    if wanted.stdin_format != "text":
        with _stored(sys.stdin.buffer, _SUFFIXES[wanted.stdin_format]) as path:
            yield from _from_file(path, STDIN, wanted, problems)
        return
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            text = line.decode(wanted.encoding or "utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            problems.add(Rejected(STDIN, number, f"not {wanted.encoding or 'UTF-8'}", ""))
            continue
        yield from _line(text, str(number), STDIN, number, wanted, problems)


@contextmanager
def _stored(stream: Any, suffix: str) -> Iterator[Path]:
    """A temporary file with the content of a stream: tables are read more than once."""
    with tempfile.NamedTemporaryFile(prefix="cclm-", suffix=suffix) as file:
        shutil.copyfileobj(stream, file)
        file.flush()
        yield Path(file.name)


def _from_file(path: Path, name: str, wanted: Input, problems: Problems) -> Iterator[Item]:
    as_lines = not (wanted.text or wanted.keep)
    recognized = recognize(path, name, wanted.encoding, as_lines=as_lines)
    layout = recognized.layout
    if layout.format_of(path) == "text":
        for item in read_lines(path, name, encoding=layout.encoding):
            if isinstance(item, Rejected):
                problems.add(item)
            else:
                yield from _line(item[1], f"{name}:{item[0]}", name, item[0], wanted, problems)
        return
    for sentence in recognized.assumptions:
        print(printable(f"note: {sentence.partition(';')[0]}"), file=sys.stderr)
    yield from _rows(path, name, layout, wanted, problems)


def _line(text: str, id: str, file: str, number: int, wanted: Input, problems: Problems) -> Iterator[Item]:
    second = None
    if wanted.is_pair:
        text, tab, second = text.partition("\t")
        if not tab:
            problems.add(Rejected(file, number, "no tab between the two texts", text))
            return
    yield Item(id, text, second, {name: text for name in wanted.keep if name == "text"})


def _rows(path: Path, name: str, layout: Layout, wanted: Input, problems: Problems) -> Iterator[Item]:
    columns = {"text": wanted.text or "text", "second": wanted.second, "slices": list(wanted.keep)}
    values = {"kind": "files", "paths": [str(path)], **layout.settings(), "columns": columns}
    if layout.format_of(path) == "conll":
        values["columns"] = {}
    source = LabeledFiles.parse(values, name)
    try:
        for item in source.read(Path()):
            if isinstance(item, Rejected):
                problems.add(item._replace(file=name))
                continue
            record = item.record
            cells: Mapping[str, Any] = record.cells if isinstance(record, RowRecord) else {}
            second = cells.get(wanted.second) if wanted.second else None
            if (second is not None or wanted.is_pair) and not isinstance(second, str):
                problems.add(Rejected(name, item.line, "second text is not a string", record.text))
            elif not (encodable(record.text) and encodable(second or "")):
                problems.add(Rejected(name, item.line, "lone surrogate", ""))
            else:
                kept = {column: cells.get(column) for column in wanted.keep}
                yield Item(f"{name}:{item.line}", record.text, second, kept)
    except DataError as error:
        raise DataError(_for_options(str(error), path, name)) from None


def _for_options(message: str, path: Path, name: str) -> str:
    """An error of a source, with the options of the command in place of keys of params.yaml."""
    replaced = message.replace(str(path), name).replace(path.name, Path(name).name)
    return replaced.replace("Set ingest.source.columns.", "Pass --text COLUMN, or correct the other options.").replace(
        "Set ingest.source.columns", "Pass --text COLUMN"
    )
