"""Digests of this library's source: all of it decides whether a checkpoint may be resumed, what a result depends on
stands on its card.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_WITHOUT_EFFECT = {"errors", "reporting", "__init__"}
"""Modules whose changes cannot change the bytes of an artifact: messages and progress."""


@cache
def digest_of_used(module: str) -> str:
    """SHA-256 over the names and bytes of the Python files that `module` uses, itself and the library's alone.

    It changes with the code that a result depends on and with no other, so that a card may hold it and stay the same
    whatever else is changed. What only words messages does not count.

    >>> digest_of_used("cclm_core.steps.pretrain") == digest_of_used("cclm_core.steps.base")
    False
    """
    state = hashlib.sha256()
    for name, path in sorted(_used(module).items()):
        state.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()


def _used(module: str) -> dict[str, Path]:
    """Module -> file, for all that `module` imports, directly or not, wherever in a file the import stands."""
    found: dict[str, Path] = {}
    waiting, seen = [module], set()
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path is None or name in seen:
            continue
        seen.add(name)
        if path.stem not in _WITHOUT_EFFECT:
            found[name] = path
        waiting += _imported(ast.parse(path.read_bytes()))
    return found


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _file(module: str) -> Path | None:
    library, *rest = module.split(".")
    path = Path(__file__).parents[1].joinpath(*rest)
    if library != __name__.partition(".")[0]:
        return None
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def code_digest() -> str:
    """SHA-256 over the names and bytes of every Python file of the library."""
    root = Path(__file__).parents[1]
    state = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        state.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()
