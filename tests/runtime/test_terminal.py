"""Text of strangers on a terminal."""

import doctest
import io
import json

import pytest

from cclm_core.runtime import terminal
from cclm_core.runtime.terminal import printable, printable_json, printed

OBEYED = [chr(point) for point in [*range(0x20), *range(0x7F, 0xA0)] if chr(point) not in "\t\n"]
REORDERING = list("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_examples() -> None:
    assert doctest.testmod(terminal).failed == 0


@pytest.mark.parametrize("character", [*OBEYED, *REORDERING, "\ud800"])
def test_what_a_terminal_obeys_is_escaped(character: str) -> None:
    shown = printable(f"a{character}b")
    assert shown.startswith("a\\") and shown.endswith("b") and shown.isascii() and shown.isprintable()


def test_what_people_write_stays() -> None:
    for text in (
        "naïve\tZürich\n",
        "\u4e2d\u6587",
        "\u0645\u06cc\u200c\u062e",
        "\U0001f469\u200d\U0001f467",
        "[bold]x[/bold]",
    ):
        assert printable(text) == text


def test_only_terminals_get_escaped_text() -> None:
    assert printed("\x1b[2J", io.StringIO()) == "\x1b[2J"
    assert printed("\x1b[2J", Terminal()) == "\\x1b[2J"


def test_json_keeps_its_value() -> None:
    value = {"text": "a\x1b]0;x\x07\x9b\u202e é", "n": [1, None]}
    line = printable_json(value)
    assert json.loads(line) == value
    assert printable(line) == line and "é" in line
