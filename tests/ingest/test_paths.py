"""Folders, patterns, compressed files, tables without a header, and quotes that are ordinary characters."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.ingest.sources.files import FilesConfig
from cclm_core.ingest.sources.hub import DatasetConfig
from cclm_core.runtime.errors import ConfigError, DataError

DOWNLOADS = Path("downloads")


@pytest.fixture(autouse=True)
def _in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _read(paths: str | list[str], **settings: Any) -> list[tuple[str, str]]:
    """The id and text of each record; the reason of each rejection."""
    config = FilesConfig.parse({"kind": "files", "paths": paths, **settings}, "test")
    items = config.read(DOWNLOADS)
    return [(item.record.id, item.record.text) if isinstance(item, Located) else _rejection(item) for item in items]


def _rejection(item: Rejected) -> tuple[str, str]:
    return f"{item.file}:{item.line}", item.reason


def _write(files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)


def _zstd(content: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": _zstd,
}


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one\ntwo\n"),
        ("a.jsonl", '{"text": "one"}\n{"text": "two"}\n'),
        ("a.csv", "text\none\ntwo\n"),
        ("a.tsv", "x\ttext\n1\tone\n2\ttwo\n"),
        ("a.conll", "one O\n\ntwo B-X\n"),
    ],
)
def test_compressed_files_are_read_like_others(suffix: str, name: str, content: str) -> None:
    packed = f"{name}.{suffix}"
    _write({packed: PACKERS[suffix](content.encode()), name: content})
    assert [(file.replace(name, packed), text) for file, text in _read(name)] == _read(packed)
    assert [text for _, text in _read(packed)] == ["one", "two"]


def test_a_compressed_file_that_ends_early_is_one_error() -> None:
    content = gzip.compress("\n".join(f"line {line}" for line in range(400_000)).encode())
    _write({"a.txt.gz": content[:-1000]})
    with pytest.raises(DataError, match=r"a.txt.gz is compressed with gzip and damaged: .*Download it again"):
        _read("a.txt.gz")


def test_an_invalid_line_of_a_compressed_file_rejects_only_itself() -> None:
    _write({"a.txt.gz": gzip.compress(b"one\n\xff\xfe\ntwo\n")})
    assert _read("a.txt.gz") == [("a.txt.gz:1", "one"), ("a.txt.gz:2", "invalid UTF-8"), ("a.txt.gz:3", "two")]


def test_a_folder_stands_for_all_its_data_files() -> None:
    _write({f"d/{name}": "one\n" for name in ("b.txt", "a.txt", "x/c.txt", "README.txt", ".d.txt", "e.md", ".f/g.txt")})
    assert [name for name, _ in _read("d")] == ["d/a.txt:1", "d/b.txt:1", "d/x/c.txt:1"]
    assert [name for name, _ in _read("d", format="text")] == ["d/a.txt:1", "d/b.txt:1", "d/e.md:1", "d/x/c.txt:1"]


def test_patterns_are_expanded_in_order_and_files_read_once() -> None:
    _write({f"d/{name}": "one\n" for name in ("2.txt", "1.txt", "x/3.txt", "4.csv")})
    assert [name for name, _ in _read("d/*.txt")] == ["d/1.txt:1", "d/2.txt:1"]
    assert [name for name, _ in _read(["d/2.txt", "d/**/*.txt"])] == ["d/2.txt:1", "d/1.txt:1", "d/x/3.txt:1"]
    with pytest.raises(DataError, match=r"no file matches d/\*.jsonl"):
        _read("d/*.jsonl")


def test_a_file_whose_name_looks_like_a_pattern_is_read() -> None:
    _write({"a[1].txt": "one\n"})
    assert _read("a[1].txt") == [("a[1].txt:1", "one")]


def test_a_table_without_a_header_gets_the_configured_one() -> None:
    _write({"a.tsv": "pos\tone\nneg\ttwo\nneg\n"})
    assert _read("a.tsv", header=["label", "text"]) == [
        ("a.tsv:1", "one"),
        ("a.tsv:2", "two"),
        ("a.tsv:3", "2 columns expected"),
    ]
    _write({"empty.csv": ""})
    assert _read("empty.csv", header=["text"]) == []
    with pytest.raises(DataError, match=r"column `text` not found in a.tsv; it has label, body"):
        _read("a.tsv", header=["label", "body"])
    with pytest.raises(ConfigError, match="the names of columns must differ, got 'text' twice"):
        _read("a.tsv", header=["text", "text"])


def test_quotes_can_be_ordinary_characters() -> None:
    _write({"a.tsv": 'text\n"Well , " he said\n" no\n'})
    assert [text for _, text in _read("a.tsv", quotes=False)] == ['"Well , " he said', '" no']
    assert _read("a.tsv")[0][1].startswith("not CSV")


def test_lists_of_class_numbers_become_lists_of_names(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    classes = datasets.ClassLabel(names=["O", "B-PER"])
    features = datasets.Features({"text": datasets.Value("string"), "tags": datasets.Sequence(classes)})
    rows = {"text": ["a b", "c"], "tags": [[1, 0], [0]]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "saved"))
    config = DatasetConfig.parse({"kind": "dataset", "path": "saved", "columns": {"label": "tags"}}, "test")
    # A list is no label, so the excerpt of the rejection shows that the column was read.
    assert [item.reason for item in config.read(DOWNLOADS) if isinstance(item, Rejected)] == [
        "label is not a text or a number",
        "label is not a text or a number",
    ]
