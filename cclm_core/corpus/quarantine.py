"""Records as they are read, and the quarantine for input that cannot be used: a file, and counts for the metrics."""

import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from cclm_core.corpus.records import Record

_EXCERPT = 80


class Rejected(NamedTuple):
    """A piece of input that cannot be used.

    Args:
        file: the name of the file in the configuration; never a path outside the project.
        line: counted from 1; in a table, the row; 0 for the whole file.
        reason: the same words for the same fault, so that it can be counted.
        excerpt: the beginning of the rejected input.
        duplicate_of: the location, as `file:line`, of the record that this one repeats; empty for other reasons.
    """

    file: str
    line: int
    reason: str
    excerpt: str
    duplicate_of: str = ""


class Located(NamedTuple):
    """A record and where it was read; `file` and `line` as in `Rejected`."""

    record: Record
    file: str
    line: int


class Quarantine:
    """Writes `quarantine.jsonl`, in the order of rejection, and counts reasons; memory stays constant."""

    def __init__(self, path: Path) -> None:
        self.reasons: Counter[str] = Counter()
        self._stream = path.open("w", encoding="utf-8", newline="\n")

    def __enter__(self) -> "Quarantine":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stream.close()

    def add(self, rejected: Rejected) -> None:
        """Puts one piece into quarantine."""
        self.reasons[rejected.reason] += 1
        excerpt = rejected.excerpt[:_EXCERPT].encode("utf-8", "backslashreplace").decode()
        row = rejected._replace(excerpt=excerpt)._asdict()
        if not rejected.duplicate_of:
            del row["duplicate_of"]
        self._stream.write(json.dumps(row, ensure_ascii=True, sort_keys=True) + "\n")
