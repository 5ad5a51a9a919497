"""Fetched items: one folder for each version of an item, complete and verified, or absent.

```
<cache>/<identifier>/<item type>/<digest>/card.json   the published card
                                          CARD.md     the card for people
                                          item/       the item's files
<cache>/.shelf/records/                               the version that a tag refers to
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
    """The version that a tag, branch or commit referred to when it was last fetched."""

    digest: str = Field(pattern="^[0-9a-f]{64}$", description="of the item's card")
    commit: str = Field(description="of the shelf")
    moves: bool = Field(description="whether it is a branch, which can refer to another version now")
    signature: str | None = Field(default=None, description="of the card, a Sigstore bundle")


class Cache:
    """The versions of one item, in subfolders of `folder`. Any number of processes can share a cache."""

    def __init__(self, cache: Path, identifier: str, item_type: str) -> None:
        self._item = (identifier, item_type)
        self.folder, self._own = cache.absolute() / identifier / item_type, cache.absolute() / ".shelf"

    def record(self, shelf: str, tag: str) -> Record | None:
        """The record of a tag; None if it was never fetched."""
        path = self._record(shelf, tag)
        try:
            return Record.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise IntegrityError(f"{path} is damaged. Remove it, and fetch the item again.") from None

    def remember(self, shelf: str, tag: str, record: Record) -> None:
        """Stores the record of a tag."""
        path = self._record(shelf, tag)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, record.canonical())

    def card(self, card_digest: str) -> Card:
        """The card of a version, after a check of every file. An altered version is removed: IntegrityError."""
        folder = self.folder / card_digest
        try:
            present = {path.name: path for path in folder.iterdir()}
            if set(present) != {CARD, README, FILES} or any(path.is_symlink() for path in present.values()):
                raise IntegrityError(f"{folder} must contain {CARD}, {README}, {FILES} and no links, got {[*present]}.")
            card = Card.from_bytes(present[CARD].read_bytes(), *self._item)
            if card.digest != card_digest:
                raise IntegrityError(f"{folder / CARD} must have the digest {card_digest}, but it has {card.digest}.")
            if present[README].read_bytes() != card.to_markdown().encode():
                raise IntegrityError(f"{folder / README} is altered: it differs from {CARD}.")
            check(present[FILES], card.files)
        except IntegrityError as error:
            with tempfile.TemporaryDirectory(dir=self._own) as trash:
                folder.rename(Path(trash) / "altered")
            raise IntegrityError(
                f"{error} The copy in the cache was altered after it was fetched, and was removed. Fetch it again."
            ) from None
        return card

    def install(self, card: Card, remote: dict[str, str], work: Path) -> None:
        """Downloads a version into the folder of `work`, verifies it and moves it into the cache."""
        version, storage = work / "version", work / "storage"
        version.mkdir()
        storage.mkdir()
        download(remote, card.files, storage)
        (storage / FILES).rename(version / FILES)
        check(version / FILES, card.files)
        (version / CARD).write_bytes(card.to_bytes())
        (version / README).write_text(card.to_markdown(), encoding="utf-8")
        flush_tree(version)
        self.folder.mkdir(parents=True, exist_ok=True)
        version.rename(self.folder / card.digest)
        flush_folder(self.folder)

    @contextmanager
    def work(self) -> Iterator[Path]:
        """A new private folder on the disk of the cache. No other process fetches this item at the same time.

        Leftovers of a killed process are removed. Folder names are never reused: a DVC process can outlive its parent.
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
