"""Every message that docs/troubleshooting.md quotes is in the source."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "troubleshooting.md"
VALUE = "\0"  # in place of a formatted value


def quoted() -> list[str]:
    """The messages of the page, one per line of its blocks."""
    blocks = re.findall(r"^```text\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.splitlines()]


@cache
def messages() -> str:
    """All texts in the source, one per line, with `VALUE` for what is formatted."""
    files = (path for package in ("cclm_core", "flows") for path in (ROOT / package).rglob("*.py"))
    return "\n".join(text.replace("\n", " ") for path in files for text in texts(ast.parse(path.read_text("utf-8"))))


def texts(tree: ast.AST) -> Iterator[str]:
    """The string literals of a module, adjacent ones joined."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("message", quoted())
def test_a_quoted_message_is_in_the_source(message: str) -> None:
    fragments = [re.escape(fragment) for fragment in message.split("...")]
    assert max(map(len, message.split("..."))) > 10, "the quotation has too few words"
    assert re.search(f".*{VALUE}.*".join(fragments), messages()), f"docs/troubleshooting.md quotes: {message}"
