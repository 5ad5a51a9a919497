"""Fetched items: one folder for each version of an item, complete and verified, or absent.

```
<cache>/<identifier>/<item type>/<digest>/card.json   the card as it was published
                                          CARD.md     the card for people
                                          item/       the item's files
<cache>/.shelf/records/                               what a tag refers to
<cache>/.shelf/work/                                  downloads in progress
```
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from pydantic import Field, ValidationError

from cclm_core.runtime.artifacts import write_json
from cclm_core.runtime.config import Config, digest
from cclm_core.runtime.errors import IntegrityError
from cclm_core.runtime.files import flush_folder, flush_tree
from cclm_core.shelf.card import Card
from cclm_core.shelf.files import check
from cclm_core.shelf.repository import CARD, README
from cclm_core.shelf.storage import FILES, download


class Record(Config):
    """What a tag, branch or commit referred to when it was last fetched."""

    digest: str = Field(pattern="^[0-9a-f]{64}$", description="of the item's card")
    commit: str = Field(description="of the shelf")
    moves: bool = Field(description="whether the name can refer to something else by now")
    signature: str | None = Field(default=None, description="of the card, a Sigstore bundle")


class Cache:
    """The versions of one item in a cache, which any number of processes share.

    Attributes:
        folder: has a folder for each version, named by the digest of its card.
    """

    def __init__(self, cache: Path, identifier: str, item_type: str) -> None:
        self._item = (identifier, item_type)
        self.folder, self._own = cache.absolute() / identifier / item_type, cache.absolute() / ".shelf"

    def record(self, shelf: str, tag: str) -> Record | None:
        """What a tag referred to when it was last fetched, None if it never was.

        Raises:
            IntegrityError: the record is damaged.
        """
        path = self._record(shelf, tag)
        try:
            return Record.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise IntegrityError(f"{path} is damaged; remove it, and fetch the item again.") from None

    def remember(self, shelf: str, tag: str, record: Record) -> None:
        """Keeps what a tag refers to."""
        path = self._record(shelf, tag)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, record.canonical())

    def card(self, card_digest: str) -> Card:
        """The card of a version, after every byte of the version was compared with it.

        Raises:
            IntegrityError: it was altered; it is removed from the cache.
        """
        try:
            return self._verified(self.folder / card_digest, card_digest)
        except IntegrityError as error:
            with tempfile.TemporaryDirectory(dir=self._own) as trash:
                (self.folder / card_digest).rename(Path(trash) / "altered")
            raise IntegrityError(
                f"{error} The copy in the cache was altered after it was fetched, and was removed; fetch it again."
            ) from None

    def install(self, card: Card, remote: dict[str, str], work: Path) -> None:
        """Downloads a version into the folder of `work`, verifies it and moves it to its place."""
        version, storage = work / "version", work / "storage"
        version.mkdir()
        storage.mkdir()
        download(remote, card.files, storage)
        (storage / FILES).rename(version / FILES)
        (version / CARD).write_bytes(card.to_bytes())
        (version / README).write_text(card.to_markdown(), encoding="utf-8")
        self._verified(version, card.digest)
        flush_tree(version)
        self.folder.mkdir(parents=True, exist_ok=True)
        version.rename(self.folder / card.digest)
        flush_folder(self.folder)

    @contextmanager
    def work(self) -> Iterator[Path]:
        """A new private folder on the disk of the cache; meanwhile no other process fetches this item.

        What a killed process left is removed. Its name is not used again: a DVC that outlived it may still write there.
        """
        root = self._own / "work" / ".".join(self._item)
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{root}.lock"):
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir(exist_ok=True)
            try:
                yield Path(tempfile.mkdtemp(dir=root))
            finally:
                shutil.rmtree(root, ignore_errors=True)

    def _record(self, shelf: str, tag: str) -> Path:
        return self._own / "records" / f"{digest([shelf, tag, *self._item])}.json"

    def _verified(self, folder: Path, card_digest: str) -> Card:
        present = {path.name: path for path in folder.iterdir()}
        if set(present) != {CARD, README, FILES} or any(path.is_symlink() for path in present.values()):
            raise IntegrityError(
                f"{folder} must contain {CARD}, {README} and {FILES}, no links, got {sorted(present)}."
            )
        card = Card.from_bytes(present[CARD].read_bytes(), *self._item)
        if card.digest != card_digest:
            raise IntegrityError(f"{folder / CARD} must have the digest {card_digest}, but it has {card.digest}.")
        if present[README].read_bytes() != card.to_markdown().encode():
            raise IntegrityError(f"{folder / README} is altered: it differs from {CARD}.")
        check(present[FILES], card.files)
        return card
