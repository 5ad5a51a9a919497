"""Names that a shelf accepts: none leaves its folder, and neither git nor DVC reads one as an option or a command."""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError, IntegrityError
from cclm_core.runtime.own_code import CODE

ITEM_TYPES = ("preprocessor", "embedder", "component", "composition")
SUFFIXES = (".json", ".safetensors", ".csv", ".md", ".txt")  # data only: nothing that runs when it is opened
CODE_SUFFIX = ".py"  # of own building blocks, in folders `code`; runs only if it is trusted, see runtime/own_code.py
SCHEMES = ("https", "ssh", "file")
MAX_LENGTH = 100  # characters of a name, or of one part of a path
MAX_PATH = 500  # characters of a path inside an item; operating systems allow 4,096 bytes including the folders above

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REVISION = re.compile(r"(?!.*(?:\.\.|/\.|(?:/|\.|\.lock)(?:/|$)))[A-Za-z0-9][A-Za-z0-9._/@+-]*")
_SCP_LIKE = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^:].*")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # devices on Windows


def check_item(identifier: str, item_type: str) -> None:
    """Raises ConfigError unless the identifier can name a folder on every operating system and the type exists."""
    if not isinstance(identifier, str) or not is_item(identifier, ITEM_TYPES[0]):
        raise ConfigError(
            f"an identifier must start with a letter or digit and have at most {MAX_LENGTH} characters of "
            f"A-Z a-z 0-9 . _ -, got {identifier!r}. Choose another name, e.g. en_plays_1."
        )
    if item_type not in ITEM_TYPES:
        raise ConfigError(f"{item_type!r} is not a type of item; {nearest(str(item_type), list(ITEM_TYPES))}")


def is_item(identifier: str, item_type: str) -> bool:
    """Whether `check_item` accepts the two names."""
    return bool(_IDENTIFIER.fullmatch(identifier)) and _is_portable(identifier) and item_type in ITEM_TYPES


def check_revision(revision: str) -> None:
    """Raises ConfigError unless the revision is a plain name, without git's syntax (`..`, `@{`, `^`, `~`, `:`)."""
    if not isinstance(revision, str) or not is_revision(revision):
        raise ConfigError(
            f"a tag or revision must be a plain name of a tag, branch or commit, e.g. v0.2.1, got {revision!r}."
        )


def is_revision(revision: str) -> bool:
    """Whether `check_revision` accepts the name."""
    return bool(_REVISION.fullmatch(revision)) and len(revision) <= MAX_LENGTH


def check_path(path: str | os.PathLike[str], what: str) -> Path:
    """Returns an absolute path, `~` expanded; raises ConfigError if it cannot be one. `what` names it in messages."""
    if not isinstance(path, str | os.PathLike) or not isinstance(text := os.fspath(path), str):
        raise ConfigError(f"{what} must be a path, got {path!r}.")
    if not text or "\0" in text:
        raise ConfigError(f"{what} must be a path, got {text!r}.")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # unknown user in ~user
        raise ConfigError(f"{what} must be a path, got {text!r}: {error}") from None


def local_folder(repository: str) -> Path | None:
    """The folder of a shelf on this machine; None if it is at an address.

    >>> local_folder("file:///srv/my%20shelf"), local_folder("ssh://host/shelf")
    (PosixPath('/srv/my shelf'), None)
    """
    if repository.startswith("file://"):
        return Path(unquote(repository.removeprefix("file://")))
    return Path(repository) if Path(repository).is_absolute() else None


def check_repository(repository: str) -> str:
    """Returns what git clones: an unchanged address, or the absolute path of a local folder.

    Raises:
        ConfigError: an option, a transport other than https, ssh and local files, or an address with a password.
    """
    if not repository or repository.startswith("-") or "\0" in repository or "\n" in repository:
        raise ConfigError(f"a shelf must be a path or an address, got {repository!r}.")
    try:
        parts = urlsplit(repository if "://" in repository else "")
        if "::" in repository or ("://" in repository and parts.scheme not in SCHEMES):
            raise ConfigError(
                f"a shelf must be reached by {', '.join(SCHEMES)} or a local path, got {repository!r}: other "
                "transports run commands or are not encrypted."
            )
        if "://" not in repository:
            return repository if _SCP_LIKE.fullmatch(repository) else str(check_path(repository, "a shelf"))
    except ValueError as error:
        raise ConfigError(f"a shelf must be a path or an address, got {repository!r}: {error}.") from None
    if parts.password is not None:
        raise ConfigError("the address of a shelf must not contain a password. Use git's credential store.")
    if parts.scheme == "file" and (parts.netloc or "\0" in unquote(repository)):
        raise ConfigError(f"a file address must be file:///<absolute path>, got {repository!r}.")
    if (parts.hostname or "").startswith("-") or (parts.username or "").startswith("-"):
        raise ConfigError(f"user and host of a shelf must not start with a dash, got {repository!r}.")
    return repository


def check_file_names(names: Iterable[str]) -> None:
    """Checks the paths of an item's files, relative and with `/` as separator.

    Raises:
        IntegrityError: a path leaves the folder, has a special meaning for git or DVC, is not a data file, is too long,
            or collides with another path where case or Unicode form is ignored.
    """
    seen: dict[str, str] = {}  # normalized path -> path; folders end with `/`
    for name in names:
        for part in name.split("/"):
            plain = part.isprintable() and not set('\\:*?"<>|') & set(part)
            if not part or not plain or part.startswith((".", "-")) or part.endswith((".", " ")):
                raise IntegrityError(f"{name!r} must not be in an item: {part!r} is not a plain file name.")
            if not _is_portable(part) or len(name) > MAX_PATH:
                raise IntegrityError(f"{name[:MAX_PATH]!r} must not be in an item: some systems cannot store it.")
        if not name.endswith(SUFFIXES) and not (name.endswith(CODE_SUFFIX) and PurePosixPath(name).parent.name == CODE):
            raise IntegrityError(
                f"{name!r} must not be in an item: use {', '.join(SUFFIXES)}, never a pickle. Own building blocks are "
                f"{CODE}/*{CODE_SUFFIX}."
            )
        for path in [name, *(f"{folder}/" for folder in PurePosixPath(name).parents if folder.name)]:
            key = unicodedata.normalize("NFC", path.rstrip("/")).casefold()
            if key in seen and (path == name or path != seen[key]):
                raise IntegrityError(f"{path!r} and {seen[key]!r} must not be in one item: some systems confuse them.")
            seen[key] = path


def _is_portable(part: str) -> bool:
    return len(part) <= MAX_LENGTH and not _RESERVED.fullmatch(part) and not part.endswith(".")
