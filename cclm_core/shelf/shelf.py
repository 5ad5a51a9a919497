"""The shelf: published preprocessors, embedders, components and compositions in a Git and DVC repository."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cclm_core.runtime.errors import ConfigError, IntegrityError, ShelfError
from cclm_core.runtime.migration import old_arguments
from cclm_core.shelf.address import read_remote
from cclm_core.shelf.cache import Cache, Record
from cclm_core.shelf.card import Card, files_digest
from cclm_core.shelf.files import ItemFile, copy
from cclm_core.shelf.names import check_item, check_path, check_repository, check_revision
from cclm_core.shelf.programs import run
from cclm_core.shelf.release import RELEASE, SIGNATURE, Reference, Release, Signed, check_release
from cclm_core.shelf.repository import CARD, ITEMS, MAX_BYTES, README, Published, Repository
from cclm_core.shelf.signing import sign
from cclm_core.shelf.storage import FILES, SETTINGS, upload

if TYPE_CHECKING:
    from cclm_core.shelf.items import Described  # imports torch

VARIABLE = "CCLM_SHELF"
CACHE = ".cclm/shelf"
README_TEXT = "# A CCLM shelf\n\nPublish and fetch items with `cclm shelf`; see `cclm shelf --help`.\n"

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class About:
    """The publisher's part of a card."""

    license: str  # preferably an SPDX expression, e.g. Apache-2.0
    description: str = ""  # one line
    scores: Mapping[str, Any] = field(default_factory=dict)  # metrics, added to those in the item's own metrics.json
    data_digest: str | None = None  # SHA-256 of the training data (default: the one in the item's own files)
    created_by: str | None = None  # revision of the project that made it (default: that of the folder's repository)


@dataclass(frozen=True)
class Fetched:
    """A fetched item."""

    folder: Path  # its files, ready to load
    card: Card
    commit: str  # of the shelf
    signature: str  # `good`, `not checked` (it has one, but no key was given) or `none`
    cached: bool  # whether it came from the cache, without access to the shelf


@contextmanager
def _file_errors() -> Iterator[None]:
    """Turns an error of the file system into a ShelfError that names the file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        path = f"{error.filename}: " if error.filename else ""
        raise ShelfError(f"{path}{reason}. Check the path, its permissions and the free disk space.") from error


class Shelf:
    """A shelf at a path or an address that git can clone (https, ssh or file).

    ```
    shelf = Shelf("<path or address>")
    folder = shelf.fetch("en_plays_1", "embedder", tag="v0.2.1")
    embedder = load(folder)
    ```

    Args:
        repository: path or address (default: the environment variable CCLM_SHELF).

    Raises:
        ConfigError: no repository was given, or its transport is not allowed.
    """

    @old_arguments(hints={"repo_url": "write `Shelf(repository)`, the path or address of a git repository"})
    def __init__(self, repository: PathLike | None = None) -> None:
        address = os.environ.get(VARIABLE, "") if repository is None else repository
        if not address:
            raise ConfigError(f"no shelf is configured: give its path or address, or set {VARIABLE}.")
        path = address if isinstance(address, str) else str(check_path(address, "a shelf"))
        self.repository = check_repository(path)

    @classmethod
    @_file_errors()
    def create(cls, path: PathLike, remote: PathLike) -> "Shelf":
        """Creates an empty shelf: a git repository with DVC settings. A failure leaves nothing behind.

        Args:
            path: its folder, empty or missing.
            remote: storage of the items' files: a folder, or an address that DVC writes to, e.g. s3://<bucket>/<folder>.

        Raises:
            ConfigError: `path` is an address, or the remote is not a path or an address.
            ShelfError: the folder is not empty, the remote is not allowed, or git or DVC fails.
        """
        if "://" in str(path):
            raise ConfigError(f"a new shelf must be a folder, got {path!r}. Create one, then push it there.")
        folder = check_path(path, "a new shelf")
        address = remote if isinstance(remote, str) and "://" in remote else str(check_path(remote, "the remote"))
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ShelfError(f"{folder} must be empty or not exist, to become a shelf. Choose another folder.")
        settings = f'[core]\n    analytics = false\n    remote = shelf\n[\'remote "shelf"\']\n    url = "{address}"\n'
        read_remote(settings, folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".shelf-", dir=folder.parent) as work:
            new = Path(work) / "shelf"
            new.mkdir()
            run("git", "init", "--quiet", "--initial-branch=main", "--template=", at=new)
            run("dvc", "init", "--quiet", at=new)
            (new / SETTINGS).write_text(settings, encoding="utf-8")
            (new / "README.md").write_text(README_TEXT, encoding="utf-8")
            run("git", "add", "--all", at=new)
            run("git", "commit", "--quiet", "--no-verify", "--message", "Create an empty shelf", at=new)
            new.rename(folder)
        return cls(folder)

    def fetch(
        self,
        identifier: str,
        item_type: str,
        tag: str | None = None,
        cache_dir: PathLike = CACHE,
        *,
        public_key: PathLike | None = None,
        digest: str | None = None,
        offline: bool = False,
    ) -> Path:
        """Fetches an item, verifies every file and returns the folder.

        Args:
            identifier: name of the item, e.g. `en_plays_1`.
            item_type: `preprocessor`, `embedder`, `component` or `composition`.
            tag: a tag, branch or commit of the shelf. A tag or commit is looked up once, a branch each time.
            cache_dir: where fetched items are stored, in `<identifier>/<item type>/<digest>/item`.
            public_key: PEM file; the owner of this key must have signed the item.
            digest: required digest of the card.
            offline: use only the cache.

        Raises:
            ConfigError: no tag is given, or a name or a key is not allowed.
            ShelfError: the shelf cannot be reached or does not have the item.
            IntegrityError: the card, a file or the signature is wrong. Nothing of the item is kept.
        """
        if tag is None:
            raise ConfigError(
                f"`fetch` needs the version of {identifier!r}. Write `fetch({identifier!r}, {item_type!r}, "
                "tag='v0.2.1')`; `shelf.list()` shows the tags."
            )
        return self.fetch_with_card(
            identifier, item_type, tag, cache_dir, public_key=public_key, digest=digest, offline=offline
        ).folder

    @_file_errors()
    def fetch_with_card(
        self,
        identifier: str,
        item_type: str,
        tag: str,
        cache_dir: PathLike = CACHE,
        *,
        public_key: PathLike | None = None,
        digest: str | None = None,
        offline: bool = False,
    ) -> Fetched:
        """Like `fetch`, but also returns the card, the commit and the state of the signature."""
        check_item(identifier, item_type)
        check_revision(tag)
        name = f"{identifier}/{item_type} at {tag}"
        cache = Cache(check_path(cache_dir, "`cache_dir`"), identifier, item_type)
        key = None if public_key is None else check_path(public_key, "`public_key`")

        def signature_state(card: Card, signed: Signed | None, reference: Reference) -> str:
            """Checks digest and signature; returns `Fetched.signature`."""
            if digest is not None and card.digest != str(digest).lower():
                raise IntegrityError(f"{name} must have the digest {digest}, but it has {card.digest}. Do not use it.")
            if key is None:
                return "none" if signed is None else "not checked"
            release = check_release(signed, card.digest, (identifier, item_type), reference, key)
            cache.check_version(self.repository, key, release, reference)
            return "good"

        record = cache.record(self.repository, tag)
        if record and (offline or record.kind != "branch") and (cache.folder / record.digest).is_dir():
            card = cache.card(record.digest)
            state = signature_state(card, record.signed, Reference(tag, record.kind))
            return Fetched(cache.folder / card.digest / FILES, card, record.commit, state, cached=True)
        if offline:
            raise ShelfError(f"{name} is not in the cache. Fetch it once without `offline`.")
        with cache.work() as work:
            repository = Repository(self.repository, work / "history")
            commit, reference = repository.resolve(tag)
            cache.check_tag(self.repository, reference, commit)
            card, signed = repository.item(commit, identifier, item_type)
            state = signature_state(card, signed, reference)
            if (cache.folder / card.digest).is_dir():
                cache.card(card.digest)
            else:
                cache.install(card, repository.remote(commit), work)
            release, signature = (signed.release, signed.signature) if signed else (None, None)
            record = Record(
                digest=card.digest, commit=commit, kind=reference.kind, release=release, signature=signature
            )
            cache.remember(self.repository, tag, record)
        return Fetched(cache.folder / card.digest / FILES, card, commit, state, cached=False)

    @_file_errors()
    def publish(
        self,
        folder: PathLike,
        identifier: str,
        item_type: str,
        *,
        about: About,
        tag: str | None = None,
        key: PathLike | None = None,
    ) -> Published:
        """Publishes an item as one commit and a tag. They are pushed together, last; a failure changes nothing.

        Args:
            folder: output of a stage or of `save`; a preprocessor can also be a file.
            identifier: name of the item on the shelf: letters, digits, `.`, `_` and `-`.
            item_type: `preprocessor`, `embedder`, `component` or `composition`.
            about: license, description and scores.
            tag: a new tag for this version.
            key: PEM file with an elliptic-curve private key, to sign the card, the tag and the branch with.

        Raises:
            ConfigError: a name, a line of `about` or a key is not allowed.
            ArtifactError: the folder does not contain such an item.
            IntegrityError: the folder contains a link, a special file or a file that is not data, or was altered.
            ShelfError: the shelf or its storage cannot be read or written, or the tag exists.
        """
        from cclm_core.shelf.items import describe  # imports torch, which fetching and listing do not need

        check_item(identifier, item_type)
        if tag is not None:
            check_revision(tag)
        if not isinstance(about, About):
            raise ConfigError(f"`about` must be About(license=...), got {about!r:.80}.")
        source = check_path(folder, "`folder`")
        private_key = None if key is None else check_path(key, "`key`")
        described = describe(source, item_type)
        with self._clone() as repository, tempfile.TemporaryDirectory(prefix="cclm-shelf-") as work:
            if tag in (*repository.tags(), repository.branch()):
                raise ShelfError(f"the shelf has the tag {tag!r} already. Tags never move: choose a new one.")
            remote = repository.remote(repository.resolve(None)[0])
            files = copy(described.sources, Path(work) / FILES)
            card = _card(described, files, identifier, item_type, about, source)
            committed = {} if private_key is None else _release(repository, card, tag, private_key)
            committed |= {CARD: card.to_bytes(), README: card.to_markdown().encode()}
            committed |= {".gitignore": f"/{FILES}\n".encode(), f"{FILES}.dvc": upload(remote, Path(work))}
            message = f"{identifier}: {item_type} {card.digest[:12]}"
            commit = repository.commit(f"{ITEMS}/{identifier}/{item_type}", committed, message)
            repository.push(commit, tag)
        return Published(card, commit, [tag] if tag else [], signed=key is not None)

    @_file_errors()
    def list(self) -> tuple[Published, ...]:
        """Every version of every item at a tag or the main branch; raises ShelfError or IntegrityError like `show`."""
        with self._clone() as repository:
            return repository.items()

    @_file_errors()
    def show(self, identifier: str, item_type: str, tag: str | None = None) -> Card:
        """The card of an item at a tag, branch or commit (default: the main branch).

        Raises:
            ConfigError: a name is not allowed.
            ShelfError: the shelf cannot be reached or does not have the item.
            IntegrityError: the card was altered.
        """
        check_item(identifier, item_type)
        with self._clone() as repository:
            return repository.item(repository.resolve(tag)[0], identifier, item_type)[0]

    @contextmanager
    def _clone(self) -> Iterator[Repository]:
        with tempfile.TemporaryDirectory(prefix="cclm-shelf-") as work:
            yield Repository(self.repository, Path(work) / "history")


def _revision_of(folder: Path) -> str | None:
    """The commit of the git repository around a folder or file, marked `-dirty` if that has changes."""
    arguments = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return run("git", *arguments, at=folder if folder.is_dir() else folder.parent, accept=(0, 128)).strip() or None


def _card(
    described: "Described", files: tuple[ItemFile, ...], identifier: str, item_type: str, about: About, source: Path
) -> Card:
    """The card of a new item; raises ConfigError if a value of `about` cannot be stored or read again."""
    values = {
        "identifier": identifier,
        "item_type": item_type,
        "description": _stripped(about.description),
        "license": _stripped(about.license),
        "created_by": about.created_by or _revision_of(source),
        "configuration": described.configuration,
        "digests": {"files": files_digest(files), **described.digests}
        | ({"data": about.data_digest} if about.data_digest else {}),
        "files": files,
    }
    try:
        values["scores"] = {**described.scores, **about.scores}
        card = Card.parse(values, "the card")
        content = card.to_bytes()
    except (TypeError, ValueError, RecursionError) as error:  # not a mapping; NaN; nested too deeply
        raise ConfigError(f"scores must be finite numbers and texts by name: {error}.") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"a card must have at most {MAX_BYTES:,} bytes, got {len(content):,}. Give fewer scores.")
    if Card.from_bytes(content, identifier, item_type) != card:  # an unreadable card must not be published
        raise ConfigError(f"scores must be finite numbers and texts by name, got {about.scores!r:.200}.")
    return card


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _release(repository: Repository, card: Card, tag: str | None, key: Path) -> dict[str, bytes]:
    """The files of a signed release."""
    release = Release(
        identifier=card.identifier,
        item_type=card.item_type,
        card=card.digest,
        branch=repository.branch(),
        tag=tag,
        version=repository.next_version(),
    ).to_bytes()
    return {RELEASE: release, SIGNATURE: sign(release, key).encode()}
