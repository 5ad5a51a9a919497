"""The shelf: published preprocessors, embedders, components and compositions, in a repository of git and DVC."""

import os
from pathlib import Path

from cclm_core.runtime.errors import ConfigError
from cclm_core.shelf import fetching, publishing
from cclm_core.shelf.cache import Cache
from cclm_core.shelf.card import Card
from cclm_core.shelf.fetching import Fetched, Request
from cclm_core.shelf.history import History, Listed
from cclm_core.shelf.names import check_identifier, check_item_type, check_repository
from cclm_core.shelf.publishing import About, Published

VARIABLE = "CCLM_SHELF"


class Shelf:
    """A shelf, at a path or an address that git reads (https, ssh or file).

    ```
    shelf = Shelf("<path or address>")
    folder = shelf.fetch("en_plays_1", "embedder", tag="v0.2.1", cache_dir=".cclm/shelf")
    embedder = Embedder.load(folder)
    ```

    Args:
        repository: where it is; by default what the environment variable CCLM_SHELF says.

    Raises:
        ConfigError: no repository, or one that is reached in a way that is not allowed.
    """

    def __init__(self, repository: str | os.PathLike[str] | None = None) -> None:
        given = os.fspath(repository) if repository is not None else os.environ.get(VARIABLE, "")
        if not given:
            raise ConfigError(f"a shelf must be named: give its path or address, or set {VARIABLE}.")
        self.repository = check_repository(given)

    @classmethod
    def create(cls, path: str | os.PathLike[str], remote: str | os.PathLike[str]) -> "Shelf":
        """Makes an empty shelf: a git repository with DVC in it.

        Args:
            path: its folder, which must not exist or be empty.
            remote: where the big files go: a folder, or an address that DVC writes to, e.g. s3://<bucket>/<folder>.

        Raises:
            ShelfError: the folder is not empty, or git or DVC fails; nothing is left.
        """
        shelf = cls(path)
        publishing.create(Path(shelf.repository), os.fspath(remote))
        return shelf

    def fetch(
        self,
        identifier: str,
        item_type: str,
        tag: str,
        cache_dir: str | os.PathLike[str],
        *,
        public_key: str | os.PathLike[str] | None = None,
        digest: str | None = None,
        offline: bool = False,
    ) -> Path:
        """Fetches an item and returns the folder with its files, every one verified.

        Args:
            identifier: the item's name, e.g. `en_plays_1`.
            item_type: `preprocessor`, `embedder`, `component` or `composition`.
            tag: a tag, a branch or a commit of the shelf. What a tag or commit stands for is looked up once, a branch
                each time.
            cache_dir: where fetched items are kept, `<identifier>/<item type>/<digest>/item` below it.
            public_key: a PEM file; if given, the item must be signed by its owner.
            digest: if given, the item's card must have this digest.
            offline: do with what was fetched before.

        Raises:
            ConfigError: a name or a key that is not allowed.
            ShelfError: the shelf cannot be reached, or has no such item.
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
        cache_dir: str | os.PathLike[str],
        *,
        public_key: str | os.PathLike[str] | None = None,
        digest: str | None = None,
        offline: bool = False,
    ) -> Fetched:
        """As `fetch`, and says what the card holds, where it came from and whether the signature was checked."""
        key = None if public_key is None else Path(public_key)
        request = Request(self.repository, identifier, item_type, tag, key, digest, offline)
        return fetching.fetch(request, Cache(Path(cache_dir)))

    def publish(
        self,
        folder: str | os.PathLike[str],
        identifier: str,
        item_type: str,
        *,
        about: About,
        tag: str | None = None,
        key: str | os.PathLike[str] | None = None,
    ) -> Published:
        """Publishes an item, or changes nothing.

        Args:
            folder: what a stage published or `save` wrote; for a preprocessor also its file.
            identifier: the item's name on the shelf: letters, digits, `.`, `_` and `-`.
            item_type: `preprocessor`, `embedder`, `component` or `composition`.
            about: licence, description and scores.
            tag: a new tag at which it can be fetched from then on.
            key: signs the card; a private key of an elliptic curve in a PEM file.

        Raises:
            ConfigError: a name or a key that is not allowed.
            ArtifactError: the folder holds no such item.
            IntegrityError: a link, a special file or one that is no data is in it, or it was altered.
            ShelfError: the shelf cannot be reached or written, or has the tag.
        """
        signing_key = None if key is None else Path(key)
        return publishing.publish(self.repository, Path(folder), identifier, item_type, about, tag, signing_key)

    def list(self) -> tuple[Listed, ...]:
        """Every version of every item that a tag or the main branch has.

        Raises:
            ShelfError: the shelf cannot be reached.
            IntegrityError: a card was altered.
        """
        with History.of(self.repository) as history:
            return history.items()

    def show(self, identifier: str, item_type: str, tag: str | None = None) -> Card:
        """The card of an item.

        Args:
            identifier: the item's name.
            item_type: its type.
            tag: a tag, branch or commit; by default the main branch.

        Raises:
            ConfigError: a name that is not allowed.
            ShelfError: the shelf cannot be reached, or has no such item.
            IntegrityError: the card was altered.
        """
        check_identifier(identifier)
        check_item_type(item_type)
        with History.of(self.repository) as history:
            return history.entry(history.resolve(tag).commit, identifier, item_type).card
