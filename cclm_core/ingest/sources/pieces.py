"""Pieces of a source that are read apart, so that several processes can read one file."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cclm_core.corpus.quarantine import Located, Rejected

PIECE_BYTES = 4 << 20
"""A piece of a file of lines ends with the first line at or behind so many bytes."""

PORTION = 1024
"""Records, or rows of a table, that are taken at once where one process reads a source."""

_BLOCK = 1 << 20


class Piece(NamedTuple):
    """Whole lines of a file.

    Args:
        path: the file.
        begin, end: bytes of it, half open.
        line: the number of the first line, from 1.
    """

    path: Path
    begin: int
    end: int
    line: int


def pieces(path: Path) -> Iterator[Piece]:
    """Cuts a file of lines; where the cuts are depends on its bytes alone. An empty file has no piece."""
    begin, line, newlines, position = 0, 1, 0, 0
    with path.open("rb", buffering=0) as stream:
        while block := stream.read(_BLOCK):
            cut = block.rfind(b"\n") + 1
            newlines += block.count(b"\n")
            if cut and position + cut - begin >= PIECE_BYTES:
                yield Piece(path, begin, position + cut, line)
                begin, line, newlines = position + cut, line + newlines, 0
            position += len(block)
    if position > begin:
        yield Piece(path, begin, position, line)


def portions(items: Iterable[Located | Rejected]) -> Iterator[list[Located | Rejected]]:
    """Groups what was read into lists of `PORTION`, or of fewer long texts."""
    portion: list[Located | Rejected] = []
    characters = 0
    for item in items:
        portion.append(item)
        characters += len(item.record.text) if isinstance(item, Located) else len(item.excerpt)
        if len(portion) == PORTION or characters >= PIECE_BYTES:
            yield portion
            portion, characters = [], 0
    if portion:
        yield portion
