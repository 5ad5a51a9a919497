"""Misspellings that people made: words with how often each wrong spelling of them was seen.

A list is a text file in UTF-8, in one of the forms in which such lists are shared:

```
.csv, .tsv    a header that names the columns word, misspelling and, if there are counts, count
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

WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_COUNT = re.compile(r"\*(\d+)$")
_LONGEST = 40  # letters of a word or a misspelling: what is longer is no word

Spellings = Mapping[str, Mapping[str, int]]


class MisspellingList(NamedTuple):
    """What a file held: for each word its misspellings with their counts, and the lines that could not be used."""

    spellings: dict[str, dict[str, int]]
    rejected: list[tuple[int, str]]


def read_misspellings(path: Path) -> MisspellingList:
    """Reads a list; see the module for its forms. Words are read in small letters. A table without rows is empty.

    Returns:
        The spellings; and number and reason of every line that says no misspelling of one word: phrases, spellings
        with digits, a word that is its own misspelling.

    Raises:
        DataError: the file is missing, no UTF-8, or not a list, since it says no misspelling at all.
    """
    if not path.is_file():
        raise DataError(f"a list of misspellings must be a file, but there is none at {path}; check the path.")
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
        raise DataError(f"{path} must be UTF-8, but byte {error.start} is not; convert it.") from None
    if not counts and (rejected or path.suffix.lower() not in (".csv", ".tsv")):
        why = f"; line {rejected[0][0]}: {rejected[0][1]}" if rejected else ""
        raise DataError(f"{path} must say a misspelling of at least one word, found none{why}.")
    return MisspellingList(_sorted(counts), rejected)


def write_misspellings(path: Path, spellings: Spellings) -> None:
    """Writes a list as CSV: word, misspelling, count, sorted."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["word", "misspelling", "count"])
        for word, found in sorted(spellings.items()):
            writer.writerows([word, misspelling, count] for misspelling, count in sorted(found.items()))


def learn_spellings(pairs: Iterable[tuple[str, str]], min_count: int = 2) -> dict[str, dict[str, int]]:
    """The list that pairs of a word and its spelling elsewhere make; pairs of equal words say nothing.

    Args:
        pairs: words that correspond in two versions of a text.
        min_count: how often a spelling must have been seen.
    """
    counts: dict[str, Counter[str]] = {}
    for word, spelling in pairs:
        if not _fault(word.lower(), spelling.lower()):
            counts.setdefault(word.lower(), Counter())[spelling.lower()] += 1
    kept = {word: Counter({one: n for one, n in found.items() if n >= min_count}) for word, found in counts.items()}
    return _sorted({word: found for word, found in kept.items() if found})


def _sorted(counts: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    return {word: dict(sorted(found.items())) for word, found in sorted(counts.items())}


def _fault(word: str, misspelling: str) -> str | None:
    for one in (word, misspelling):
        if not WORD.fullmatch(one):
            return f"{one!r} is not one word of letters"
        if len(one) > _LONGEST:
            return f"{one[:_LONGEST]!r}… is longer than {_LONGEST} letters"
    return f"{word!r} is its own misspelling" if word == misspelling else None


def _pairs(path: Path) -> Iterator[tuple[int, str, str, int]]:
    """Line number, word, misspelling, count."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        if path.suffix.lower() in (".csv", ".tsv"):
            yield from _table_pairs(path, stream)
            return
        for number, line in enumerate(stream, 1):
            for word, misspelling in _line_pairs(line.strip().lower()):
                count = _COUNT.search(misspelling)
                yield number, word, _COUNT.sub("", misspelling), int(count[1]) if count else 1


def _table_pairs(path: Path, stream: Iterable[str]) -> Iterator[tuple[int, str, str, int]]:
    reader = csv.DictReader(stream, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    columns = reader.fieldnames or []
    if {"word", "misspelling"} - set(columns):
        raise DataError(f"{path} must name the columns word and misspelling in its first line, got {list(columns)}.")
    for row in reader:
        count = row.get("count") or "1"
        if not count.isdecimal() or int(count) < 1:
            raise DataError(f"{path}, line {reader.line_num}: a count must be a number from 1, got {count!r}.")
        word, misspelling = row["word"] or "", row["misspelling"] or ""
        yield reader.line_num, word.strip().lower(), misspelling.strip().lower(), int(count)


def _line_pairs(line: str) -> Iterator[tuple[str, str]]:
    if not line or line.startswith("#"):
        return
    if "->" in line:
        misspelling, _, words = line.partition("->")
        yield from ((word.strip(), misspelling.strip()) for word in words.split(",") if word.strip())
    elif ":" in line:
        word, _, misspellings = line.partition(":")
        yield from ((word.strip(), one.strip()) for one in misspellings.split(",") if one.strip())
    else:
        word, *others = line.split()
        yield from ((word, one) for one in others or [""])
