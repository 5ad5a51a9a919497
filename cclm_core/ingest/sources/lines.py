"""Reads text files by line: several processes share a file, and invalid bytes reject only their own line."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cclm_core.corpus.quarantine import Rejected
from cclm_core.ingest.sources.base import BATCH_BYTES
from cclm_core.ingest.sources.content import opened

LONGEST_LINE = 16 << 20
"""Bytes. A longer line is rejected and never held in memory."""

_BLOCK = 1 << 20
_EXCERPT = 200


class ByteRange(NamedTuple):
    """A range of whole lines in a file.

    Args:
        path: the file.
        begin, end: positions in bytes, half open.
        line: number of the first line, from 1.
    """

    path: Path
    begin: int
    end: int
    line: int


def split_at_lines(path: Path) -> Iterator[ByteRange]:
    """Splits a file between lines into ranges of slightly more than `BATCH_BYTES`; an empty file yields none.

    The boundaries depend on the bytes of the file alone.
    """
    begin, line, newlines, position = 0, 1, 0, 0
    with path.open("rb", buffering=0) as stream:
        while block := stream.read(_BLOCK):
            cut = block.rfind(b"\n") + 1
            newlines += block.count(b"\n")
            if cut and position + cut - begin >= BATCH_BYTES:
                yield ByteRange(path, begin, position + cut, line)
                begin, line, newlines = position + cut, line + newlines, 0
            position += len(block)
    if position > begin:
        yield ByteRange(path, begin, position, line)


def invalid_bytes(encoding: str) -> str:
    """Returns the reason to reject a line that is not in this encoding."""
    return "invalid UTF-8" if encoding.lower() in ("utf-8", "utf8", "utf_8") else f"invalid {encoding}"


def read_lines(
    path: Path, name: str, only: ByteRange | None = None, encoding: str = "utf-8"
) -> Iterator[tuple[int, str] | Rejected]:
    """Yields the lines of a file with their numbers, without line breaks and byte-order mark.

    Args:
        path: the file.
        name: name of the file in rejections.
        only: range of lines to read, not for a compressed file; None for all.
        encoding: see `content.checked_encoding`.

    Raises:
        DataError: the file cannot be read, or is compressed and damaged.
    """
    with path.open("rb") if only else opened(path, name) as stream:
        number = only.line - 1 if only else 0
        remaining: float = only.end - only.begin if only else math.inf
        if only:
            stream.seek(only.begin)
        while remaining > 0 and (chunk := stream.readline(LONGEST_LINE + 1)):
            number += 1
            remaining -= len(chunk)
            if len(chunk) > LONGEST_LINE:
                excerpt = chunk[:_EXCERPT].decode(encoding, "backslashreplace")
                while chunk and not chunk.endswith(b"\n"):
                    chunk = stream.readline(LONGEST_LINE + 1)
                    remaining -= len(chunk)
                yield Rejected(name, number, f"line longer than {LONGEST_LINE} bytes", excerpt)
                continue
            if number == 1:
                chunk = chunk.removeprefix(b"\xef\xbb\xbf")
            try:
                yield number, chunk.decode(encoding).rstrip("\r\n")
            except UnicodeDecodeError:
                excerpt = chunk[:_EXCERPT].decode(encoding, "backslashreplace").rstrip()
                yield Rejected(name, number, invalid_bytes(encoding), excerpt)
