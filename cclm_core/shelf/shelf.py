"""The shelf: published preprocessors, embedders, components and compositions, in a repository of git and DVC."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cclm_core.runtime.errors import ConfigError, IntegrityError, ShelfError
from cclm_core.shelf.cache import Cache, Record
from cclm_core.shelf.card import Card, Digests, files_digest
from cclm_core.shelf.files import copy
from cclm_core.shelf.names import check_item, check_repository, check_revision
from cclm_core.shelf.programs import run
from cclm_core.shelf.repository import CARD, ITEMS, README, SIGNATURE, Listed, Repository
from cclm_core.shelf.signing import check_signature, sign
from cclm_core.shelf.storage import FILES, SETTINGS, read_remote, upload

VARIABLE = "CCLM_SHELF"
CACHE = ".cclm/shelf"
README_TEXT = "# A shelf of CCLM\n\nPublish and fetch with `cclm shelf`; see its `--help`.\n"

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class About:
    """What the publisher says about an item."""

    licence: str  # under which it may be used, preferably an SPDX expression
    description: str = ""  # what it is, in one line
    scores: Mapping[str, Any] = field(default_factory=dict)  # metrics, added to those in the item's own files
    data_digest: str | None = None  # of its training data; by default the one in its own files
    created_by: str | None = None  # revision of the project that made it; by default that of the folder's repository


@dataclass(frozen=True)
class Published:
    """An item that was published."""

    card: Card
    commit: str  # of the shelf
    tag: str | None  # at which it can be fetched
    signed: bool


@dataclass(frozen=True)
class Fetched:
    """An item that was fetched."""

    folder: Path  # its files, ready to load
    card: Card
    commit: str  # of the shelf
    signature: str  # `good`, `not checked` (it has one, but no key was given) or `none`
    cached: bool  # whether it came from the cache without asking the shelf


class Shelf:
    """A shelf, at a path or an address that git reads (https, ssh or file).

    ```
    shelf = Shelf("<path or address>")
    folder = shelf.fetch("en_plays_1", "embedder", tag="v0.2.1")
    embedder = load(folder)
    ```

    Args:
        repository: its path or address; by default the value of the environment variable CCLM_SHELF.

    Raises:
        ConfigError: no repository, or one that is reached in a way that is not allowed.
    """

    def __init__(self, repository: PathLike | None = None) -> None:
        given = os.fspath(repository) if repository is not None else os.environ.get(VARIABLE, "")
        if not given:
            raise ConfigError(f"no shelf is configured: give its path or address, or set {VARIABLE}.")
        self.repository = check_repository(given)

    @classmethod
    def create(cls, path: PathLike, remote: PathLike) -> "Shelf":
        """Makes an empty shelf: a git repository with DVC in it.

        Args:
            path: its folder, which must not exist or be empty.
            remote: where the items' files go: a folder, or an address that DVC writes to, e.g. s3://<bucket>/<folder>.

        Raises:
            ShelfError: the folder is not empty, the remote is not allowed, or git or DVC fails; nothing is left.
        """
        shelf = cls(path)
        folder, address = Path(shelf.repository), os.fspath(remote)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ShelfError(f"{folder} must be empty or not exist, to become a shelf; choose another folder.")
        address = address if "://" in address else str(Path(address).expanduser().absolute())
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
            run("git", "commit", "--quiet", "--no-verify", "--message", "an empty shelf", at=new)
            new.rename(folder)
        return shelf

    def fetch(
        self,
        identifier: str,
        item_type: str,
        tag: str,
        cache_dir: PathLike = CACHE,
        *,
        public_key: PathLike | None = None,
        digest: str | None = None,
        offline: bool = False,
    ) -> Path:
        """Fetches an item and returns the folder with its files, all verified.

        Args:
            identifier: the item's name, e.g. `en_plays_1`.
            item_type: `preprocessor`, `embedder`, `component` or `composition`.
            tag: a tag, a branch or a commit of the shelf. A tag or commit is looked up once, a branch each time.
            cache_dir: where fetched items are kept, in `<identifier>/<item type>/<digest>/item`.
            public_key: a PEM file; the item must be signed by the owner of this key.
            digest: the item's card must have this digest.
            offline: use only what was fetched before.

        Raises:
            ConfigError: a name or a key that is not allowed.
            ShelfError: the shelf cannot be reached or does not have the item.
            IntegrityError: the card, a file or the signature is not what it must be; nothing of it is left.
        """
        return self.fetch_with_card(
            identifier, item_type, tag, cache_dir, public_key=public_key, digest=digest, offline=offline
        ).folder

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
        """Like `fetch`, and returns the card, the commit and the state of the signature as well."""
        check_item(identifier, item_type)
        check_revision(tag)
        name = f"{identifier}/{item_type} at {tag}"

        def signature_state(card: Card, signature: str | None) -> str:
            if digest is not None and card.digest != digest.lower():
                raise IntegrityError(f"{name} must have the digest {digest}, but it has {card.digest}; do not use it.")
            if public_key is not None:
                check_signature(card.to_bytes(), signature, Path(public_key), name)
                return "good"
            return "none" if signature is None else "not checked"

        cache = Cache(Path(cache_dir), identifier, item_type)
        record = cache.record(self.repository, tag)
        if record and (offline or not record.moves) and (cache.folder / record.digest).is_dir():
            card = cache.card(record.digest)
            state = signature_state(card, record.signature)
            return Fetched(cache.folder / card.digest / FILES, card, record.commit, state, cached=True)
        if offline:
            raise ShelfError(f"{name} is not in the cache; fetch it once without `offline`.")
        with cache.work() as work:
            repository = Repository(self.repository, work / "history")
            commit, moves = repository.resolve(tag)
            card, signature = repository.item(commit, identifier, item_type)
            state = signature_state(card, signature)
            if (cache.folder / card.digest).is_dir():
                cache.card(card.digest)
            else:
                cache.install(card, repository.remote(commit), work)
            record = Record(digest=card.digest, commit=commit, moves=moves, signature=signature)
            cache.remember(self.repository, tag, record)
        return Fetched(cache.folder / card.digest / FILES, card, commit, state, cached=False)

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
        """Publishes an item as one commit and a tag, pushed together in the last step; a failure changes nothing.

        Args:
            folder: what a stage published or `save` wrote; for a preprocessor also its file.
            identifier: the item's name on the shelf: letters, digits, `.`, `_` and `-`.
            item_type: `preprocessor`, `embedder`, `component` or `composition`.
            about: licence, description and scores.
            tag: a new tag at which it can be fetched.
            key: a PEM file with the private key of an elliptic curve, to sign the card with.

        Raises:
            ConfigError: a name, a line of `about` or a key that is not allowed.
            ArtifactError: the folder does not contain such an item.
            IntegrityError: it contains a link, a special file or a file that is not data, or was altered.
            ShelfError: the shelf or its storage cannot be read or written, or the shelf has the tag.
        """
        from cclm_core.shelf.items import describe  # imports torch, which fetching and listing do not need

        check_item(identifier, item_type)
        if tag is not None:
            check_revision(tag)
        described = describe(Path(folder), item_type)
        with self._cloned() as repository, tempfile.TemporaryDirectory(prefix="cclm-shelf-") as work:
            if tag in repository.tags():
                raise ShelfError(f"the shelf has the tag {tag!r} already; tags never move, so choose the next one.")
            remote = repository.remote(repository.resolve(None)[0])
            files = copy(described.sources, Path(work) / FILES)
            values = {
                **{"identifier": identifier, "item_type": item_type, "files": files},
                **{"description": about.description.strip(), "licence": about.licence.strip()},
                "created_by": about.created_by or _revision_around(Path(folder)),
                "configuration": described.configuration,
                "digests": Digests(
                    files=files_digest(files),
                    **described.digests | ({"data": about.data_digest} if about.data_digest else {}),
                ),
                "scores": {**described.scores, **about.scores},
            }
            card = Card.parse(values, "the card")
            content = card.to_bytes()
            Card.from_bytes(content, identifier, item_type)  # a card that cannot be read is not published
            committed = {} if key is None else {SIGNATURE: sign(content, Path(key)).encode()}
            committed |= {CARD: content, README: card.to_markdown().encode(), ".gitignore": f"/{FILES}\n".encode()}
            committed[f"{FILES}.dvc"] = upload(remote, Path(work))
            message = f"{identifier}: {item_type} {card.digest[:12]}"
            commit = repository.commit(f"{ITEMS}/{identifier}/{item_type}", committed, message)
            repository.push(commit, tag)
        return Published(card, commit, tag, key is not None)

    def list(self) -> tuple[Listed, ...]:
        """Every version of every item that a tag or the main branch has.

        Raises:
            ShelfError: the shelf cannot be reached.
            IntegrityError: a card was altered.
        """
        with self._cloned() as repository:
            return repository.items()

    def show(self, identifier: str, item_type: str, tag: str | None = None) -> Card:
        """The card of an item at a tag, branch or commit; by default at the main branch.

        Raises:
            ConfigError: a name that is not allowed.
            ShelfError: the shelf cannot be reached or does not have the item.
            IntegrityError: the card was altered.
        """
        check_item(identifier, item_type)
        with self._cloned() as repository:
            return repository.item(repository.resolve(tag)[0], identifier, item_type)[0]

    @contextmanager
    def _cloned(self) -> Iterator[Repository]:
        with tempfile.TemporaryDirectory(prefix="cclm-shelf-") as work:
            yield Repository(self.repository, Path(work) / "history")


def _revision_around(folder: Path) -> str | None:
    """The commit of the repository in which the item was made, marked if that has changes; None outside of one."""
    where = folder if folder.is_dir() else folder.parent
    arguments = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return run("git", *arguments, at=where, accept=(0, 128)).strip() or None
