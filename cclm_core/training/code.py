"""Digests of this library's source code.

A checkpoint can be resumed only if no file of the library has changed (`code_digest`). A published card records the
digest of the code that the result depends on (`dependency_digest`).
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_WITHOUT_EFFECT = {"errors", "extras", "params", "reporting"}
"""Modules that cannot change the bytes of an artifact: messages, progress, and the sections of params.yaml."""


def has_effect(path: Path) -> bool:
    """Whether a change to this source file can change the bytes of an artifact. False for an empty file."""
    return path.stem not in _WITHOUT_EFFECT and path.stat().st_size > 0


@cache
def dependency_digest(module: str) -> str:
    """SHA-256 of the names and bytes of `module` and of all library files that it imports, directly or indirectly.

    Files without effect on artifacts are left out, see `has_effect`.

    >>> dependency_digest("cclm_core.steps.pretrain") == dependency_digest("cclm_core.steps.base")
    False
    """
    state = hashlib.sha256()
    for name, path in sorted(dependencies(module).items()):
        state.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()


def dependencies(module: str) -> dict[str, Path]:
    """Module -> file, for `module` and everything in the library that it imports, directly or indirectly.

    Includes imports inside functions. Files without effect on artifacts are left out, but their imports are not.
    """
    files: dict[str, Path] = {}
    pending, seen = [module], set()
    while pending:
        name = pending.pop()
        path = _file(name)
        if path is None or name in seen:
            continue
        seen.add(name)
        if has_effect(path):
            files[name] = path
        pending += _imported(ast.parse(path.read_bytes()))
    return files


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if _file(submodule) else node.module


def _file(module: str) -> Path | None:
    library, *rest = module.split(".")
    path = Path(__file__).parents[1].joinpath(*rest)
    if library != __name__.partition(".")[0]:
        return None
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def code_digest() -> str:
    """SHA-256 of the names and bytes of all Python files of the library."""
    root = Path(__file__).parents[1]
    state = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        state.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()
