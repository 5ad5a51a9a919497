"""Standard input as text: an error instead of a traceback where it is not UTF-8."""

import sys
from collections.abc import Iterator

from cclm_core.runtime.errors import DataError


def read_stdin() -> str:
    """All of standard input, with `\\n` as line end.

    Raises:
        DataError: it is not UTF-8.
    """
    return "".join(_lines())


def stdin_lines() -> Iterator[str]:
    """The lines of standard input without their line ends, as they arrive.

    Raises:
        DataError: a line is not UTF-8.
    """
    for line in _lines():
        yield line.removesuffix("\n")


def _lines() -> Iterator[str]:
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode("utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise DataError(
                f"standard input must be UTF-8, but byte {error.start + 1} of line {number} is not. Convert it, for "
                "example with `iconv -f LATIN1 -t UTF-8`."
            ) from None
