"""Seeded damage to files: what disks, editors, transfers and attackers do to them.

Each mutation is a function of the content and a generator, so that a seed and a number repeat a case.
"""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 10**9, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "nan", "x" * 5000,
    "../x", "/", "\x1b[2J", "\ud800", "\u202e", "a\0b", [], [[]], [1, "a"], {}, {"": 1}, {"a": {"b": []}},
)  # fmt: skip
"""Values that are valid JSON (or nearly) and seldom what a reader expects."""

PIECES = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1b[2J", b'"', b"'", b"{", b"}", b"[" * 5000, b"\n", b"\r", b",", b"\t",
    b":", b"&a [*a]", b"!!python/object:os.system", b"%s", b"9" * 5000, b"-", b"\xe2\x80\xae", b"\xed\xa0\x80",
    b"version https://git-lfs.github.com/spec/v1\n",
)  # fmt: skip
"""Bytes that mean something to some format."""


def flip_bits(content: bytes, draw: random.Random) -> bytes:
    """Flips one to eight bits."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def overwrite(content: bytes, draw: random.Random) -> bytes:
    """Replaces up to 16 bytes with random ones."""
    start = draw.randrange(len(content))
    return content[:start] + draw.randbytes(min(draw.randint(1, 16), len(content) - start)) + content[start + 16 :]


def truncate(content: bytes, draw: random.Random) -> bytes:
    """Keeps only the beginning, as a full disk does."""
    return content[: draw.randrange(len(content))]


def remove(content: bytes, draw: random.Random) -> bytes:
    """Removes up to 64 bytes."""
    start = draw.randrange(len(content))
    return content[:start] + content[start + draw.randint(1, 64) :]


def insert(content: bytes, draw: random.Random) -> bytes:
    """Inserts bytes that mean something to some format."""
    start = draw.randrange(len(content) + 1)
    return content[:start] + draw.choice(PIECES) + content[start:]


def copy(content: bytes, draw: random.Random) -> bytes:
    """Copies a part to another place, over what is there or between."""
    start, place = draw.randrange(len(content)), draw.randrange(len(content))
    part = content[start : start + draw.randint(1, max(1, len(content) // 4))]
    return content[:place] + part + content[place + draw.choice((0, len(part))) :]


def replace_all(_: bytes, draw: random.Random) -> bytes:
    """Another file in its place: empty, binary, a pointer of Git LFS, or JSON of another shape."""
    others = (b"", b"\0" * 512, draw.randbytes(200), PIECES[-1], _json(draw.choice(ODD_VALUES)))
    return draw.choice(others)


def change_values(content: bytes, draw: random.Random) -> bytes:
    """Replaces, removes or adds values in JSON; in a file that is not JSON, flips bits."""
    try:
        value = json.loads(content)
    except ValueError:
        return flip_bits(content, draw)
    for _ in range(draw.randint(1, 2)):
        value = _changed(value, draw)
    return _json(value)


BYTES: tuple[Mutation, ...] = (flip_bits, overwrite, truncate, remove, insert, copy, replace_all)
JSON: tuple[Mutation, ...] = (change_values, change_values, change_values, flip_bits, truncate, insert, replace_all)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _changed(value: Any, draw: random.Random) -> Any:
    """`value` with one place in it changed."""
    path = draw.choice(list(_places(value)))
    if not path:
        return draw.choice(ODD_VALUES)
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    match draw.randrange(6):
        case 0:
            del parent[path[-1]]
        case 1 if isinstance(parent, dict):
            parent[draw.choice(("extra", "", "\x1b[2J", "0", "__class__"))] = draw.choice(ODD_VALUES)
        case 2 if isinstance(parent, list):
            parent.extend(parent[:3])
        case _:
            parent[path[-1]] = draw.choice(ODD_VALUES)
    return value


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value inside a JSON value, beginning with the value itself."""
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in pairs:
        yield from _places(part, (*path, key))
