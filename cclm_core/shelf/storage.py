"""The big files of a shelf, through DVC's command line.

What a shelf's own DVC files and settings say is not trusted: DVC settings can name a command that it runs
(`bearer_token_command`) and a folder listing can name paths outside of the folder. So the files are asked for one by
one, by the keys in the card, in a repository made for the purpose, with the address of the storage and no other
setting. DVC ends well even when a file is missing: whether all is there, is checked here.
"""

import configparser
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cclm_core.runtime.errors import ShelfError
from cclm_core.shelf.contents import ItemFile, copy_checked
from cclm_core.shelf.git import environment

SETTINGS, LOCAL_SETTINGS = ".dvc/config", ".dvc/config.local"
CACHE, REMOTE = ".dvc/cache", "shelf"
SCHEMES = ("", "file", "s3", "gs", "azure", "ssh", "https", "webdavs", "oss")
ALLOWED = ("url", "endpointurl", "region", "account_name", "allow_anonymous_login")
_NAME = re.compile(r"'remote \"([A-Za-z0-9_][A-Za-z0-9_.-]*)\"'")


@dataclass(frozen=True)
class Remote:
    """Where the big files are.

    Attributes:
        name: as the shelf calls it.
        settings: `url`, and what else belongs to the address.
    """

    name: str
    settings: dict[str, str]

    @classmethod
    def parse(cls, text: str, shelf: Path | None) -> "Remote":
        """Reads the default remote from a shelf's DVC settings.

        Args:
            text: the content of `.dvc/config`.
            shelf: the folder of a local shelf, where a relative path begins; None for one that was reached by address.

        Raises:
            ShelfError: there is none, or it has settings that a shelf may not bring along.
        """
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(text)
        except configparser.Error as error:
            raise ShelfError(f"{SETTINGS} of the shelf must be DVC's settings: {error}") from None
        name = parser.get("core", "remote", fallback="")
        sections = {found[1]: dict(parser[title]) for title in parser.sections() if (found := _NAME.fullmatch(title))}
        if name not in sections or not sections[name].get("url"):
            raise ShelfError(
                f"{SETTINGS} of the shelf must name a default remote with its url; see `dvc remote add -d`."
            )
        settings = {key: _unquoted(key, value) for key, value in sections[name].items()}
        for key in sorted(settings.keys() - set(ALLOWED)):
            raise ShelfError(
                f"the shelf's remote must bring only {', '.join(ALLOWED)}, got {key!r}: some settings of DVC run "
                "commands or hold secrets. Put yours into your own with `dvc remote modify --global`."
            )
        return cls(name, settings | {"url": _address(settings["url"], shelf)})

    def as_config(self, scratch: Path) -> str:
        """DVC's settings for a repository in `scratch` that has this remote alone.

        It is always called `shelf`: the user's own settings can give credentials to this name, and a shelf cannot ask
        for those of another remote of the user by taking its name.
        """
        lines = ["[core]", f"    remote = {REMOTE}", "    no_scm = true", "    analytics = false"]
        lines += ["    check_update = false", f"    site_cache_dir = {scratch / 'site'}"]
        lines += ["[cache]", f"    dir = {scratch / CACHE}", f"['remote \"{REMOTE}\"']"]
        return "\n".join([*lines, *(f'    {key} = "{value}"' for key, value in self.settings.items()), ""])


def download(remote: Remote, files: Iterable[ItemFile], scratch: Path, target: Path) -> None:
    """Fetches files into `target`, each compared with its digest on the way.

    Args:
        remote: where from.
        files: what to fetch.
        scratch: an empty folder that nobody else can write.
        target: a folder that does not exist.

    Raises:
        ShelfError: DVC fails, or the storage lacks a file.
        IntegrityError: bytes are not those that were promised.
    """
    files = list(files)
    (scratch / ".dvc").mkdir()
    (scratch / SETTINGS).write_text(remote.as_config(scratch), encoding="utf-8")
    outs = [
        {"md5": file.md5, "size": file.size, "hash": "md5", "path": f"files/{number}"}
        for number, file in enumerate({file.md5: file for file in files}.values())
    ]
    (scratch / "item.dvc").write_text(json.dumps({"outs": outs}), encoding="utf-8")  # JSON is YAML
    dvc("fetch", "--quiet", "--", "item.dvc", at=scratch)
    for file in files:
        source = scratch / CACHE / "files" / "md5" / file.md5[:2] / file.md5[2:]
        if not source.is_file():
            raise ShelfError(
                f"the storage of the shelf must hold {file.path}, but it lacks it; publish the item again."
            )
        copy_checked(file, source, target / file.path)


def dvc(*arguments: str, at: Path) -> None:
    """Runs DVC in a repository.

    Raises:
        ShelfError: DVC is not installed, or failed.
    """
    beside = shutil.which("dvc", path=str(Path(sys.executable).parent))
    program = beside or shutil.which("dvc")
    if program is None:
        raise ShelfError("the command `dvc` must be installed to use a shelf; install it: pip install dvc")
    # DVC's own place for its site cache can be written by every user, and DVC unpickles what it finds there.
    private = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(at / ".dvc" / "tmp" / "site")}
    done = subprocess.run(
        [program, *arguments],
        cwd=at,
        env=environment() | private,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        message = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}"
        raise ShelfError(f"dvc {arguments[0]} failed: {message}")


def _address(url: str, shelf: Path | None) -> str:
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme not in SCHEMES or url.startswith("-"):
        raise ShelfError(f"the shelf's remote must be a folder or one of {', '.join(SCHEMES[1:])}, got {url!r}.")
    if scheme or Path(url).is_absolute():
        return url
    if shelf is None:
        raise ShelfError(f"the remote of a shelf that is reached by address must have one too, got the path {url!r}.")
    return str((shelf / ".dvc" / url).resolve())


def _unquoted(key: str, value: str) -> str:
    """A value as DVC reads it: DVC puts one with a comma or `#` into quotes."""
    bare = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value
    if '"' in bare or not bare.isprintable():
        raise ShelfError(f"{key} of the shelf's remote must be one line without quotes, got {value!r}.")
    return bare
