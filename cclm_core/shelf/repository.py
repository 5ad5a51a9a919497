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
MAX_BYTES = 4 << 20  # of a card, a signature or settings, which are read into memory and are far smaller
# The files of a local shelf follow its branch. If they have uncommitted changes, git refuses the push.
_RECEIVE = " ".join(("git", *NO_HOOKS, "-c", "receive.denyCurrentBranch=updateInstead", "receive-pack"))


@dataclass(frozen=True)
class Published:
    """A version of an item on a shelf."""

    card: Card
    commit: str  # of the shelf; the oldest tagged one that has this version
    tags: list[str]  # oldest first; empty if only the main branch has this version
    signed: bool  # whether it has a signature, which was not checked


class Repository:
    """A bare clone, in a new folder, of the shelf at a path or address that `names.check_repository` returned."""

    def __init__(self, shelf: str, folder: Path) -> None:
        self._local = Path(shelf) if Path(shelf).is_absolute() else None
        self._folder = folder
        options = ("--quiet", "--bare", "--no-local", "--template=")
        run("git", "clone", *options, "--", shelf, str(folder), at=folder.parent)

    def resolve(self, name: str | None) -> tuple[str, bool]:
        """The commit of a tag, branch or commit (in this order; None: main branch), and whether the name can move."""
        candidates = {"HEAD": True}
        if name is not None:
            check_revision(name)
            candidates = {f"refs/tags/{name}": False, f"refs/heads/{name}": True}
            candidates |= {name: False} if re.fullmatch(r"[0-9a-f]{7,64}", name) else {}
        for candidate, moves in candidates.items():
            arguments = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{candidate}^{{commit}}")
            if commit := self._git(*arguments, accept=(0, 1, 128)):
                return commit.split()[-1], moves
        newest = ", ".join(self.tags()[::-1][:10]) or "none"
        raise ShelfError(f"{name or 'the main branch'} is not a tag, branch or commit of the shelf; tags: {newest}.")

    def tags(self) -> list[str]:
        """All tags, newest last."""
        return self._git("tag", "--list", "--sort=creatordate").split()

    def remote(self, commit: str) -> dict[str, str]:
        """The storage of the shelf at a commit; see `storage.read_remote`."""
        if SETTINGS not in (files := self._files(commit, SETTINGS)):
            raise ShelfError(f"{SETTINGS} not found in the shelf. Make a shelf with `cclm shelf create`.")
        return read_remote(self._read(*files[SETTINGS]), self._local)

    def item(self, commit: str, identifier: str, item_type: str) -> tuple[Card, str | None]:
        """The card of an item at a commit, and its signature if it has one.

        Raises:
            ShelfError: not found in the shelf.
            IntegrityError: the card was altered, or is the card of another item.
        """
        card, signature = (f"{ITEMS}/{identifier}/{item_type}/{name}" for name in (CARD, SIGNATURE))
        files = self._files(commit, card, signature)
        if card not in files:
            known = ", ".join("/".join(item) for item in self._items(commit)) or "no items"
            raise ShelfError(f"{identifier}/{item_type} not found in the shelf at {commit[:12]}; it has {known}.")
        content = self._read(*files[card]).encode()
        signed = self._read(*files[signature]) if signature in files else None
        return Card.from_bytes(content, identifier, item_type), signed

    def items(self) -> tuple[Published, ...]:
        """Every version of every item at a tag or the main branch, sorted by identifier and type, newest last."""
        versions: dict[tuple[str, bool], Published] = {}
        for tag in (*self.tags(), None):
            commit, _ = self.resolve(tag)
            for identifier, item_type in self._items(commit):
                card, signature = self.item(commit, identifier, item_type)
                version = Published(card, commit, [], signature is not None)
                versions.setdefault((card.digest, version.signed), version).tags.extend([tag] if tag else [])
        rows = sorted(versions.values(), key=lambda version: (version.card.identifier, version.card.item_type))
        return tuple(rows)

    def commit(self, folder: str, contents: Mapping[str, bytes], message: str) -> str:
        """Replaces a folder of the main branch of this copy by `contents` (file name -> bytes); returns the commit.

        There is no new commit if the folder has these contents already.
        """
        with tempfile.TemporaryDirectory(prefix="cclm-shelf-") as tree:
            (Path(tree) / folder).mkdir(parents=True)
            for name, content in contents.items():
                (Path(tree) / folder / name).write_bytes(content)
            work = (f"--git-dir={self._folder}", f"--work-tree={tree}")
            self._git("read-tree", "HEAD")
            run("git", *work, "add", "--all", "--force", "--", folder, at=Path(tree))
            if self._git("diff-index", "--cached", "HEAD", "--", folder):
                run("git", *work, "commit", "--quiet", "--no-verify", "--message", message, at=Path(tree))
        return self.resolve(None)[0]

    def push(self, commit: str, tag: str | None) -> None:
        """Moves the main branch of the shelf to a commit and sets a tag, atomically."""
        refs = [f"{commit}:{self._git('symbolic-ref', 'HEAD')}", *([f"{commit}:refs/tags/{tag}"] if tag else [])]
        receive = [f"--receive-pack={_RECEIVE}"] if self._local else []
        try:
            self._git("push", "--quiet", "--atomic", "--no-verify", *receive, "--", "origin", *refs)
        except ShelfError as error:
            raise ShelfError(
                "the shelf did not accept the new commit and is unchanged. If someone else published in the meantime, "
                f"publish again. If its folder has uncommitted changes, commit them. {error}"
            ) from None

    def _items(self, commit: str) -> list[tuple[str, str]]:
        """Identifier and type of the items at a commit; folders with other names are not items."""
        paths = [path.split("/") for path in self._files(commit, ITEMS)]
        return [(path[1], path[2]) for path in paths if path[3:] == [CARD] and is_item(path[1], path[2])]

    def _files(self, commit: str, *paths: str) -> dict[str, tuple[str, int]]:
        """The files at or below paths in a commit: path -> object name and size in bytes."""
        files = {}
        for line in self._git("ls-tree", "-r", "-l", "-z", "--full-tree", commit, "--", *paths).split("\0"):
            if line:
                attributes, path = line.split("\t", 1)
                mode, _, name, size = attributes.split()
                if mode != "100644":
                    raise IntegrityError(f"{path!r} must be a regular file in the shelf, but its mode is {mode}.")
                files[path] = name, int(size)
        return files

    def _read(self, name: str, size: int) -> str:
        if size > MAX_BYTES:
            raise IntegrityError(f"a card, signature or settings must have at most {MAX_BYTES:,} bytes, got {size:,}.")
        return run("git", "cat-file", "blob", name, at=self._folder)

    def _git(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> str:
        return run("git", *arguments, at=self._folder, accept=accept).strip()
