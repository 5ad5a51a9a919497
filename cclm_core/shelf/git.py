"""Git, through its command line: the cards of a shelf at a tag, a branch or a commit."""

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cclm_core.runtime.errors import IntegrityError, ShelfError
from cclm_core.shelf.names import SCHEMES, check_revision

# A shelf is somebody's repository: nothing that stands in it may run a command here.
HARDENING = (
    *("-c", "protocol.ext.allow=never", "-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false"),
    *("-c", "core.symlinks=false", "-c", "submodule.recurse=false", "-c", "advice.detachedHead=false"),
)
ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": ":".join(SCHEMES), "GIT_LFS_SKIP_SMUDGE": "1"}
# Set inside git's own hooks: they would lead to another repository than the one that is asked for.
MISLEADING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_FILE_MODE = "100644"


@dataclass(frozen=True)
class Revision:
    """What a name stands for.

    Attributes:
        commit: the full commit.
        moves: whether the name can stand for another one tomorrow: a branch does.
    """

    commit: str
    moves: bool


def git(*arguments: str, at: Path | None = None, accept: Sequence[int] = (0,)) -> str:
    """Runs git and returns what it printed.

    Args:
        arguments: the command; names that a user gave stand behind `--` or were checked by `names`.
        at: the repository.
        accept: exit codes that are no error.

    Raises:
        ShelfError: git is not installed, or failed.
    """
    return _run(arguments, at, accept).decode("utf-8", "replace").strip()


def clone(repository: str, target: Path) -> None:
    """Copies a shelf's history, which holds cards and pointers alone, into a bare repository.

    Args:
        repository: a path or address that `names.check_repository` returned.
        target: a folder that does not exist.

    Raises:
        ShelfError: there is no such repository, or it cannot be reached.
    """
    git("clone", "--quiet", "--bare", "--no-local", "--", repository, str(target))


def clone_to_change(repository: str, target: Path) -> str:
    """Copies a shelf with its files, to commit in; returns the name of its main branch.

    Raises:
        ShelfError: there is no such repository, it cannot be reached, or it has no commit.
    """
    git("clone", "--quiet", "--no-local", "--template=", "--", repository, str(target))
    branch = git("symbolic-ref", "--short", "HEAD", at=target, accept=(0, 128))
    if not branch or not (target / ".dvc").is_dir():
        raise ShelfError(f"{repository} must be a shelf on a branch, with DVC; make one with `cclm shelf create`.")
    return branch


def resolve(repository: Path, name: str | None) -> Revision:
    """What a tag, a branch or a commit stands for, looked for in this order; None is the main branch.

    Raises:
        ConfigError: it is no plain name.
        ShelfError: there is none of this name.
    """
    if name is None:
        candidates = [("HEAD", True)]
    else:
        check_revision(name)
        candidates = [(f"refs/tags/{name}", False), (f"refs/heads/{name}", True)]
        candidates += [(name, False)] if _COMMIT.fullmatch(name) else []
    for candidate, moves in candidates:
        arguments = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{candidate}^{{commit}}")
        if commit := git(*arguments, at=repository, accept=(0, 1, 128)).splitlines():
            return Revision(commit[-1], moves)
    known = git("tag", "--list", "--sort=-creatordate", at=repository).split()
    raise ShelfError(
        f"{name or 'the main branch'} must be a tag, a branch or a commit of the shelf, but there is none; tags: "
        + (", ".join(known[:10]) or "none")
    )


def files_at(repository: Path, commit: str, folder: str) -> dict[str, str]:
    """The files below a folder in a commit: path in the repository -> object.

    Raises:
        IntegrityError: a symbolic link, a program or a submodule is among them.
    """
    files = {}
    for line in git("ls-tree", "-r", "-z", "--full-tree", commit, "--", folder, at=repository).split("\0"):
        if line:
            about, path = line.split("\t", 1)
            mode, _, name = about.split(" ")
            if mode != _FILE_MODE:
                raise IntegrityError(f"{path} must be a regular file in the shelf, but its mode is {mode}.")
            files[path] = name
    return files


def content(repository: Path, name: str, limit: int) -> bytes:
    """The bytes of an object, at most `limit` of them.

    Raises:
        IntegrityError: there are more.
    """
    size = int(git("cat-file", "-s", name, at=repository))
    if size > limit:
        raise IntegrityError(f"a card or signature must have at most {limit} bytes, got {size}.")
    return _run(("cat-file", "blob", name), repository, (0,))


def environment() -> dict[str, str]:
    """The environment for git and DVC: the user's own, without what would mislead, never asking anything."""
    return {name: value for name, value in os.environ.items() if name not in MISLEADING} | ENVIRONMENT


def _run(arguments: Sequence[str], at: Path | None, accept: Sequence[int]) -> bytes:
    where = () if at is None else ("-C", str(at))
    try:
        done = subprocess.run(
            ["git", *HARDENING, *where, *arguments],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise ShelfError("git must be installed to use a shelf; install it, or put it on the path.") from None
    if done.returncode not in accept:
        message = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}"
        raise ShelfError(f"git {arguments[0]} failed: {message}")
    return done.stdout
