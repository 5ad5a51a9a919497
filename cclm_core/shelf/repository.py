"""A private copy of a shelf's git history: items are read from it, and new ones committed to it."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cclm_core.runtime.errors import IntegrityError, ShelfError
from cclm_core.shelf.card import Card
from cclm_core.shelf.names import check_revision, is_item
from cclm_core.shelf.programs import NO_HOOKS, run
from cclm_core.shelf.storage import SETTINGS, read_remote

ITEMS, CARD, SIGNATURE, README = "items", "card.json", "card.sig", "CARD.md"
MAX_BYTES = 4 << 20  # of a card, a signature or settings: they are read whole, and are far smaller
# The files of a local shelf follow its branch unless they have changes; then the push is refused.
_RECEIVE = " ".join(("git", *NO_HOOKS, "-c", "receive.denyCurrentBranch=updateInstead", "receive-pack"))


@dataclass(frozen=True)
class Listed:
    """One version of an item."""

    identifier: str
    item_type: str
    digest: str  # of its card
    licence: str
    tags: tuple[str, ...]  # at which it can be fetched; empty if only the main branch has it
    signed: bool  # whether it has a signature; it was not checked


class Repository:
    """A bare clone of the shelf at a path or address that `names.check_repository` returned, in a new folder.

    Raises:
        ShelfError: there is no such repository, or it cannot be reached.
    """

    def __init__(self, shelf: str, folder: Path) -> None:
        self._local = Path(shelf) if Path(shelf).is_absolute() else None
        self._folder = folder
        run(
            "git", "clone", "--quiet", "--bare", "--no-local", "--template=", "--", shelf, str(folder), at=folder.parent
        )

    def resolve(self, name: str | None) -> tuple[str, bool]:
        """The commit of a tag, branch or commit (in this order; None: the main branch), and whether the name can move.

        Raises:
            ConfigError: it is not a plain name.
            ShelfError: the shelf does not have it.
        """
        candidates = {"HEAD": True}
        if name is not None:
            check_revision(name)
            candidates = {f"refs/tags/{name}": False, f"refs/heads/{name}": True}
            candidates |= {name: False} if re.fullmatch(r"[0-9a-f]{7,64}", name) else {}
        for candidate, moves in candidates.items():
            arguments = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{candidate}^{{commit}}")
            if commit := self._git(*arguments, accept=(0, 1, 128)):
                return commit.split()[-1], moves
        known = ", ".join(self.tags()[::-1][:10]) or "none"
        raise ShelfError(f"{name or 'the main branch'} is not a tag, branch or commit of the shelf; tags: {known}")

    def tags(self) -> list[str]:
        """All tags, the newest last."""
        return self._git("tag", "--list", "--sort=creatordate").split()

    def remote(self, commit: str) -> dict[str, str]:
        """The storage at a commit; see `storage.read_remote`.

        Raises:
            ShelfError: the shelf does not name one, or has settings that a shelf must not have.
        """
        settings = self._contents(commit, SETTINGS).get(SETTINGS)
        if settings is None:
            raise ShelfError(f"{SETTINGS} not found in the shelf; make a shelf with `cclm shelf create`.")
        return read_remote(self._read(settings), self._local)

    def item(self, commit: str, identifier: str, item_type: str) -> tuple[Card, str | None]:
        """The card of an item at a commit, and its signature if it has one.

        Raises:
            ShelfError: the shelf does not have the item.
            IntegrityError: the card was altered, or is that of another item.
        """
        card, signature = (f"{ITEMS}/{identifier}/{item_type}/{name}" for name in (CARD, SIGNATURE))
        contents = self._contents(commit, card, signature)
        if card not in contents:
            known = ", ".join("/".join(item) for item in self._items(commit)) or "nothing"
            raise ShelfError(f"{identifier}/{item_type} not found in the shelf at {commit[:12]}; it has {known}.")
        content = self._read(contents[card]).encode()
        return Card.from_bytes(content, identifier, item_type), (
            self._read(contents[signature]) if signature in contents else None
        )

    def items(self) -> tuple[Listed, ...]:
        """Every version of every item of a tag or the main branch, sorted by name, the newest last.

        Raises:
            IntegrityError: a card was altered.
        """
        versions: dict[tuple[str, str, str, str, bool], list[str]] = {}
        for tag in (*self.tags(), None):
            commit, _ = self.resolve(tag)
            for identifier, item_type in self._items(commit):
                card, signature = self.item(commit, identifier, item_type)
                version = (identifier, item_type, card.digest, card.licence, signature is not None)
                versions.setdefault(version, []).extend([tag] if tag else [])
        rows = [Listed(*version[:4], tuple(tags), version[4]) for version, tags in versions.items()]
        return tuple(sorted(rows, key=lambda row: (row.identifier, row.item_type)))

    def commit(self, item: str, contents: Mapping[str, bytes], message: str) -> str:
        """Commits an item's folder to the main branch of this copy, unless that has it already; returns the commit.

        Args:
            item: path of the folder in the shelf.
            contents: file name -> content; other files of the folder are removed.
            message: of the commit.

        Raises:
            ShelfError: git does not know who commits.
        """
        with tempfile.TemporaryDirectory(prefix="cclm-shelf-") as tree:
            (Path(tree) / item).mkdir(parents=True)
            for name, content in contents.items():
                (Path(tree) / item / name).write_bytes(content)
            work = (f"--git-dir={self._folder}", f"--work-tree={tree}")
            self._git("read-tree", "HEAD")
            run("git", *work, "add", "--all", "--force", "--", item, at=Path(tree))
            if self._git("diff-index", "--cached", "HEAD", "--", item):
                run("git", *work, "commit", "--quiet", "--no-verify", "--message", message, at=Path(tree))
        return self.resolve(None)[0]

    def push(self, commit: str, tag: str | None) -> None:
        """Moves the main branch of the shelf to a commit and sets a tag, or does neither.

        Raises:
            ShelfError: the shelf cannot be written, has the tag or has newer commits.
        """
        names = [f"{commit}:{self._git('symbolic-ref', 'HEAD')}", *([f"{commit}:refs/tags/{tag}"] if tag else [])]
        receive = [f"--receive-pack={_RECEIVE}"] if self._local else []
        try:
            self._git("push", "--quiet", "--atomic", "--no-verify", *receive, "--", "origin", *names)
        except ShelfError as error:
            raise ShelfError(
                "the shelf did not accept the new commit and is unchanged: if somebody else published in the meantime, "
                f"publish again; if its folder has uncommitted changes, commit them. {error}"
            ) from None

    def _items(self, commit: str) -> list[tuple[str, str]]:
        """Identifier and type of the items at a commit; folders with other names are not items."""
        paths = [path.split("/") for path in self._contents(commit, ITEMS)]
        return [(path[1], path[2]) for path in paths if path[3:] == [CARD] and is_item(path[1], path[2])]

    def _contents(self, commit: str, *paths: str) -> dict[str, tuple[str, int]]:
        """The files at or below paths in a commit: path -> object and size in bytes."""
        contents = {}
        for line in self._git("ls-tree", "-r", "-l", "-z", "--full-tree", commit, "--", *paths).split("\0"):
            if line:
                about, path = line.split("\t", 1)
                mode, _, name, size = about.split()
                if mode != "100644":
                    raise IntegrityError(f"{path!r} must be a regular file in the shelf, but its mode is {mode}.")
                contents[path] = name, int(size)
        return contents

    def _read(self, file: tuple[str, int]) -> str:
        name, size = file
        if size > MAX_BYTES:
            raise IntegrityError(f"a card, a signature or settings must have at most {MAX_BYTES} bytes, got {size}.")
        return run("git", "cat-file", "blob", name, at=self._folder)

    def _git(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> str:
        return run("git", *arguments, at=self._folder, accept=accept).strip()
