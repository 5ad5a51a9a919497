"""Lines of a text file, numbered, decoded one by one: a line that is no UTF-8 costs itself alone."""

from collections.abc import Iterator
from pathlib import Path

from cclm_core.corpus.quarantine import Rejected
from cclm_core.ingest.sources.pieces import Piece

LONGEST_LINE = 16 << 20
"""Bytes; a longer line is rejected without being held in memory."""


def read_lines(path: Path, name: str, piece: Piece | None = None) -> Iterator[tuple[int, str] | Rejected]:
    """The lines of `path` with their numbers from 1, without line ends and without a byte-order mark.

    Args:
        path: the file.
        name: its name in rejections.
        piece: only these lines; None for all.
    """
    with path.open("rb") as stream:
        number = piece.line - 1 if piece else 0
        left = piece.end - piece.begin if piece else path.stat().st_size
        stream.seek(piece.begin if piece else 0)
        while left > 0 and (chunk := stream.readline(LONGEST_LINE + 1)):
            number += 1
            left -= len(chunk)
            if len(chunk) > LONGEST_LINE:
                while chunk and not chunk.endswith(b"\n"):
                    chunk = stream.readline(LONGEST_LINE + 1)
                    left -= len(chunk)
                yield Rejected(name, number, f"line longer than {LONGEST_LINE} bytes", "")
                continue
            if number == 1:
                chunk = chunk.removeprefix(b"\xef\xbb\xbf")
            try:
                yield number, chunk.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                yield Rejected(name, number, "invalid UTF-8", chunk[:200].decode("utf-8", "backslashreplace").rstrip())
