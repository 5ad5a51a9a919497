"""Recognizes how a file is written: its format, encoding, delimiter, header, quotes, and columns of tokens and tags."""

import codecs
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

from cclm_core.corpus.quarantine import Rejected
from cclm_core.ingest.sources.conll import TagScheme, is_tag
from cclm_core.ingest.sources.content import check_pointer, check_text, opened, read_sample
from cclm_core.ingest.sources.csv_rows import CsvFormat, Row, read_rows
from cclm_core.ingest.sources.json_lines import decode
from cclm_core.ingest.sources.paths import SUFFIXES, Format, suffix_of
from cclm_core.runtime.errors import DataError
from cclm_core.text.scripts import has_unspaced

DELIMITERS = (",", ";", "\t", "|")
_ROWS = 300  # of a table that are tried with each delimiter
_QUOTED_ROWS = 5000  # that are read to find out whether quotes are ordinary characters
_SAMPLE_LINES = 2000
_DECODED = 64 << 20  # bytes that are decoded to recognize the encoding
_BLOCK = 1 << 20
_BAD_LINES = 0.01  # up to this share of lines that are not UTF-8, they are faults; above it, the file is not UTF-8
_HEADER_CHARACTERS, _HEADER_WORDS = 40, 4  # longest name of a column
_USUAL_NAMES = re.compile(
    r"(texts?|sentence|message|body|content|question|answer|title|comment|review|label|category|class|intent|topic"
    r"|tag|target|score|rating|sentiment)(s|_?[12ab])?|id|categories",
    re.I,
)
_MAX_BARE_TAGS = 40
_WESTERN = 0.2  # largest share of other than ASCII letters in the lines of a Western language


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a file is written: keys of `FilesConfig`; None and the defaults if the suffix and the usual form decide."""

    format: Format | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    header: tuple[str, ...] = ()
    quotes: bool = True
    tag_column: int = -1
    tag_scheme: TagScheme = "iob"
    token_separator: str = " "

    def settings(self) -> dict[str, Any]:
        """The keys that differ from the defaults of `FilesConfig`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: value for key, value in values.items() if value != getattr(_USUAL, key)}

    def format_of(self, path: Path) -> Format:
        """The format of a file with this layout."""
        file_format = self.format or SUFFIXES.get(suffix_of(path))
        assert file_format is not None, "the layout of a file with an unknown suffix has a format"
        return file_format


_USUAL = Layout()


@dataclass(frozen=True)
class Recognized:
    """A layout, and sentences on what was assumed."""

    layout: Layout
    assumptions: tuple[str, ...] = ()


def recognize(
    path: Path, name: str, encoding: str | None = None, has_header: bool | None = None, as_lines: bool = False
) -> Recognized:
    """Recognizes the layout of a file.

    Args:
        path: the file.
        name: its name in messages.
        encoding: its encoding, if known.
        has_header: whether the first line of a table names its columns; None to recognize it.
        as_lines: whether a file with the suffix of plain text is read by line even if it looks like a table.

    Raises:
        DataError: the file cannot be read, is binary, or its encoding or its columns cannot be recognized.
    """
    check_pointer(path, name)
    known = SUFFIXES.get(suffix_of(path))
    if known == "parquet" or (known is None and read_sample(path, name, 4) == b"PAR1"):
        return Recognized(Layout(format=None if known else "parquet"))
    check_text(path, name, splits_at_returns=known == "csv")
    encoded = _encoding_of(path, name) if encoding is None else Recognized(Layout(encoding=encoding))
    layout, assumptions = encoded.layout, [*encoded.assumptions]
    lines = sample_lines(path, name, layout.encoding)
    if not any(line.strip() for line in lines):
        raise DataError(f"{name} is empty. Leave it out, or write texts into it.")
    is_sure = known not in (None, "text") or (known == "text" and as_lines)
    file_format = known if known is not None and is_sure else _format_of(path, name, lines, layout)
    if file_format != known:
        layout = replace(layout, format=file_format)
        how = "unknown suffix, read as" if known is None else "looks like"
        assumptions.append(f"{name}: {how} {file_format}; --task text reads plain lines")
    if file_format == "csv":
        layout, more = _table_layout(path, name, layout, has_header)
        assumptions += more
    elif file_format == "conll":
        layout, more = _conll_layout(name, lines, layout)
        assumptions += more
    return Recognized(layout, tuple(assumptions))


def sample_lines(path: Path, name: str, encoding: str) -> list[str]:
    """The first lines of a file, at most 2,000 and at most 1 MiB, without a line that is cut off."""
    with opened(path, name) as stream:
        sample = stream.read(_BLOCK)
    if len(sample) == _BLOCK:
        sample = sample[: sample.rfind(b"\n") + 1] or sample
    text = sample.removeprefix(codecs.BOM_UTF8).decode(encoding, "replace")
    return [line.rstrip("\r") for line in text.split("\n")[:_SAMPLE_LINES]]


def _encoding_of(path: Path, name: str) -> Recognized:
    """UTF-8; or cp1252, if few letters are not ASCII, as in Western languages."""
    num_bad, num_lines, num_high, num_ascii = 0, 0, 0, 0
    example = b""
    with opened(path, name) as stream:
        remaining = _DECODED
        while remaining > 0 and (lines := stream.readlines(_BLOCK)):
            for line in lines:
                remaining -= len(line)
                num_lines += 1
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    num_bad += 1
                    example = example or line
                    num_high += sum(byte >= 0x80 for byte in line)
                    num_ascii += sum(bytes((byte,)).isalpha() for byte in line)
    if num_bad <= _BAD_LINES * num_lines:
        return Recognized(Layout())
    shown = example.decode("cp1252", "replace")
    if num_high > _WESTERN * (num_high + num_ascii) or "\ufffd" in shown:
        raise DataError(
            f"{name} is not in UTF-8: {num_bad:,} of {num_lines:,} lines are not. Pass its encoding, for example "
            "--encoding gb18030, shift_jis, cp1251 or latin-1."
        )
    word = next((word for word in shown.split() if not word.isascii()), shown)[:40]
    return Recognized(
        Layout(encoding="cp1252"),
        (f"{name}: not UTF-8, read as cp1252, for example {word!r}; --encoding sets another encoding",),
    )


def _format_of(path: Path, name: str, lines: Sequence[str], layout: Layout) -> Format:
    """The format of a text file with an unknown suffix, or with that of plain text, which may be a table."""
    is_text = SUFFIXES.get(suffix_of(path)) == "text"
    filled = [line for line in lines if line.strip()]
    if filled[0].lstrip().startswith("{") and isinstance(decode(filled[0]), dict):
        return "jsonl"
    if filled[0].lstrip().startswith("[") and not is_text:
        raise DataError(
            f"{name} is a JSON array; JSON lines have one object per line. Convert it: "
            f"`jq -c '.[]' {name} > data.jsonl`."
        )
    if len(filled) < len(lines) - 1 and _tag_column(_token_rows(lines)) is not None:
        return "conll"
    _, share, num_columns = _best_delimiter(path, name, layout, ("\t",) if is_text else DELIMITERS)
    return "csv" if share > 0.95 and num_columns > 1 else "text"


def _table_layout(path: Path, name: str, layout: Layout, has_header: bool | None) -> tuple[Layout, tuple[str, ...]]:
    usual = "\t" if suffix_of(path) == ".tsv" else ","
    delimiter, _, num_columns = _best_delimiter(path, name, layout, (usual, *DELIMITERS))
    if num_columns == 1:
        delimiter = usual
    layout = replace(layout, delimiter=None if delimiter == usual else delimiter)
    if _has_plain_quotes(path, name, layout.encoding, delimiter):
        layout = replace(layout, quotes=False)
    items = _items(path, name, layout.encoding, delimiter, layout.quotes, _ROWS)
    rows = [item.cells for item in items if isinstance(item, Row)]
    named = (has_header is None and _is_header(rows)) or bool(has_header)
    if named:
        return layout, ()
    names = tuple(f"column_{number}" for number in range(1, len(rows[0]) + 1))
    assumption = f"{name}: no header, columns are called {', '.join(names[:3])}; --header if the first line is one"
    return replace(layout, header=names), () if has_header is False else (assumption,)


def _best_delimiter(path: Path, name: str, layout: Layout, delimiters: Sequence[str]) -> tuple[str, float, int]:
    """The delimiter with which most rows have the columns of the header, that share, and the number of columns."""
    best = (delimiters[0], 0.0, 1)
    for delimiter in delimiters:
        shares = (_share(path, name, layout.encoding, delimiter, quotes) for quotes in (True, False))
        share, num_columns = max(shares)
        if (num_columns > 1, round(share, 2)) > (best[2] > 1, round(best[1], 2)):
            best = (delimiter, share, num_columns)
    return best


def _share(path: Path, name: str, encoding: str, delimiter: str, quotes: bool, limit: int = _ROWS) -> tuple[float, int]:
    items = list(_items(path, name, encoding, delimiter, quotes, limit))
    rows = [item for item in items if isinstance(item, Row)]
    return (len(rows) / len(items), len(rows[0].cells)) if rows else (0.0, 1)


def _has_plain_quotes(path: Path, name: str, encoding: str, delimiter: str) -> bool:
    """Whether quotes are ordinary characters: more rows can be read without them, and few cells are in quotes."""
    limit = _QUOTED_ROWS
    if (
        _share(path, name, encoding, delimiter, True, limit)[0]
        >= _share(path, name, encoding, delimiter, False, limit)[0]
    ):
        return False
    rows = [item for item in _items(path, name, encoding, delimiter, False, limit) if isinstance(item, Row)]
    with_quotes = [cell for row in rows for cell in row.cells if '"' in cell]
    in_quotes = [cell for cell in with_quotes if len(cell) > 1 and cell[0] == cell[-1] == '"']
    return len(in_quotes) < 0.5 * len(with_quotes)


def _items(path: Path, name: str, encoding: str, delimiter: str, quotes: bool, limit: int) -> Iterator[Row | Rejected]:
    try:
        yield from islice(read_rows(path, name, CsvFormat(delimiter, encoding, quotes=quotes)), limit)
    except DataError:
        if delimiter == "," and quotes:  # the usual form: the error is about the file
            raise


def _is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: short, different names that do not occur below."""
    first = [cell.strip() for cell in rows[0]]
    if any(_USUAL_NAMES.fullmatch(cell) for cell in first):
        return True
    if len(set(first)) < len(first) or any(map(_is_number, first)) or not all(first[1:]):
        return False
    if any(len(cell) > _HEADER_CHARACTERS or len(cell.split()) > _HEADER_WORDS for cell in first):
        return False
    below = [{row[column].strip() for row in rows[1:]} for column in range(len(first))]
    return not any(cell in values for cell, values in zip(first, below, strict=True))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _token_rows(lines: Iterable[str]) -> list[list[str]]:
    rows = [line.split("\t") if "\t" in line else line.split() for line in lines if line.strip()]
    return [row for row in rows if row[0] != "-DOCSTART-" and not (len(row) != len(rows[-1]) and row[0][:1] == "#")]


def _tag_column(rows: Sequence[Sequence[str]]) -> int | None:
    """The last column with tags such as B-LOC, O among them; -1 for the last column of all, or None."""
    widths = Counter(map(len, rows))
    if not widths:
        return None
    width = widths.most_common(1)[0][0]
    usual = [row for row in rows if len(row) == width]
    if width < 2 or len(usual) < 0.9 * len(rows):
        return None
    for column in range(width - 1, 0, -1):
        tags = [row[column] for row in usual]
        if any(tag != "O" for tag in tags) and sum(is_tag(tag, "iob") for tag in tags) >= 0.98 * len(tags):
            return -1 if column == width - 1 else column
    return None


def _conll_layout(name: str, lines: Sequence[str], layout: Layout) -> tuple[Layout, tuple[str, ...]]:
    rows = _token_rows(lines)
    tokens = [row[0] for row in rows]
    if sum(has_unspaced(token) for token in tokens) > len(tokens) / 2:
        layout = replace(layout, token_separator="")
    column = _tag_column(rows)
    if column is not None:
        return replace(layout, tag_column=column), ()
    tags = Counter(row[-1] for row in rows if len(row) > 1)
    if "O" in tags and 1 < len(tags) <= _MAX_BARE_TAGS:
        return replace(layout, tag_scheme="io"), (f"{name}: tags without prefixes, equal neighbors are one entity",)
    raise DataError(
        f"{name}: no column of tags such as B-LOC and O in its first {len(lines)} lines. CoNLL has a token and its tag "
        "per line, and an empty line after each sentence. Correct the file, or rename it if it has another format."
    )
