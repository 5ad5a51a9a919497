"""Fetched items: one folder for each version of an item, complete and verified, or absent.

```
<cache>/<identifier>/<item type>/<digest>/card.json   the published card
                                          CARD.md     the card for people
                                          item/       the item's files
<cache>/.shelf/records/                               the version that a tag refers to; the highest signed version
<cache>/.shelf/work/                                  downloads in progress
```
"""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

from filelock import FileLock
from pydantic import Field, ValidationError

from cclm_core.runtime.config import Config, canonical_json, digest
from cclm_core.runtime.errors import IntegrityError
from cclm_core.runtime.files import atomic_open, flush_folder, flush_tree
from cclm_core.shelf.card import Card
from cclm_core.shelf.files import check
from cclm_core.shelf.release import Reference, Release, Signed
from cclm_core.shelf.repository import CARD, README
from cclm_core.shelf.storage import FILES, download


class Record(Config):
    """The version that a tag, branch or commit referred to when it was last fetched."""

    digest: str = Field(pattern="^[0-9a-f]{64}$", description="of the item's card")
    commit: str = Field(description="of the shelf")
    kind: Literal["tag", "branch", "commit"]
    release: str | None = Field(default=None, description="the signed statement, see `release`")
    signature: str | None = Field(default=None, description="of the release, a Sigstore bundle")

    @property
    def signed(self) -> Signed | None:
        """The release and its signature, not checked; None if it has no signature."""
        return None if self.signature is None else Signed(self.release or "", self.signature)


class FirstCommit(Config):
    """The commit of a tag when it was first fetched."""

    commit: str


class Highest(Config):
    """The highest version of an item with a good signature of one key that was fetched so far."""

    version: int = Field(ge=1)


AnyRecord = TypeVar("AnyRecord", bound=Config)


class Cache:
    """The versions of one item, in subfolders of `folder`. Any number of processes can share a cache."""

    def __init__(self, cache: Path, identifier: str, item_type: str) -> None:
        self._item = (identifier, item_type)
        self.folder, self._own = cache.absolute() / identifier / item_type, cache.absolute() / ".shelf"

    def record(self, shelf: str, tag: str) -> Record | None:
        """The record of a tag; None if it was never fetched."""
        return _read(self._record(shelf, tag), Record)

    def remember(self, shelf: str, tag: str, record: Record) -> None:
        """Stores the record of a tag, branch or commit that was fetched."""
        if record.kind == "tag":
            _write(self._tag(shelf, tag), FirstCommit(commit=record.commit))
        _write(self._record(shelf, tag), record)

    def check_tag(self, shelf: str, reference: Reference, commit: str) -> None:
        """Raises IntegrityError if a name was a tag of another commit when it was first fetched."""
        path = self._tag(shelf, reference.name)
        first = _read(path, FirstCommit)
        if first and (reference.kind, commit) != ("tag", first.commit):
            raise IntegrityError(
                f"the tag {reference.name!r} of the shelf was at commit {first.commit[:12]} when it was first fetched, "
                f"now it is a {reference.kind} at {commit[:12]}. Tags of a shelf never move: ask its owner. If you "
                f"trust the new version, fetch it by its commit, or remove {path}."
            )

    def check_version(self, shelf: str, key: Path, release: Release, reference: Reference) -> None:
        """Raises IntegrityError if a branch has an older signed version than the newest one fetched; remembers that."""
        key_digest = hashlib.sha256(key.read_bytes()).hexdigest()
        path = self._own / "records" / f"{digest(['highest', shelf, *self._item, key_digest])}.json"
        highest = _read(path, Highest)
        if highest and reference.moves and release.version < highest.version:
            raise IntegrityError(
                f"{'/'.join(self._item)} at {reference.name} is signed, but it is version {release.version}, and "
                f"version {highest.version} was fetched before. The branch was rolled back: ask its owner."
            )
        if highest is None or release.version > highest.version:
            _write(path, Highest(version=release.version))

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
        except (IntegrityError, IsADirectoryError, NotADirectoryError) as error:
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

    def _tag(self, shelf: str, tag: str) -> Path:
        return self._own / "records" / f"{digest(['tag', shelf, tag])}.json"  # for all items of the shelf

    def _record(self, shelf: str, tag: str) -> Path:
        return self._own / "records" / f"{digest([shelf, tag, *self._item])}.json"


def _read(path: Path, kind: type[AnyRecord]) -> AnyRecord | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise IntegrityError(f"{path} is damaged. Remove it, and fetch the item again.") from None


def _write(path: Path, record: Config) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(path, shared=True) as stream:
        stream.write(canonical_json(record.canonical()).encode())
