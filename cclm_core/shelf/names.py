"""Names that a shelf accepts: none leaves its folder, none is read by git or DVC as an option or as a command."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError, IntegrityError

ITEM_TYPES = ("preprocessor", "embedder", "component", "composition")
SUFFIXES = (".json", ".safetensors", ".csv", ".md", ".txt")  # data alone: nothing that runs when it is opened
SCHEMES = ("https", "ssh", "file")
MAX_LENGTH = 100

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@+-]*")
_PART = re.compile(r"[^\x00-\x1f\x7f/\\:*?\"<>|]+")
_SCP_LIKE = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^:].*")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # devices on Windows, whatever follows


def check_identifier(identifier: str) -> str:
    """Returns `identifier` if it can be the name of one folder anywhere.

    >>> check_identifier("en_wiki_clm_1")
    'en_wiki_clm_1'

    Raises:
        ConfigError: it is empty, too long, begins with a sign, or has a character that is none of A-Z a-z 0-9 . _ -
    """
    if not _IDENTIFIER.fullmatch(identifier) or len(identifier) > MAX_LENGTH or _unportable(identifier):
        raise ConfigError(
            f"an identifier must begin with a letter or digit and hold only A-Z a-z 0-9 . _ -, at most {MAX_LENGTH} "
            f"of them, got {identifier!r}; choose another name, e.g. en_plays_1."
        )
    return identifier


def check_item_type(item_type: str) -> str:
    """Returns `item_type` if it is one of `ITEM_TYPES`.

    Raises:
        ConfigError: it is none.
    """
    if item_type not in ITEM_TYPES:
        raise ConfigError(f"{item_type!r} is no type of item; {nearest(item_type, list(ITEM_TYPES))}.")
    return item_type


def check_revision(revision: str) -> str:
    """Returns `revision` if it can be a tag, a branch or a commit, and nothing else in git's language.

    >>> check_revision("v0.2.1")
    'v0.2.1'

    Raises:
        ConfigError: it begins with a sign, or git reads more than a name in it (`..`, `@{`, `^`, `~`, `:`).
    """
    parts = revision.split("/")
    wrong = any(not part or part.startswith(".") or part.endswith((".lock", ".")) for part in parts)
    if not _REVISION.fullmatch(revision) or wrong or ".." in revision or len(revision) > MAX_LENGTH:
        raise ConfigError(
            f"a tag or revision must be a plain name of a tag, branch or commit, e.g. v0.2.1, got {revision!r}."
        )
    return revision


def check_repository(repository: str) -> str:
    """Returns where git finds a shelf: an address as it was given, or the absolute path of a local folder.

    Raises:
        ConfigError: an option, a transport other than https, ssh and local files, or an address with a password.
    """
    if not repository or repository.startswith("-") or "\0" in repository or "\n" in repository:
        raise ConfigError(f"a shelf must be named by a path or an address, got {repository!r}.")
    if "::" in repository or ("://" in repository and urlsplit(repository).scheme not in SCHEMES):
        raise ConfigError(
            f"a shelf must be reached by {', '.join(SCHEMES)} or a local path, got {repository!r}: other transports "
            "run commands or protect nothing on the way."
        )
    if "://" not in repository:
        return repository if _SCP_LIKE.fullmatch(repository) else str(Path(repository).expanduser().absolute())
    parts = urlsplit(repository)
    if parts.password is not None:
        raise ConfigError("the address of a shelf must hold no password; put it into git's credential store.")
    if (parts.hostname or "").startswith("-") or (parts.username or "").startswith("-"):
        raise ConfigError(f"the host of a shelf must not begin with a dash, got {repository!r}.")
    return repository


def check_file_names(names: Iterable[str]) -> None:
    """Checks the paths of an item's files, relative and with `/` between their parts.

    Raises:
        IntegrityError: a name leaves the folder, means something to git or DVC, is no plain data, or meets another
            one where upper and lower case are the same.
    """
    seen: dict[str, str] = {}
    for name in names:
        for part in name.split("/"):
            if not _PART.fullmatch(part) or part.startswith((".", "-")) or part.endswith((".", " ")):
                raise IntegrityError(f"{name!r} must not be in an item: the part {part!r} is no plain file name.")
            if _unportable(part) or len(part) > MAX_LENGTH:
                raise IntegrityError(f"{name!r} must not be in an item: {part!r} cannot be stored on every system.")
        if not name.endswith(SUFFIXES):
            raise IntegrityError(f"{name!r} must not be in an item: only {', '.join(SUFFIXES)} may be, never a pickle.")
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in seen:
            raise IntegrityError(f"{name!r} and {seen[folded]!r} must not be in one item: some systems confuse them.")
        seen[folded] = name


def _unportable(part: str) -> bool:
    return bool(_RESERVED.fullmatch(part)) or part.endswith(".")
