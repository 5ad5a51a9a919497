"""The files of items, in a storage that DVC reads and writes.

DVC never reads the settings or pointers of a shelf: settings can name a command that DVC runs or a folder that it
writes to, and pointers can name paths outside. Only the address of the default remote is taken from a shelf's
`.dvc/config`. A download takes keys and paths from the card. Credentials follow the address: if the user's own DVC
settings have a remote with the same `url`, that remote is used instead.
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
    """Reads the default remote from a shelf's DVC settings: `url` and the other `ALLOWED` settings.

    Args:
        text: the content of `.dvc/config`.
        shelf: folder of a local shelf, to resolve a relative `url`; None for a shelf at an address.

    Raises:
        ShelfError: there is no default remote, or the file has settings that are not allowed.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ShelfError(f"{SETTINGS} of the shelf must be DVC settings: {str(error)!r}.") from None
    section = f"'remote \"{parser.get('core', 'remote', fallback='')}\"'"
    if not parser.get(section, "url", fallback=""):
        raise ShelfError(f"{SETTINGS} of the shelf must name a default remote with a url. Run `dvc remote add -d`.")
    for extra in sorted({*parser.sections(), *parser[section]} - {"core", section, *ALLOWED}):
        raise ShelfError(
            f"{SETTINGS} of the shelf must set only {', '.join(ALLOWED)} of one remote, got {extra!r}: other settings "
            "can run commands or redirect credentials. If you trust it, set it for a remote of your own with the same "
            "url: `dvc remote add --global`, then `dvc remote modify --global`."
        )
    settings = {}
    for key, value in parser[section].items():
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"  # DVC quotes values with , or #
        settings[key] = value[1:-1] if quoted else value
        if '"' in settings[key] or not settings[key].isprintable():
            raise ShelfError(f"{key} of the shelf's remote must be one line without quotes, got {value!r}.")
    url = settings["url"]
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme not in SCHEMES or url.startswith("-"):
        raise ShelfError(f"the shelf's remote must be a folder or one of {', '.join(SCHEMES[1:])}, got {url!r}.")
    if not scheme and not Path(url).is_absolute():
        if shelf is None:
            raise ShelfError(f"a shelf at an address must have a remote at an address, got the path {url!r}.")
        settings["url"] = str((shelf / ".dvc" / url).resolve())
    return settings


def upload(remote: dict[str, str], folder: Path) -> bytes:
    """Stores the files in `folder / FILES`; returns DVC's pointer to them, the content of a .dvc file."""
    connect(remote, folder)
    run("dvc", "add", "--quiet", FILES, at=folder)
    run("dvc", "push", f"{FILES}.dvc", at=folder)
    return (folder / f"{FILES}.dvc").read_bytes()


def download(remote: dict[str, str], files: Sequence[ItemFile], folder: Path) -> None:
    """Fetches files with checked names into `folder / FILES`. It limits their size; the caller verifies the content."""
    needed, free = 2 * sum(file.size for file in files), shutil.disk_usage(folder).free  # DVC's cache, and a copy
    if needed > free:
        raise ShelfError(f"fetching needs {needed:,} bytes of disk space, got {free:,} in {folder}. Free some space.")
    connect(remote, folder)
    outs = [{"md5": file.md5, "size": file.size, "hash": "md5", "path": f"{FILES}/{file.path}"} for file in files]
    (folder / f"{FILES}.dvc").write_text(json.dumps({"outs": outs}), encoding="utf-8")  # JSON is YAML
    run("dvc", "pull", f"{FILES}.dvc", at=folder, max_bytes=max((file.size for file in files), default=0) + SLACK)


def connect(remote: dict[str, str], folder: Path) -> None:
    """Makes `folder` a DVC repository without git, with only this remote or the user's own remote of the same url."""
    config = folder / SETTINGS
    config.parent.mkdir(parents=True)
    own = re.compile(rf"remote\.(.+)\.url={re.escape(remote['url'])}")
    local = Path(remote["url"]).is_absolute()  # needs no credentials
    listed = [] if local else run("dvc", "config", "--list", at=folder).splitlines()
    name = next((match[1] for line in listed if (match := own.fullmatch(line))), None)
    settings = []
    if name is None:
        name = f"shelf-{secrets.token_hex(8)}"  # no remote of the user has this name
        settings = [f"['remote \"{name}\"']", *(f'    {key} = "{value}"' for key, value in remote.items())]
    core = ["[core]", "    no_scm = true", "    analytics = false", "    check_update = false", f"    remote = {name}"]
    cache = ["[cache]", f"    dir = {folder / '.dvc' / 'cache'}"]
    config.write_text("\n".join([*core, *cache, *settings, ""]), encoding="utf-8")
