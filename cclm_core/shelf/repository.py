"""A private copy of a shelf's git history: items are read from it, and new ones committed to it."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cclm_core.runtime.errors import IntegrityError, ShelfError
from cclm_core.shelf.address import read_remote
from cclm_core.shelf.card import Card
from cclm_core.shelf.names import check_revision, is_item, is_revision, local_folder
from cclm_core.shelf.programs import SAFE, run
from cclm_core.shelf.release import RELEASE, SIGNATURE, Reference, Signed
from cclm_core.shelf.storage import SETTINGS, is_named

ITEMS, CARD, README = "items", "card.json", "CARD.md"
MAX_BYTES = 4 << 20  # of a card, a signature or settings, which are read into memory and are far smaller
MAX_HISTORY = 1 << 30  # bytes of the compressed git history of a shelf, which contains only cards


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
        self._local = local_folder(shelf)
        self._folder = folder
        options = ("--quiet", "--bare", "--no-local", "--template=")
        run("git", "clone", *options, "--", shelf, str(folder), at=folder.parent, max_file=MAX_HISTORY)
        self._cloned = self._git("rev-parse", "--verify", "--quiet", "HEAD", accept=(0, 1, 128))

    def resolve(self, name: str | None) -> tuple[str, Reference]:
        """The commit of a tag, branch or commit (in this order; None: main branch), and which of them it is."""
        candidates: dict[str, Literal["tag", "branch", "commit"]] = {"HEAD": "branch"}
        if name is not None:
            check_revision(name)
            candidates = {f"refs/tags/{name}": "tag", f"refs/heads/{name}": "branch"}
            candidates |= {name: "commit"} if re.fullmatch(r"[0-9a-f]{7,64}", name) else {}
        for candidate, kind in candidates.items():
            arguments = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{candidate}^{{commit}}")
            if commit := self._git(*arguments, accept=(0, 1, 128)):
                return commit.split()[-1], Reference(name or self.branch(), kind)
        newest = ", ".join(self.tags()[::-1][:10]) or "none"
        raise ShelfError(f"{name or 'the main branch'} is not a tag, branch or commit of the shelf; tags: {newest}.")

    def tags(self) -> list[str]:
        """The tags that `resolve` accepts, newest last; a tag with another name cannot be fetched."""
        return [tag for tag in self._git("tag", "--list", "--sort=creatordate").split("\n") if is_revision(tag)]

    def branch(self) -> str:
        """The name of the main branch."""
        return self._git("symbolic-ref", "--quiet", "HEAD", accept=(0, 1)).removeprefix("refs/heads/") or "HEAD"

    def next_version(self) -> int:
        """The number of commits of the main branch, plus one: it grows with each publication."""
        return int(self._git("rev-list", "--count", "HEAD")) + 1

    def remote(self, commit: str) -> dict[str, str]:
        """The storage of the shelf at a commit; see `address.read_remote`.

        A shelf at an address cannot choose a folder on this machine, unless the user named the same folder to DVC.
        """
        if SETTINGS not in (files := self._files(commit, SETTINGS)):
            raise ShelfError(f"{SETTINGS} not found in the shelf. Make a shelf with `cclm shelf create`.")
        remote = read_remote(self._read(*files[SETTINGS]), self._local)
        if self._local is None and Path(remote["url"]).is_absolute() and not is_named(remote["url"]):
            raise ShelfError(
                f"the storage of a shelf at an address must not be a folder of this machine, got {remote['url']!r}. If "
                "you trust the shelf, name the folder yourself: `dvc remote add --global <name> <folder>`."
            )
        return remote

    def item(self, commit: str, identifier: str, item_type: str) -> tuple[Card, Signed | None]:
        """The card of an item at a commit, and its signed release if it has a signature.

        Raises:
            ShelfError: not found in the shelf.
            IntegrityError: the card was altered, or is the card of another item.
        """
        card, release, signature = (f"{ITEMS}/{identifier}/{item_type}/{name}" for name in (CARD, RELEASE, SIGNATURE))
        files = self._files(commit, card, release, signature)
        if card not in files:
            known = ", ".join("/".join(item) for item in self._items(commit)) or "no items"
            raise ShelfError(f"{identifier}/{item_type} not found in the shelf at {commit[:12]}; it has {known}.")
        content = self._read(*files[card]).encode()
        signed = None
        if signature in files:
            statement = self._read(*files[release]) if release in files else ""
            signed = Signed(statement, self._read(*files[signature]))
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
            work = (f"--git-dir={self._folder}", f"--work-tree={tree}")
            self._git("read-tree", "HEAD")
            remove = ("rm", "-r", "--cached", "--force", "--quiet", "--ignore-unmatch")
            run("git", *work, *remove, "--", folder, at=Path(tree))
            for name, content in contents.items():
                (Path(tree) / name).write_bytes(content)
                blob = run("git", *work, "hash-object", "-w", "--no-filters", "--", name, at=Path(tree)).strip()
                self._git("update-index", "--add", "--replace", "--cacheinfo", f"100644,{blob},{folder}/{name}")
            if self._git("diff-index", "--cached", "HEAD", "--", folder):
                run("git", *work, "commit", "--quiet", "--no-verify", "--message", message, at=Path(tree))
        return self.resolve(None)[0]

    def push(self, commit: str, tag: str | None) -> None:
        """Moves the main branch of the shelf to a commit and sets a tag, atomically.

        The files of a local shelf follow its branch. If they have uncommitted changes, nothing is pushed.
        """
        refs = [f"{commit}:{self._git('symbolic-ref', 'HEAD')}", *([f"{commit}:refs/tags/{tag}"] if tag else [])]
        checked_out = self._local is not None and (self._local / ".git").exists()
        current = f"receive.denyCurrentBranch={'ignore' if checked_out else 'refuse'}"
        receive = " ".join(("git", *SAFE, "-c", current, "receive-pack"))
        options = [f"--receive-pack={receive}"] if self._local else []
        if checked_out:
            self._check_out(commit, "--dry-run")
        try:
            self._git("push", "--quiet", "--atomic", "--no-verify", *options, "--", "origin", *refs)
        except ShelfError as error:
            raise ShelfError(
                "the shelf did not accept the new commit and is unchanged. If someone else published in the meantime, "
                f"publish again. {error}"
            ) from None
        if checked_out:
            self._check_out(commit)

    def _check_out(self, commit: str, *options: str) -> None:
        """Updates the files and the index of a local shelf from the commit that this copy was cloned at.

        Git reads the settings of this copy, not those of the shelf, which can name commands and other folders.

        Raises:
            ShelfError: the shelf has uncommitted changes.
        """
        assert self._local is not None
        index = Path(run("git", "rev-parse", "--git-path", "index", at=self._local).rstrip("\n"))
        index = self._local / index  # relative to the shelf, or absolute in a linked working tree
        if index.is_symlink():
            raise ShelfError(f"{index} must be a regular file, but it is a link. Publish to a new clone of the shelf.")
        work = (f"--git-dir={self._folder}", f"--work-tree={self._local}")
        for command in (
            ("update-index", "-q", "--refresh"),
            ("diff-files", "--quiet"),
            ("diff-index", "--quiet", "--cached", self._cloned, "--"),
            ("read-tree", *options, "-u", "-m", commit),
        ):
            try:
                run("git", *work, *command, at=self._local, index=index)
            except ShelfError as error:
                raise ShelfError(
                    f"{self._local} has changes that are not committed. Commit or discard them, then publish. {error}"
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
