"""Saved datasets are read with their own columns, splits and class names alone, and never decoded or trusted."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.corpus.records import Record
from cclm_core.ingest.sources.hub import DatasetConfig
from cclm_core.runtime.errors import DataError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    datasets.disable_progress_bars()


def _read(path: str, **settings: Any) -> tuple[list[Record], list[Rejected]]:
    items = list(DatasetConfig.parse({"kind": "dataset", "path": path, **settings}, "test").read(Path("downloads")))
    records = [item.record for item in items if isinstance(item, Located)]
    return records, [item for item in items if isinstance(item, Rejected)]


def _save(path: str = "ds", split: str | None = None, **columns: Any) -> None:
    rows = {"text": [f"text {number}" for number in range(20)], **columns}
    datasets.Dataset.from_dict(rows, split=split).save_to_disk(path)


def _write(table: Any, options: Any = None) -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    Path("ds/data-00000-of-00001.arrow").write_bytes(sink.getvalue().to_pybytes())


def _edit(path: str, **changes: Any) -> None:
    content = json.loads(Path(path).read_text())
    Path(path).write_text(json.dumps(content | changes))


@pytest.mark.parametrize("kind", ["torch", "numpy", "pandas", "arrow"])
def test_a_saved_format_has_no_effect(kind: str) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["good", "bad"])}
    )
    rows = {"text": ["a", "b", "c"], "label": [0, 1, -1]}
    datasets.Dataset.from_dict(rows, features=features).with_format(kind, columns=["label"]).save_to_disk("ds")
    records, rejected = _read("ds", columns={"label": "label"})
    assert [(record.text, record.label) for record in records] == [("a", "good"), ("b", "bad"), ("c", None)]
    assert rejected == []


def test_other_columns_are_neither_decoded_nor_opened() -> None:
    picture = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    features = datasets.Features({"text": datasets.Value("string"), "picture": picture})
    rows = {
        "text": ["a", "b"],
        "picture": [{"bytes": b"no image", "path": None}, {"bytes": None, "path": "/etc/hostname"}],
    }
    datasets.Dataset.from_dict(rows, features=features).save_to_disk("ds")
    about = json.loads(Path("ds/dataset_info.json").read_text())
    _edit("ds/dataset_info.json", features=about["features"] | {"picture": {"_type": "Image"}})
    assert [record.text for record in _read("ds")[0]] == ["a", "b"]


def test_the_saved_split_is_honored() -> None:
    _save("train", split="train")
    _save("test", split="test")
    _save("none")
    assert len(_read("train")[0]) == len(_read("test", split="test")[0]) == len(_read("none")[0]) == 20
    for path, split, message in (
        ("train", "test", "train is the split 'train', not 'test'. Set ingest.source.split to train"),
        ("test", "train", "test is the split 'test', not 'train'"),
        ("none", "test", "none has no name for its split, not 'test'"),
    ):
        with pytest.raises(DataError, match=message):
            _read(path, split=split)
    datasets.DatasetDict({"training": datasets.Dataset.from_dict({"text": ["a"]})}).save_to_disk("dict")
    with pytest.raises(DataError, match=r"split 'train' not found in dict. Did you mean `training`\?"):
        _read("dict")


def test_several_files_are_one_dataset() -> None:
    rows = {"text": [f"text {number}" for number in range(2500)]}
    datasets.Dataset.from_dict(rows).save_to_disk("ds", num_shards=3)
    records, _ = _read("ds")
    assert [record.text for record in records] == rows["text"]
    assert records[-1].id == "ds:2500"


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("state.json", {"_data_files": [{"filename": "../secret.arrow"}]}, "must be the name of a file in the folder"),
        ("state.json", {"_data_files": [{"filename": "/etc/hostname"}]}, "must be the name of a file in the folder"),
        ("state.json", {"_data_files": [{"filename": "x" * 5000}]}, "not found. Write it again"),
        ("state.json", {"_data_files": None}, "_data_files must be a list"),
        ("state.json", {"_data_files": [7]}, "has no filename"),
        ("dataset_info.json", {"features": {"text": "x"}}, "the feature 'text' must be an object"),
        ("dataset_info.json", {"features": {"text": {"_type": "ClassLabel", "names": 3}}}, "must be a list of names"),
        ("dataset_info.json", {"features": 3}, "features must be an object"),
    ],
)
def test_damaged_descriptions_are_errors(file: str, changes: dict[str, Any], message: str) -> None:
    _save()
    _edit(f"ds/{file}", **changes)
    with pytest.raises(DataError, match=message):
        _read("ds")


@pytest.mark.parametrize(
    "content", ["", "[]", "{", "[" * 100_000, "null", "version https://git-lfs.github.com/spec/v1\n"]
)
@pytest.mark.parametrize("file", ["state.json", "dataset_info.json"])
def test_descriptions_that_are_not_objects_are_errors(file: str, content: str) -> None:
    _save()
    Path(f"ds/{file}").write_text(content)
    with pytest.raises(DataError, match=file):
        _read("ds")


def test_a_folder_that_is_no_dataset_is_an_error() -> None:
    with pytest.raises(DataError, match=r"folder none not found. Write it with `save_to_disk`"):
        _read("none")
    Path("other").mkdir()
    with pytest.raises(DataError, match="folder other is not a dataset"):
        _read("other")
    with pytest.raises(DataError, match="not found"):
        _read("x" * 5000)


def test_damaged_arrow_files_end_in_records_or_one_error() -> None:
    _save(label=["x"] * 20)
    path = Path("ds/data-00000-of-00001.arrow")
    whole, draw = path.read_bytes(), random.Random(3)
    outcomes = set()
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 8)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(content)
        try:
            _read("ds", columns={"label": "label"})
        except DataError:
            outcomes.add("error")
        else:
            outcomes.add("read")
    assert outcomes == {"error", "read"}


def test_compressed_and_dictionary_files_are_refused() -> None:
    _save()
    table = pa.table({"text": ["a" * 1000] * 20})
    packed = pa.ipc.IpcWriteOptions(compression="zstd")
    words = table.set_column(0, "text", table.column("text").dictionary_encode())
    for content, options, message in (
        (table, packed, "must not be compressed"),
        (words, None, "column `text` of ds must not be a dictionary"),
    ):
        _write(content, options)
        with pytest.raises(DataError, match=message):
            _read("ds")


def test_class_numbers_out_of_range_and_bad_texts_reject_their_row() -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["good", "bad"])}
    )
    rows = {"text": ["a", "b", "c"], "label": [0, 1, 1]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk("ds")
    texts = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff", b"c"], pa.binary()).buffers())
    table = pa.table({"text": texts, "label": pa.array([0, 1, 7], pa.int64())})
    _write(table)
    records, rejected = _read("ds", columns={"label": "label"})
    assert [(record.text, record.label) for record in records] == [("a", "good")]
    assert [(item.file, item.line, item.reason) for item in rejected] == [
        ("ds", 2, "invalid UTF-8"),
        ("ds", 3, "`label` is not the number of a class"),
    ]


def test_streams_of_the_hub_are_read_by_column(monkeypatch: pytest.MonkeyPatch) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "picture": datasets.Image()})
    rows = {"text": ["a", "b"], "picture": [{"bytes": b"no image", "path": None}] * 2}
    stream = datasets.Dataset.from_dict(rows, features=features).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: stream)
    config = DatasetConfig.parse({"kind": "dataset", "name": "x"}, "test")
    assert [item.record.text for item in config.read(Path("d")) if isinstance(item, Located)] == ["a", "b"]
    config = DatasetConfig.parse({"kind": "dataset", "name": "x", "columns": {"text": "picture"}}, "test")
    with pytest.raises(DataError, match="column `picture` of x holds Image, not text"):
        list(config.read(Path("d")))
