"""Digests of this library's source code.

A checkpoint may be resumed only by the same code, all of it (`code_digest`). The card of a result names the digest of
the code that the result depends on (`digest_of_used`).
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_WITHOUT_EFFECT = {"errors", "extras", "params", "reporting"}
"""Modules that cannot change the bytes of an artifact: messages, progress, and the table of params.yaml's sections."""


def has_effect(path: Path) -> bool:
    """Whether a change of this source file can change the bytes of an artifact: not messages, empty files."""
    return path.stem not in _WITHOUT_EFFECT and path.stat().st_size > 0


@cache
def digest_of_used(module: str) -> str:
    """SHA-256 over the names and bytes of the library's files that `module` imports, directly or not, and its own.

    Files without effect on artifacts are left out, see `has_effect`.

    >>> digest_of_used("cclm_core.steps.pretrain") == digest_of_used("cclm_core.steps.base")
    False
    """
    state = hashlib.sha256()
    for name, path in sorted(used_modules(module).items()):
        state.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()


def used_modules(module: str) -> dict[str, Path]:
    """Module -> file, for `module` and all that it imports, directly or not, at the top of a file or inside functions.

    Files without effect on artifacts are left out, but not what they import.
    """
    used: dict[str, Path] = {}
    waiting, seen = [module], set()
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path is None or name in seen:
            continue
        seen.add(name)
        if has_effect(path):
            used[name] = path
        waiting += _imported(ast.parse(path.read_bytes()))
    return used


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
