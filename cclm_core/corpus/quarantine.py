"""Located records, and the quarantine for unusable input: a file, and counts per reason for the metrics."""

import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from cclm_core.corpus.records import Record

_EXCERPT = 80


class Rejected(NamedTuple):
    """A piece of unusable input.

    Args:
        file: the file name in the configuration; never a path outside the project.
        line: the line, or the row of a table, from 1; 0 for the whole file.
        reason: a fixed text per kind of fault, so that reasons can be counted.
        excerpt: the beginning of the rejected input.
        duplicate_of: the location (`file:line`) of the record that this one duplicates; empty for other reasons.
        last_line: the last line, if the input spans several; otherwise 0.
    """

    file: str
    line: int
    reason: str
    excerpt: str
    duplicate_of: str = ""
    last_line: int = 0


class Located(NamedTuple):
    """A record and its location; `file` and `line` as in `Rejected`."""

    record: Record
    file: str
    line: int


class Quarantine:
    """Writes `quarantine.jsonl` in the order of rejection and counts the reasons, in constant memory."""

    def __init__(self, path: Path) -> None:
        self.reasons: Counter[str] = Counter()
        self._stream = path.open("w", encoding="utf-8", newline="\n")

    def __enter__(self) -> "Quarantine":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stream.close()

    def add(self, rejected: Rejected) -> None:
        """Writes one rejected piece and counts its reason."""
        self.reasons[rejected.reason] += 1
        excerpt = rejected.excerpt[:_EXCERPT].encode("utf-8", "backslashreplace").decode()
        row = rejected._replace(excerpt=excerpt)._asdict()
        for name in ("duplicate_of", "last_line"):
            if not row[name]:
                del row[name]
        self._stream.write(json.dumps(row, ensure_ascii=True, sort_keys=True) + "\n")
