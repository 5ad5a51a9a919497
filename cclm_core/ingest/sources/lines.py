"""Text files line by line: cut into pieces that several processes read, and decoded so that bad bytes cost one line."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cclm_core.corpus.quarantine import Rejected
from cclm_core.ingest.sources.base import BATCH_BYTES

LONGEST_LINE = 16 << 20
"""Bytes; a longer line is rejected without being kept in memory."""

_BLOCK = 1 << 20


class Piece(NamedTuple):
    """Whole lines of a file.

    Args:
        path: the file.
        begin, end: its bytes, half open.
        line: the number of the first line, from 1.
    """

    path: Path
    begin: int
    end: int
    line: int


def pieces(path: Path) -> Iterator[Piece]:
    """Cuts a file between lines into pieces of a little more than `BATCH_BYTES`; an empty file has no piece.

    Where the cuts are depends on the bytes of the file alone.
    """
    begin, line, newlines, position = 0, 1, 0, 0
    with path.open("rb", buffering=0) as stream:
        while block := stream.read(_BLOCK):
            cut = block.rfind(b"\n") + 1
            newlines += block.count(b"\n")
            if cut and position + cut - begin >= BATCH_BYTES:
                yield Piece(path, begin, position + cut, line)
                begin, line, newlines = position + cut, line + newlines, 0
            position += len(block)
    if position > begin:
        yield Piece(path, begin, position, line)


def read_lines(path: Path, name: str, piece: Piece | None = None) -> Iterator[tuple[int, str] | Rejected]:
    """The lines of `path` with their numbers from 1, without line ends and byte-order mark.

    Args:
        path: the file.
        name: its name in rejections.
        piece: only these lines; None for all.
    """
    with path.open("rb") as stream:
        number = piece.line - 1 if piece else 0
        remaining = piece.end - piece.begin if piece else path.stat().st_size
        stream.seek(piece.begin if piece else 0)
        while remaining > 0 and (chunk := stream.readline(LONGEST_LINE + 1)):
            number += 1
            remaining -= len(chunk)
            if len(chunk) > LONGEST_LINE:
                while chunk and not chunk.endswith(b"\n"):
                    chunk = stream.readline(LONGEST_LINE + 1)
                    remaining -= len(chunk)
                yield Rejected(name, number, f"line longer than {LONGEST_LINE} bytes", "")
                continue
            if number == 1:
                chunk = chunk.removeprefix(b"\xef\xbb\xbf")
            try:
                yield number, chunk.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                yield Rejected(name, number, "invalid UTF-8", chunk[:200].decode("utf-8", "backslashreplace").rstrip())
