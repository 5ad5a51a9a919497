"""The files of items, in a storage that DVC reads and writes.

DVC never sees the settings or pointers of a shelf: settings can name a command that DVC runs or a folder that it writes
to, and pointers can name paths elsewhere. Of `.dvc/config` only the address of the default remote is used; a download
takes keys and paths from the card. Credentials follow the address: the user's own DVC settings for a remote are used
if its `url` is that of the shelf, and then instead of the shelf's.
"""

import configparser
import json
import re
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from cclm_core.runtime.errors import ShelfError
from cclm_core.shelf.files import ItemFile
from cclm_core.shelf.programs import run

SETTINGS, FILES = ".dvc/config", "item"
SCHEMES = ("", "file", "s3", "gs", "azure", "ssh", "https", "webdavs", "oss")
ALLOWED = ("url", "region", "account_name", "allow_anonymous_login")
SLACK = 4 << 20  # bytes that DVC's own small databases may need


def read_remote(text: str, shelf: Path | None) -> dict[str, str]:
    """The default remote in a shelf's DVC settings: `url`, and what else belongs to the address.

    Args:
        text: the content of `.dvc/config`.
        shelf: the folder of a local shelf, to which a relative path refers; None for a shelf at an address.

    Raises:
        ShelfError: there is no default remote, or the file has settings that a shelf must not have.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ShelfError(f"{SETTINGS} of the shelf must be DVC's settings: {str(error)!r}.") from None
    section = f"'remote \"{parser.get('core', 'remote', fallback='')}\"'"
    if not parser.get(section, "url", fallback=""):
        raise ShelfError(f"{SETTINGS} of the shelf must name a default remote with a url; see `dvc remote add -d`.")
    for extra in sorted({*parser.sections(), *parser[section]} - {"core", section, *ALLOWED}):
        raise ShelfError(
            f"{SETTINGS} of the shelf must set only {', '.join(ALLOWED)} of one remote, got {extra!r}: other settings "
            "can run commands or redirect credentials. If you trust it, set it for a remote of your own with the same "
            "url, with `dvc remote add --global` and `dvc remote modify --global`."
        )
    settings = {}
    for key, value in parser[section].items():
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"  # DVC quotes values with , or #
        settings[key] = value[1:-1] if quoted else value
        if '"' in settings[key] or not settings[key].isprintable():
            raise ShelfError(f"{key} of the shelf's remote must be one line without quotes, got {value!r}.")
    return settings | {"url": _absolute(settings["url"], shelf)}


def upload(remote: dict[str, str], folder: Path) -> bytes:
    """Stores the files in `folder / FILES`; returns DVC's pointer to them, the content of a .dvc file.

    Raises:
        ShelfError: DVC fails, e.g. because the storage cannot be written.
    """
    connect(remote, folder)
    run("dvc", "add", "--quiet", FILES, at=folder)
    run("dvc", "push", f"{FILES}.dvc", at=folder)
    return (folder / f"{FILES}.dvc").read_bytes()


def download(remote: dict[str, str], files: Sequence[ItemFile], folder: Path) -> None:
    """Fetches files, whose paths were checked, into `folder / FILES`. Only their sizes are limited to what is promised.

    Raises:
        ShelfError: DVC fails, the storage lacks a file or has a larger one, or there is not enough space.
    """
    needed, free = 2 * sum(file.size for file in files), shutil.disk_usage(folder).free  # DVC's cache, and a copy
    if needed > free:
        raise ShelfError(f"fetching needs {needed:,} bytes of disk space, got {free:,} in {folder}; free some space.")
    connect(remote, folder)
    outs = [{"md5": file.md5, "size": file.size, "hash": "md5", "path": f"{FILES}/{file.path}"} for file in files]
    (folder / f"{FILES}.dvc").write_text(json.dumps({"outs": outs}), encoding="utf-8")  # JSON is YAML
    run("dvc", "pull", f"{FILES}.dvc", at=folder, max_bytes=max((file.size for file in files), default=0) + SLACK)


def connect(remote: dict[str, str], folder: Path) -> None:
    """Makes `folder` a DVC repository outside of git with this remote only."""
    path = folder / SETTINGS
    path.parent.mkdir(parents=True)
    core = ["[core]", "    no_scm = true", "    analytics = false", "    check_update = false"]
    cache = ["[cache]", f"    dir = {folder / '.dvc' / 'cache'}", ""]
    path.write_text("\n".join([*core, *cache]), encoding="utf-8")
    name, settings = _own_remote(remote["url"], folder), []
    if name is None:
        name = f"shelf-{secrets.token_hex(8)}"  # for which the user has no settings
        settings = [f"['remote \"{name}\"']", *(f'    {key} = "{value}"' for key, value in remote.items()), ""]
    path.write_text("\n".join([*core, f"    remote = {name}", *cache, *settings]), encoding="utf-8")


def _own_remote(url: str, folder: Path) -> str | None:
    """The name of the remote with this address in the user's own DVC settings; a local path needs none."""
    if Path(url).is_absolute():
        return None
    for line in run("dvc", "config", "--list", at=folder).splitlines():
        if (match := re.fullmatch(r"remote\.(.+)\.url=(.*)", line)) and match[2] == url:
            return match[1]
    return None


def _absolute(url: str, shelf: Path | None) -> str:
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme not in SCHEMES or url.startswith("-"):
        raise ShelfError(f"the shelf's remote must be a folder or one of {', '.join(SCHEMES[1:])}, got {url!r}.")
    if scheme or Path(url).is_absolute():
        return url
    if shelf is None:
        raise ShelfError(f"a shelf at an address must have a remote at an address, got the path {url!r}.")
    return str((shelf / ".dvc" / url).resolve())
