"""The files of items, in a storage that DVC reads and writes.

DVC never reads the settings or pointers of a shelf: settings can name a command that DVC runs or a folder that it
writes to, and pointers can name paths outside. Only the address of the default remote is taken from a shelf's
`.dvc/config`, by a parser that accepts a small part of DVC's notation and refuses the rest. A download takes keys and
paths from the card. Credentials follow the address: if the user's own DVC settings have a remote with the same `url`,
that remote is used instead.
"""

import json
import re
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cclm_core.runtime.errors import IntegrityError, ShelfError
from cclm_core.shelf.files import ItemFile
from cclm_core.shelf.programs import run

SETTINGS, FILES = ".dvc/config", "item"
CACHE = ".dvc/cache/files/md5"
SLACK = 4 << 20  # bytes of each of DVC's own small databases


def upload(remote: dict[str, str], folder: Path) -> bytes:
    """Stores the files in `folder / FILES`; returns DVC's pointer to them, the content of a .dvc file."""
    connect(remote, folder)
    run("dvc", "add", "--quiet", FILES, at=folder)
    run("dvc", "push", f"{FILES}.dvc", at=folder)
    return (folder / f"{FILES}.dvc").read_bytes()


def download(remote: dict[str, str], files: Sequence[ItemFile], folder: Path) -> None:
    """Fetches files with checked names into `folder / FILES`; the caller verifies the content.

    Each file is on the disk once, and no more is written than the card promises and DVC's databases need.

    Raises:
        ShelfError: the storage cannot be reached or lacks a file, or the disk has too little space.
        IntegrityError: the storage has more bytes than the card promises.
    """
    needed, free = sum(file.size for file in files) + SLACK, shutil.disk_usage(folder).free
    if needed > free:
        raise ShelfError(f"fetching needs {needed:,} bytes of disk space, got {free:,} in {folder}. Free some space.")
    connect(remote, folder)
    outs = [{"md5": file.md5, "size": file.size, "hash": "md5", "path": f"{FILES}/{file.path}"} for file in files]
    (folder / f"{FILES}.dvc").write_text(json.dumps({"outs": outs}), encoding="utf-8")  # JSON is YAML
    largest = max((file.size for file in files), default=0)
    run("dvc", "fetch", f"{FILES}.dvc", at=folder, max_file=largest + SLACK, max_total=needed + 4 * SLACK)
    taken: dict[str, Path] = {}
    for file in files:
        source, target = folder / CACHE / file.md5[:2] / file.md5[2:], folder / FILES / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.md5 in taken:  # two files with the same content
            shutil.copyfile(taken[file.md5], target)
            continue
        if not source.is_file():
            raise ShelfError(
                f"{file.path} is missing or damaged in the storage, key {file.md5}. Publish the item again."
            )
        if (size := source.stat().st_size) != file.size:
            raise IntegrityError(f"{file.path} must have {file.size:,} bytes, but the storage has {size:,}.")
        source.rename(target)
        target.chmod(0o644)  # DVC protects its cache
        taken[file.md5] = target


def connect(remote: dict[str, str], folder: Path) -> None:
    """Makes `folder` a DVC repository without git, with only this remote or the user's own remote of the same url."""
    config = folder / SETTINGS
    config.parent.mkdir(parents=True)
    name = None if Path(remote["url"]).is_absolute() else _own_remote(remote["url"], folder)  # a folder needs no login
    settings = []
    if name is None:
        name = f"shelf-{secrets.token_hex(8)}"  # no remote of the user has this name
        settings = [f"['remote \"{name}\"']", *(f'    {key} = "{value}"' for key, value in remote.items())]
    core = ["[core]", "    no_scm = true", "    analytics = false", "    check_update = false", f"    remote = {name}"]
    cache = ["[cache]", f"    dir = {folder / '.dvc' / 'cache'}", '    type = "reflink,hardlink,copy"']
    config.write_text("\n".join([*core, *cache, *settings, ""]), encoding="utf-8")


def is_named(url: str) -> bool:
    """Whether the user's own DVC settings have a remote with this address."""
    with tempfile.TemporaryDirectory(prefix="cclm-shelf-") as folder:
        (Path(folder) / SETTINGS).parent.mkdir()
        return _own_remote(url, Path(folder)) is not None


def _own_remote(url: str, folder: Path) -> str | None:
    """The name of the remote with this address in the user's own DVC settings; `folder` contains an empty `.dvc`."""
    for line in run("dvc", "config", "--list", at=folder).splitlines():
        match = re.fullmatch(r"remote\.(.+)\.url=(.+)", line)
        if match and match[2].rstrip("/") == url.rstrip("/"):
            return match[1]
    return None
