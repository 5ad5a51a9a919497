"""A shelf's history: which items it holds at which tag, and their cards, as they stand in git."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cclm_core.runtime.errors import IntegrityError, ShelfError
from cclm_core.shelf import git, signing
from cclm_core.shelf.card import MAX_BYTES, Card
from cclm_core.shelf.storage import SETTINGS, Remote

ITEMS, CARD, SIGNATURE, FILES = "items", "card.json", "card.sig", "item"


@dataclass(frozen=True)
class Entry:
    """An item at a commit.

    Attributes:
        card: what the shelf says of it.
        card_bytes: the card as it stands there: what is signed.
        signature: its signature, None without one.
    """

    card: Card
    card_bytes: bytes
    signature: bytes | None


@dataclass(frozen=True)
class Listed:
    """One version of an item, for `list`.

    Attributes:
        digest: of its card.
        tags: at which it can be fetched; none where only the main branch has it.
        signed: whether there is a signature; it was not checked.
    """

    identifier: str
    item_type: str
    digest: str
    licence: str
    tags: tuple[str, ...]
    signed: bool


class History:
    """The history of a shelf, in a bare repository.

    Args:
        repository: the bare repository.
        shelf: the shelf's folder where it is a local one, else None.
    """

    def __init__(self, repository: Path, shelf: Path | None) -> None:
        self._repository, self._shelf = repository, shelf

    @classmethod
    @contextmanager
    def of(cls, shelf: str) -> Iterator["History"]:
        """The history of the shelf at a path or address, copied for the time of the block."""
        with tempfile.TemporaryDirectory(prefix="cclm-shelf-") as folder:
            yield cls.copied(shelf, Path(folder) / "history")

    @classmethod
    def copied(cls, shelf: str, target: Path) -> "History":
        """Copies the history of the shelf at a path or address into the folder `target`.

        Raises:
            ShelfError: there is no shelf.
        """
        git.clone(shelf, target)
        return cls(target, Path(shelf) if Path(shelf).is_absolute() else None)

    def resolve(self, name: str | None) -> git.Revision:
        """What a tag, a branch or a commit stands for; None is the main branch."""
        return git.resolve(self._repository, name)

    def remote(self, commit: str) -> Remote:
        """Where the big files of a commit are.

        Raises:
            ShelfError: the shelf does not say so, or says more than it may.
        """
        names = git.files_at(self._repository, commit, SETTINGS)
        if SETTINGS not in names:
            raise ShelfError(f"a shelf must hold {SETTINGS}, but this has none; make a shelf with `cclm shelf create`.")
        text = git.content(self._repository, names[SETTINGS], MAX_BYTES).decode("utf-8", "replace")
        return Remote.parse(text, self._shelf)

    def entry(self, commit: str, identifier: str, item_type: str) -> Entry:
        """An item at a commit; both of its names were checked.

        Raises:
            ShelfError: there is none.
            IntegrityError: its card was altered, or is that of another item.
        """
        folder = f"{ITEMS}/{identifier}/{item_type}"
        names = git.files_at(self._repository, commit, folder)
        if f"{folder}/{CARD}" not in names:
            raise ShelfError(
                f"the shelf must hold the {item_type} {identifier!r} at {commit[:12]}, but it does not; it holds "
                + (", ".join(self._items(commit)) or "nothing")
            )
        content = git.content(self._repository, names[f"{folder}/{CARD}"], MAX_BYTES)
        signature = names.get(f"{folder}/{SIGNATURE}")
        return Entry(
            read_card(content, identifier, item_type),
            content,
            git.content(self._repository, signature, signing.MAX_BYTES) if signature else None,
        )

    def items(self) -> tuple[Listed, ...]:
        """Every version of every item that a tag or the main branch has, in order of their names, newest last."""
        tags = git.git("tag", "--list", "--sort=creatordate", at=self._repository).split()
        where = {tag: self.resolve(tag).commit for tag in tags}
        found: dict[tuple[str, str, str, bool], list[str]] = {}
        licences = {}
        for tag, commit in [*where.items(), (None, self.resolve(None).commit)]:
            for name, (card, signed) in self._items(commit).items():
                identifier, item_type = name.split("/")
                content = git.content(self._repository, card, MAX_BYTES)
                read = read_card(content, identifier, item_type)
                licences[read.digest] = read.licence
                found.setdefault((identifier, item_type, read.digest, signed), []).extend([tag] if tag else [])
        rows = [
            Listed(identifier, item_type, digest, licences[digest], tuple(at), signed)
            for (identifier, item_type, digest, signed), at in found.items()
        ]
        return tuple(sorted(rows, key=lambda row: (row.identifier, row.item_type)))

    def _items(self, commit: str) -> dict[str, tuple[str, bool]]:
        """`identifier/type` -> the object of its card, and whether it is signed."""
        names = git.files_at(self._repository, commit, ITEMS)
        folders = [path.split("/")[1:3] for path in names if path.endswith(f"/{CARD}") and path.count("/") == 3]
        base = {f"{name}/{kind}": f"{ITEMS}/{name}/{kind}" for name, kind in folders}
        return {key: (names[f"{at}/{CARD}"], f"{at}/{SIGNATURE}" in names) for key, at in sorted(base.items())}


def read_card(content: bytes, identifier: str, item_type: str) -> Card:
    """Reads the card of an item, and checks that it is of this one.

    Raises:
        IntegrityError: it was altered, or is that of another item.
    """
    card = Card.from_bytes(content, f"the card of {identifier}/{item_type}")
    if (card.identifier, card.item_type) != (identifier, item_type):
        raise IntegrityError(
            f"the card of {identifier}/{item_type} must be its own, but it is that of "
            f"{card.identifier}/{card.item_type}; the shelf was altered."
        )
    return card
