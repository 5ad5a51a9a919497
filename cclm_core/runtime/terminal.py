r"""Text of strangers on a terminal: shown, never obeyed.

A terminal obeys control characters. Escape sequences can clear the screen, set the title or write to the clipboard; a
carriage return or a backspace hides what was printed before; bidirectional controls reorder what is read.

>>> printable("a\x1b[2Jb\r\u202ec")
'a\\x1b[2Jb\\r\\u202ec'
>>> family = "\U0001f469\u200d\U0001f467 Zürich\t\n"
>>> printable(family) == family
True
"""

import json
import re
import sys
from typing import IO, Any

# C0 without tab and line feed, DEL and C1; line and paragraph separators; bidirectional controls; lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Escapes every character that controls a terminal or reorders text. Tabs and line feeds stay."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def printed(text: str, stream: IO[str] | None = None) -> str:
    """A text as it may be written to `stream` (default: standard output): `printable` on a terminal, otherwise as is.

    Files and pipes get the text itself: what reads them may need every character.
    """
    stream = sys.stdout if stream is None else stream
    return printable(text) if stream.isatty() else text


def printable_json(value: Any) -> str:
    r"""JSON in one line in which no character controls a terminal; parsers read the same value.

    >>> printable_json({"text": "é\x9b31m"})
    '{"text": "é\\u009b31m"}'
    """
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))
