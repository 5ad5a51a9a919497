"""Fetching: from the cache where it can be, else from the shelf; either way verified before anything is opened."""

from dataclasses import dataclass
from pathlib import Path

from cclm_core.runtime.errors import IntegrityError, ShelfError
from cclm_core.shelf.cache import Cache, Record
from cclm_core.shelf.card import Card
from cclm_core.shelf.git import Revision
from cclm_core.shelf.history import FILES, Entry, History
from cclm_core.shelf.names import check_identifier, check_item_type, check_revision
from cclm_core.shelf.signing import check_signature
from cclm_core.shelf.storage import download


@dataclass(frozen=True)
class Fetched:
    """An item that was fetched.

    Attributes:
        folder: its files, ready to load.
        card: its card.
        commit: of the shelf.
        signature: `good` (checked), `not checked` (there is one, but no key was given) or `none`.
        cached: whether nothing had to be asked of the shelf.
    """

    folder: Path
    card: Card
    commit: str
    signature: str
    cached: bool


@dataclass(frozen=True)
class Request:
    """What is to be fetched, and what must hold.

    Attributes:
        shelf: path or address, as `names.check_repository` returned it.
        tag: a tag, branch or commit.
        public_key: demands a signature by its owner.
        digest: demands this very card.
        offline: whether to do with what is in the cache.
    """

    shelf: str
    identifier: str
    item_type: str
    tag: str
    public_key: Path | None = None
    digest: str | None = None
    offline: bool = False

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.identifier}/{self.item_type} at {self.tag}"

    def check(self, entry: Entry) -> str:
        """Checks what must hold of a card; returns what became of its signature.

        Raises:
            IntegrityError: another digest, or no good signature where one is demanded.
        """
        if self.digest is not None and entry.card.digest != self.digest.lower():
            raise IntegrityError(
                f"{self.name} must have the digest {self.digest}, but it has {entry.card.digest}; do not use it."
            )
        if self.public_key is not None:
            check_signature(entry.card_bytes, entry.signature, self.public_key, self.name)
            return "good"
        return "not checked" if entry.signature is not None else "none"


def fetch(request: Request, cache: Cache) -> Fetched:
    """Brings an item into the cache, or finds it there.

    What a tag or a commit stood for when it was first fetched holds for ever: the shelf is not asked again. A branch
    is looked up each time, unless `offline`.

    Raises:
        ConfigError: a name that is not allowed.
        ShelfError: the shelf cannot be reached, or has no such item; offline, it was not fetched before.
        IntegrityError: the card, a file or the signature is not what it must be.
    """
    check_identifier(request.identifier)
    check_item_type(request.item_type)
    check_revision(request.tag)
    record = cache.record(request.shelf, request.tag, request.identifier, request.item_type)
    if record is not None and (request.offline or not record.moves) and _place(request, cache, record.digest).is_dir():
        entry = cache.entry(request.identifier, request.item_type, record.digest)
        signature = request.check(entry)
        return Fetched(_place(request, cache, record.digest) / FILES, entry.card, record.commit, signature, cached=True)
    if request.offline:
        raise ShelfError(f"{request.name} must have been fetched before to be used offline; it is not in the cache.")
    return _fetch(request, cache)


def _fetch(request: Request, cache: Cache) -> Fetched:
    with cache.work() as work:
        history = History.copied(request.shelf, work / "history")
        revision = history.resolve(request.tag)
        entry = history.entry(revision.commit, request.identifier, request.item_type)
        signature = request.check(entry)
        place = _place(request, cache, entry.card.digest)
        if not place.is_dir():
            _download(history, revision, entry, cache, work)
        _keep_signature(entry, cache, signature)
        record = Record(entry.card.digest, revision.commit, revision.moves)
        cache.remember(request.shelf, request.tag, request.identifier, request.item_type, record, work)
    return Fetched(place / FILES, entry.card, revision.commit, signature, cached=False)


def _download(history: History, revision: Revision, entry: Entry, cache: Cache, work: Path) -> None:
    scratch, staged = work / "download", work / "staged"
    scratch.mkdir()
    staged.mkdir()
    download(history.remote(revision.commit), entry.card.files, scratch, staged / FILES)
    cache.install(entry, staged)


def _keep_signature(entry: Entry, cache: Cache, state: str) -> None:
    """Verifies what is in the cache, whoever put it there, and gives it the signature that was just checked."""
    cached = cache.entry(entry.card.identifier, entry.card.item_type, entry.card.digest)
    if entry.signature not in (None, cached.signature) and (state == "good" or cached.signature is None):
        cache.replace_signature(entry)


def _place(request: Request, cache: Cache, digest: str) -> Path:
    return cache.place(request.identifier, request.item_type, digest)
