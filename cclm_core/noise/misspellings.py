"""Lists of misspellings that people made, with counts.

A list is a UTF-8 text file in one of the formats in which such lists are published:

```
.csv, .tsv    a header with the columns word, misspelling and, optionally, count
.txt, .dat    misspelling->word, misspelling->word1, word2,    (codespell, Wikipedia)
              word misspelling misspelling …                   (Belinkov and Bisk's natural noise)
              word: misspelling, misspelling*3, …              (Norvig; *3 is a count)
```
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from cclm_core.runtime.errors import DataError
from cclm_core.text.words import WORD

_COUNT = re.compile(r"\*(-?\d+)$")
_MAX_LETTERS = 40  # of a word or a misspelling: longer ones are errors in the list
_MAX_COUNT = 10**12
_MAX_CELL = 1 << 17
_MAX_BYTES = 256 << 20  # the largest published list has 30 MB

Spellings = Mapping[str, Mapping[str, int]]
"""The misspellings of each word, with their counts."""


class MisspellingList(NamedTuple):
    """The misspellings of each word with their counts, and the line number and reason of each rejected entry."""

    spellings: dict[str, dict[str, int]]
    rejected: list[tuple[int, str]]

    def warning(self, path: Path) -> str | None:
        """One line about the rejected entries of the list at `path`, for people; None if there are none."""
        if not self.rejected:
            return None
        line, reason = self.rejected[0]
        total = len(self.rejected) + sum(map(len, self.spellings.values()))
        return f"warning: {path}: {len(self.rejected)} of {total} entries are not used; line {line}: {reason}"


def read_misspellings(path: Path) -> MisspellingList:
    """Reads a list in one of the formats of this module. Words are converted to lowercase. A table may have no rows.

    Returns:
        The misspellings, and the rejected entries: phrases, spellings with digits, words that equal their misspelling.

    Raises:
        DataError: the file is missing, not UTF-8, larger than 256 MiB or not a table; a count is not an integer from 1;
            or there is no misspelling.
    """
    if not path.is_file():
        raise DataError(f"list of misspellings not found at {path}. Check the path.")
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise DataError(f"{path} must have at most {_MAX_BYTES:,} bytes, got {size:,}. Is it a list of misspellings?")
    counts: dict[str, Counter[str]] = {}
    rejected: list[tuple[int, str]] = []
    try:
        for number, word, misspelling, count in _pairs(path):
            reason = _fault(word, misspelling)
            if reason:
                rejected.append((number, reason))
            else:
                counts.setdefault(word, Counter())[misspelling] += count
    except UnicodeDecodeError as error:
        raise DataError(f"{path} must be UTF-8, but byte {error.start} is not. Convert the file.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Check its permissions.") from None
    if not counts and (rejected or path.suffix.lower() not in (".csv", ".tsv")):
        reason = f"; line {rejected[0][0]}: {rejected[0][1]}" if rejected else ""
        raise DataError(
            f"{path} must contain a misspelling of at least one word, found none{reason}. docs/noise.md describes the "
            "formats."
        )
    return MisspellingList(_sorted(counts), rejected)


def write_misspellings(path: Path, spellings: Spellings) -> None:
    """Writes a sorted list as CSV with the columns word, misspelling and count."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["word", "misspelling", "count"])
        for word, counts in sorted(spellings.items()):
            writer.writerows([word, misspelling, count] for misspelling, count in sorted(counts.items()))


def learn_spellings(pairs: Iterable[tuple[str, str]], min_count: int = 2) -> dict[str, dict[str, int]]:
    """Counts pairs of a word and its other spelling; pairs of equal words are ignored.

    Args:
        pairs: corresponding words in two versions of a text.
        min_count: the minimum count of a pair.

    Returns:
        The spellings of each word with their counts, in lowercase and sorted.
    """
    counts: dict[str, Counter[str]] = {}
    for word, spelling in pairs:
        if not _fault(word.lower(), spelling.lower()):
            counts.setdefault(word.lower(), Counter())[spelling.lower()] += 1
    frequent = {
        word: Counter({spelling: count for spelling, count in spellings.items() if count >= min_count})
        for word, spellings in counts.items()
    }
    return _sorted({word: spellings for word, spellings in frequent.items() if spellings})


def check_spellings(spellings: Spellings) -> None:
    """Checks misspellings that come from code, not from a file.

    Raises:
        DataError: a word or a misspelling is not a string with at least one character, a word has no misspelling, or a
            count is not an integer from 1.
    """
    for word, counts in spellings.items():
        if not counts:
            raise DataError(f"the word {word!r} must have at least one misspelling, got none. Remove the word.")
        for spelling, count in counts.items():
            if not (isinstance(word, str) and isinstance(spelling, str) and word and spelling):
                raise DataError(f"a word and its misspelling must be strings, got {word!r} and {spelling!r}.")
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise DataError(f"the count of {spelling!r} for {word!r} must be an integer from 1, got {count!r}.")


def _sorted(counts: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    return {word: dict(sorted(spellings.items())) for word, spellings in sorted(counts.items())}


def _fault(word: str, misspelling: str) -> str | None:
    """The reason to reject an entry, or None."""
    for spelling in (word, misspelling):
        if not WORD.fullmatch(spelling):
            return f"{spelling!r} is not one word of letters"
        if len(spelling) > _MAX_LETTERS:
            return f"{spelling[:_MAX_LETTERS]!r}… is longer than {_MAX_LETTERS} letters"
    return f"{word!r} is its own misspelling" if word == misspelling else None


def _pairs(path: Path) -> Iterator[tuple[int, str, str, int]]:
    """The entries of a file: line number, word, misspelling, count."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        if path.suffix.lower() in (".csv", ".tsv"):
            yield from _table_pairs(path, stream)
            return
        for number, line in enumerate(stream, 1):
            for word, misspelling in _line_pairs(line.strip().lower()):
                count = _COUNT.search(misspelling)
                yield number, word, _COUNT.sub("", misspelling), _count(count[1] if count else "1", path, number)


def _table_pairs(path: Path, stream: Iterable[str]) -> Iterator[tuple[int, str, str, int]]:
    reader = csv.reader(stream, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    try:
        columns = next(reader, [])
        for name in ("word", "misspelling"):
            if columns.count(name) != 1:
                raise DataError(
                    f"the first line of {path} must contain the columns word and misspelling once, got {columns}."
                )
        if columns.count("count") > 1:
            raise DataError(f"the first line of {path} must contain the column count at most once, got {columns}.")
        for row in reader:
            if max(map(len, row), default=0) > _MAX_CELL:  # csv's own limit is global, and `ingest` raises it
                raise csv.Error(f"field larger than {_MAX_CELL} characters")
            cells = dict(zip(columns, row, strict=False))  # a row without its last cells has no word or no count
            word, misspelling = cells.get("word", ""), cells.get("misspelling", "")
            count = _count(cells.get("count") or "1", path, reader.line_num)
            if row:
                yield reader.line_num, word.strip().lower(), misspelling.strip().lower(), count
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not a valid row: {error}. Correct the line.") from None


def _count(text: str, path: Path, line: int) -> int:
    """The count of an entry, 1 to `_MAX_COUNT`."""
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_MAX_COUNT)) and 1 <= int(text) <= _MAX_COUNT):
        shown = repr(text if len(text) < 40 else text[:40] + "…")
        raise DataError(f"{path}, line {line}: count must be an integer from 1 to {_MAX_COUNT:,}, got {shown}.")
    return int(text)


def _line_pairs(line: str) -> Iterator[tuple[str, str]]:
    if not line or line.startswith("#"):
        return
    if "->" in line:
        misspelling, _, words = line.partition("->")
        yield from ((word.strip(), misspelling.strip()) for word in words.split(",") if word.strip())
    elif ":" in line:
        word, _, misspellings = line.partition(":")
        yield from ((word.strip(), spelling.strip()) for spelling in misspellings.split(",") if spelling.strip())
    else:
        word, *spellings = line.split()
        yield from ((word, spelling) for spelling in spellings or [""])
