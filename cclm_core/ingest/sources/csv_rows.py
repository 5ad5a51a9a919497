"""Reads the rows of a CSV file. A quote that is never closed rejects its own line; reading goes on at the next one."""

import csv
from collections import deque
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple, TextIO

from cclm_core.corpus.quarantine import Rejected
from cclm_core.ingest.sources.content import opened
from cclm_core.ingest.sources.lines import LONGEST_LINE, invalid_bytes
from cclm_core.runtime.errors import DataError

_TOO_LONG = f"row longer than {LONGEST_LINE} characters"
_UNCLOSED = "not CSV: quote is not closed properly; the lines after it were read as rows"
_SWALLOWED = "not CSV: quote is not closed properly; the lines up to the last one were not read"
# Lines are read again after an unclosed quote. This many characters for each that is read first bound the time.
_REREADS = 4


class Row(NamedTuple):
    """The cells of a row, and the number of its first line, from 1; 0 for a header that is not in the file."""

    cells: list[str]
    line: int


class CsvFormat(NamedTuple):
    """The layout of a file.

    Args:
        delimiter: one character.
        encoding: see `content.checked_encoding`.
        header: names of the columns of a file without a header; empty if its first line is the header.
        quotes: whether a cell may be in double quotes; False if they are ordinary characters.
    """

    delimiter: str
    encoding: str
    header: tuple[str, ...] = ()
    quotes: bool = True


def read_rows(path: Path, name: str, layout: CsvFormat) -> Iterator[Row | Rejected]:
    """Yields the header of a file, then its rows; each of them has as many cells as the header. An empty file has none.

    A row may span lines within quotes. Blank lines are skipped.

    Args:
        path: the file.
        name: its name in rejections and messages.
        layout: delimiter, encoding, header and quotes.

    Raises:
        DataError: the header cannot be read, or the file is compressed and damaged.
    """
    csv.field_size_limit(LONGEST_LINE)
    encoding, delimiter = layout.encoding, layout.delimiter
    codec = "utf-8-sig" if invalid_bytes(encoding) == "invalid UTF-8" else encoding
    # Invalid bytes become surrogates, so that only their own row is rejected.
    with opened(path, name) as stream:
        lines = _Lines(TextIOWrapper(stream, encoding=codec, errors="surrogateescape", newline=""))
        rows = csv.reader(
            lines, delimiter=delimiter, strict=True, quoting=csv.QUOTE_MINIMAL if layout.quotes else csv.QUOTE_NONE
        )
        header = list(layout.header) or _header(rows, name, encoding)
        if not lines.number and not layout.header:
            return  # an empty file
        yield Row(header, lines.number)
        while True:
            line = lines.begin_row()
            try:
                cells = next(rows)
            except StopIteration:
                return
            except (csv.Error, _TooLongError) as error:
                yield _unreadable(lines, line, name, error)
                continue
            if not cells:
                continue
            joined = delimiter.join(cells)
            last = lines.number if lines.number > line else 0
            if any("\udc80" <= character <= "\udcff" for character in joined):
                excerpt = joined.encode("utf-8", "backslashreplace").decode()
                yield Rejected(name, line, invalid_bytes(encoding), excerpt, last_line=last)
            elif len(cells) != len(header):
                yield Rejected(name, line, f"{len(header)} columns expected", joined, last_line=last)
            else:
                yield Row(cells, line)


def _header(rows: Iterator[list[str]], name: str, encoding: str) -> list[str]:
    try:
        header = next(rows, [])
    except (csv.Error, _TooLongError) as error:
        raise DataError(f"the header of {name} is not CSV: {error}. Correct its first line.") from None
    if any("\udc80" <= character <= "\udcff" for column in header for character in column):
        raise DataError(
            f"the header of {name} is not in {encoding}. Set ingest.source.encoding, for example to cp1252."
        )
    return header


def _unreadable(lines: "_Lines", line: int, name: str, error: Exception) -> Rejected:
    """Returns the rejection of an unreadable row; all its lines but the first are read again if possible."""
    excerpt = lines.row[0] or ""
    excerpt = excerpt.rstrip("\r\n")
    if len(lines.row) == 1:
        return Rejected(name, line, _TOO_LONG if isinstance(error, _TooLongError) else f"not CSV: {error}", excerpt)
    if lines.read_again():
        return Rejected(name, line, _UNCLOSED, excerpt)
    return Rejected(name, line, _SWALLOWED, excerpt, last_line=lines.number)


class _TooLongError(Exception):
    """A line or a row is longer than `LONGEST_LINE`."""

    def __init__(self) -> None:
        super().__init__(_TOO_LONG)


class _Lines:
    """The lines of a file as an iterator for `csv.reader`. Those of the current row can be read again.

    Attributes:
        number: number of the last line that was read, from 1.
        row: the lines of the current row; None for a line that is too long.
    """

    def __init__(self, stream: TextIO) -> None:
        self.number = 0
        self.row: list[str | None] = []
        self._stream = stream
        self._pending: deque[str | None] = deque()
        self._length = 0
        self._budget = _REREADS * LONGEST_LINE

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self._pending:
            line = self._pending.popleft()
        else:
            line = self._read()
            self._budget += _REREADS * len(line or "")
        self.number += 1
        self.row.append(line)
        self._length += len(line or "")
        if line is None or self._length > LONGEST_LINE:
            raise _TooLongError
        return line

    def begin_row(self) -> int:
        """Forgets the lines of the former row; returns the number of the next line."""
        self.row, self._length = [], 0
        return self.number + 1

    def read_again(self) -> bool:
        """Makes all lines of the row but the first the next ones; returns False if that was done too often."""
        if self._length > self._budget:
            return False
        self._budget -= self._length
        self._pending.extendleft(reversed(self.row[1:]))
        self.number -= len(self.row) - 1
        return True

    def _read(self) -> str | None:
        line = self._stream.readline(LONGEST_LINE + 1)
        if not line:
            raise StopIteration
        if len(line) <= LONGEST_LINE:
            return line
        while line and not line.endswith(("\n", "\r")):
            line = self._stream.readline(LONGEST_LINE + 1)
        return None
