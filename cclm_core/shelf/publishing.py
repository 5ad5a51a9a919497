"""Publishing: an item becomes one commit of the shelf, and a tag, at the very end; before that nothing is changed.

The work is done in a private copy of the shelf: the files are tracked with DVC and pushed to the storage, the card and
DVC's pointer are committed, and then one push moves the branch and sets the tag together, or neither. What a failed
attempt left in the storage is content that no card names.
"""

import configparser
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cclm_core.runtime.errors import ConfigError, ShelfError
from cclm_core.shelf.cache import README
from cclm_core.shelf.card import Card, Digests, files_digest
from cclm_core.shelf.contents import copy
from cclm_core.shelf.git import clone_to_change, git
from cclm_core.shelf.history import CARD, FILES, ITEMS, SIGNATURE, read_card
from cclm_core.shelf.names import check_identifier, check_item_type, check_revision
from cclm_core.shelf.signing import sign
from cclm_core.shelf.storage import LOCAL_SETTINGS, SETTINGS, Remote, dvc

if TYPE_CHECKING:
    from cclm_core.shelf.items import Described

# A local shelf is a working copy: its files follow its branch if they were not changed, else the push is refused.
_RECEIVE = "git -c receive.denyCurrentBranch=updateInstead receive-pack"


@dataclass(frozen=True)
class About:
    """What the publisher says of an item.

    Attributes:
        licence: under which it may be used, best as an SPDX expression.
        description: what it is, in a line.
        scores: figures, added to those that the item's own files hold.
        data_digest: digest of its training data; by default what its own card says.
        created_by: revision of the project that made it; by default that of the git repository around the folder.
    """

    licence: str
    description: str = ""
    scores: Mapping[str, Any] = field(default_factory=dict)
    data_digest: str | None = None
    created_by: str | None = None


@dataclass(frozen=True)
class Published:
    """An item that was published.

    Attributes:
        card: its card.
        commit: of the shelf.
        tag: at which it can be fetched, None without one.
        signed: whether it has a signature.
    """

    card: Card
    commit: str
    tag: str | None
    signed: bool


def publish(
    shelf: str, folder: Path, identifier: str, item_type: str, about: About, tag: str | None, key: Path | None
) -> Published:
    """Publishes an item; see `Shelf.publish`.

    Raises:
        ConfigError: a name or a key that is not allowed.
        ArtifactError: the folder holds no such item.
        IntegrityError: a link, a special file or a file that is no data is in it, or it was altered.
        ShelfError: the shelf cannot be reached or written, or has the tag; it is as it was.
    """
    from cclm_core.shelf.items import describe  # it needs torch, which fetching and listing do without

    check_identifier(identifier)
    check_item_type(item_type)
    if tag is not None:
        check_revision(tag)
    _check_line(about.licence, "the licence", needed=True)
    _check_line(about.description, "the description", needed=False)
    described = describe(folder, item_type)
    with tempfile.TemporaryDirectory(prefix="cclm-shelf-") as work:
        repository = Path(work) / "shelf"
        branch = clone_to_change(shelf, repository)
        if tag is not None and git("tag", "--list", "--", tag, at=repository):
            raise ShelfError(
                f"the tag {tag!r} must be new, but the shelf has it; tags never move, so choose the next one."
            )
        _use_remote(shelf, repository)
        place = repository / ITEMS / identifier / item_type
        shutil.rmtree(place, ignore_errors=True)
        files = copy(described.sources.items(), place / FILES)
        card = _card(identifier, item_type, about, described, folder, files_digest(files), {"files": files})
        content = card.to_bytes()
        read_card(content, identifier, item_type)  # what cannot be read is not published
        (place / CARD).write_bytes(content)
        (place / README).write_text(card.to_markdown(), encoding="utf-8")
        if key is not None:
            (place / SIGNATURE).write_bytes(sign(content, key))
        commit = _commit(repository, place, f"{identifier}: {item_type} {card.digest[:12]}")
        dvc("push", "--quiet", "--", f"{place.relative_to(repository) / FILES}.dvc", at=repository)
        names = [f"HEAD:refs/heads/{branch}"]
        if tag is not None:
            git("tag", "--no-sign", "--", tag, commit, at=repository)
            names.append(f"refs/tags/{tag}:refs/tags/{tag}")
        _push(shelf, repository, names)
    return Published(card, commit, tag, key is not None)


def create(folder: Path, remote: str) -> None:
    """Makes an empty shelf; see `Shelf.create`.

    Raises:
        ShelfError: the folder is not empty, or git or DVC fails; nothing is left.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ShelfError(f"{folder} must be an empty folder or none, to become a shelf; choose another one.")
    address = remote if "://" in remote else str(Path(remote).expanduser().absolute())
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".shelf-", dir=folder.parent) as work:
        made = Path(work) / "shelf"
        made.mkdir()
        git("init", "--quiet", "--initial-branch=main", "--template=", at=made)
        dvc("init", "--quiet", at=made)
        settings = f'[core]\n    analytics = false\n    remote = shelf\n[\'remote "shelf"\']\n    url = "{address}"\n'
        Remote.parse(settings, made)
        (made / SETTINGS).write_text(settings, encoding="utf-8")
        (made / "README.md").write_text(_ABOUT, encoding="utf-8")
        git("add", "--all", at=made)
        git("commit", "--quiet", "--no-verify", "--message", "an empty shelf", at=made)
        made.rename(folder)


def _use_remote(shelf: str, repository: Path) -> None:
    """Gives the private copy the shelf's storage, and the publisher's own settings beside it."""
    local = Path(shelf) if Path(shelf).is_absolute() else None
    path = repository / SETTINGS
    remote = Remote.parse(path.read_text(encoding="utf-8") if path.is_file() else "", local)
    mine = configparser.ConfigParser(interpolation=None)
    if local is not None:
        mine.read(local / LOCAL_SETTINGS, encoding="utf-8")
    section = f"'remote \"{remote.name}\"'"
    mine.read_dict({"core": {"remote": remote.name}})
    mine.read_dict({section: {"url": f'"{remote.settings["url"]}"'}})  # a relative path would lead elsewhere from here
    with (repository / LOCAL_SETTINGS).open("x", encoding="utf-8") as stream:
        mine.write(stream)


def _card(
    identifier: str,
    item_type: str,
    about: About,
    described: "Described",
    folder: Path,
    files: str,
    rest: Mapping[str, Any],
) -> Card:
    digests = described.digests | ({"data": about.data_digest} if about.data_digest else {})
    values = {
        "identifier": identifier,
        "item_type": item_type,
        "description": about.description.strip(),
        "licence": about.licence.strip(),
        "created_by": about.created_by or _revision_around(folder),
        "configuration": described.configuration,
        "digests": Digests(files=files, **digests),
        "scores": {**described.scores, **about.scores},
    }
    return Card.parse({**values, **rest}, "the card")


def _commit(repository: Path, place: Path, message: str) -> str:
    relative = place.relative_to(repository)
    dvc("add", "--quiet", "--", str(relative / FILES), at=repository)
    git("add", "--all", "--", str(relative), at=repository)
    ours = [name for name in (CARD, README, SIGNATURE, f"{FILES}.dvc") if (place / name).exists()]
    git("add", "--force", "--", *(str(relative / name) for name in ours), at=repository)  # whatever the user ignores
    if git("status", "--porcelain", "--", str(relative), at=repository):  # else the shelf has just this already
        git("commit", "--quiet", "--no-verify", "--message", message, at=repository)
    return git("rev-parse", "--verify", "HEAD", at=repository)


def _push(shelf: str, repository: Path, names: list[str]) -> None:
    receive = [f"--receive-pack={_RECEIVE}"] if Path(shelf).is_absolute() else []
    try:
        git("push", "--quiet", "--atomic", "--no-verify", *receive, "--", "origin", *names, at=repository)
    except ShelfError as error:
        raise ShelfError(
            "the shelf must take the new commit, but it did not and is as it was: if somebody published meanwhile, "
            f"publish again; if its folder has changes that are not committed, commit them. {error}"
        ) from None


def _revision_around(folder: Path) -> str | None:
    """The commit of the repository that the item was made in, marked if that had changes; None outside of one."""
    where = folder if folder.is_dir() else folder.parent
    arguments = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return git(*arguments, at=where, accept=(0, 128)) or None


def _check_line(value: str, what: str, needed: bool) -> None:
    if (needed and not value.strip()) or (value and not value.isprintable()):
        raise ConfigError(f"{what} must be one line of text, got {value!r}.")


_ABOUT = """# A shelf of CCLM

Items are in `items/<identifier>/<type>`: a card, its signature where there is one, and DVC's pointer to the files.
Publish and fetch with `cclm shelf`; see its `--help`.
"""
