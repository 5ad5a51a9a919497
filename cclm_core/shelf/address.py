"""The address of a shelf's storage, read from the shelf's `.dvc/config`.

The file is a stranger's. It is parsed once, here, and DVC never sees it. The parser accepts the notation that DVC
itself writes, so whatever it accepts means the same to DVC; everything else is refused, not skipped.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from cclm_core.runtime.errors import ShelfError

BUCKETS = ("s3", "gs", "azure", "oss")  # address: a bucket or container and a path, at the provider's own host
HOSTS = ("ssh", "https", "webdavs")
SCHEMES = ("", "file", *BUCKETS, *HOSTS)
# The settings of a remote that a shelf may have: those that cannot change where credentials are sent. The provider's
# library builds the host name from region and account name, so a dot or a slash in them would name another host.
ALLOWED = {
    "url": r".+",
    "region": r"[a-z0-9-]{1,63}",
    "account_name": r"[a-z0-9]{3,24}",
    "allow_anonymous_login": r"(?i:true|false)",
}

_SECTION = re.compile(r"""\[\s*(?:core|'remote "([^"'\[\]#,]+)"'|remote "([^"'\[\]#,]+)")\s*\]""")
_SETTING = re.compile(r"""([A-Za-z_]+)\s*=\s*(?:"([^"']*)"|'([^"']*)'|([^"'#,\s](?:[^"'#,]*[^"'#,\s])?))""")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HOST = re.compile(r"(?:[A-Za-z0-9._~+-]+@)?[A-Za-z0-9\[](?:[A-Za-z0-9.:-]*[A-Za-z0-9\]])?(?::[0-9]+)?")


def read_remote(text: str, shelf: Path | None) -> dict[str, str]:
    """Reads the default remote from a shelf's DVC settings: `url` and the other `ALLOWED` settings.

    Args:
        text: the content of `.dvc/config`.
        shelf: folder of a local shelf, to resolve a relative `url`; None for a shelf at an address.

    Raises:
        ShelfError: there is no default remote, or the file has settings or a notation that are not allowed.
    """
    sections: dict[str | None, dict[str, str]] = {}  # name of a remote, None for core -> its settings
    for section, key, value in _settings(text):
        values = sections.setdefault(section, {})
        if key in values:
            raise _refused(f"{key!r} twice")
        values |= {key: value} if key else {}
    default = sections.pop(None, {}).get("remote", "").lower()
    remote = sections.pop(default, {})
    if not remote.get("url"):
        raise ShelfError(".dvc/config of the shelf must name a default remote with a url. Run `dvc remote add -d`.")
    for extra in sorted({*sections, *remote} - set(ALLOWED), key=str):
        raise _refused(repr(extra))
    for key, value in remote.items():
        if not re.fullmatch(ALLOWED[key], value):
            raise ShelfError(f"{key} of the shelf's remote must match {ALLOWED[key]}, got {value!r}.")
    return remote | {"url": _check_url(remote["url"], shelf)}


def _settings(text: str) -> Iterator[tuple[str | None, str, str]]:
    """Yields remote (None: core), key and value of each setting; once without key and value for each section.

    DVC ignores case in names and keys.
    """
    section: str | None = None
    seen: set[str | None] = set()
    for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        line = raw.strip(" \t")
        plain = line.isprintable() and "%(" not in line  # DVC replaces %(name)s
        if not line or (line.startswith("#") and plain):
            continue
        if plain and (match := _SECTION.fullmatch(line)):
            name = match[1] or match[2]
            section = name.lower() if name else None
            if section in seen:
                raise _refused(f"{line!r} twice")
            seen.add(section)
            yield section, "", ""
        elif line.startswith("["):
            raise _refused(repr(line))
        elif seen and plain and (match := _SETTING.fullmatch(line)):
            yield section, match[1].lower(), next(value for value in match.groups()[1:] if value is not None)
        else:
            raise ShelfError(
                f"line {number} of .dvc/config of the shelf must be `key = value` in plain characters, got {line!r}."
            )


def _refused(what: str) -> ShelfError:
    return ShelfError(
        f".dvc/config of the shelf must set only {', '.join(ALLOWED)} of one remote, got {what}: other settings can "
        "run commands or redirect credentials. If you trust it, set it for a remote of your own with the same url: "
        "`dvc remote add --global`, then `dvc remote modify --global`."
    )


def _check_url(url: str, shelf: Path | None) -> str:
    """Returns an address unchanged and a folder as an absolute path, or raises ShelfError."""
    scheme, separator, rest = url.partition("://")
    if (separator and scheme not in SCHEMES) or url.startswith(("-", "~")):
        raise ShelfError(f"the shelf's remote must be a folder or one of {', '.join(SCHEMES[1:])}, got {url!r}.")
    if separator and scheme != "file":
        try:
            host, password = urlsplit(url).netloc, urlsplit(url).password
        except ValueError as error:
            raise ShelfError(f"the shelf's remote must be an address, got {url!r}: {error}.") from None
        if password is not None:
            raise ShelfError("the shelf's remote must not contain a password. Set it for a remote of your own.")
        if not (_BUCKET if scheme in BUCKETS else _HOST).fullmatch(host):
            raise ShelfError(f"the shelf's remote must have a plain host or bucket name, got {host!r} in {url!r}.")
        return url
    path = Path(rest if separator else url)
    if not path.is_absolute():
        if shelf is None or separator:
            raise ShelfError(f"a shelf at an address must have a remote at an address, got the path {url!r}.")
        return os.path.normpath(shelf.resolve() / ".dvc" / path)
    return str(path)
