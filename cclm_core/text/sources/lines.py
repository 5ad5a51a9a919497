"""Lines of a text file, numbered, decoded one by one: a line that is no UTF-8 costs itself alone."""

from collections.abc import Iterator
from pathlib import Path

from cclm_core.text.quarantine import Rejected

LONGEST_LINE = 16 << 20
"""Bytes; a longer line is rejected without being held in memory."""


def read_lines(path: Path, name: str) -> Iterator[tuple[int, str] | Rejected]:
    """The lines of `path` with their numbers from 1, without line ends and without a byte-order mark."""
    with path.open("rb") as stream:
        number = 0
        while chunk := stream.readline(LONGEST_LINE + 1):
            number += 1
            if len(chunk) > LONGEST_LINE:
                while chunk and not chunk.endswith(b"\n"):
                    chunk = stream.readline(LONGEST_LINE + 1)
                yield Rejected(name, number, f"line longer than {LONGEST_LINE} bytes", "")
                continue
            if number == 1:
                chunk = chunk.removeprefix(b"\xef\xbb\xbf")
            try:
                yield number, chunk.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                yield Rejected(name, number, "invalid UTF-8", chunk[:200].decode("utf-8", "backslashreplace").rstrip())
