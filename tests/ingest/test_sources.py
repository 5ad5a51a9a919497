"""All file formats give the same records; an invalid line rejects only itself, an unreadable file is an error."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.corpus.records import Entity, Record, fault
from cclm_core.ingest.config import IngestConfig
from cclm_core.ingest.sources import lines as lines_module
from cclm_core.ingest.sources.conll import tagged_entities
from cclm_core.ingest.sources.files import FilesConfig
from cclm_core.ingest.sources.hub import DatasetConfig
from cclm_core.runtime.errors import ConfigError, DataError

ARCHIVE = {"kind": "archive", "package": "x", "version": "1", "sha256": "0" * 64, "parser": "a:b"}
DOWNLOADS = Path("downloads")
SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(autouse=True)
def _in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _read(path: str, content: bytes | str | None = None, **settings: Any) -> tuple[list[Record], list[Rejected]]:
    if content is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content.encode() if isinstance(content, str) else content)
    return _partition(FilesConfig.parse({"kind": "files", "paths": [path], **settings}, "test").read(DOWNLOADS))


def _partition(items: Iterable[Located | Rejected]) -> tuple[list[Record], list[Rejected]]:
    items = list(items)
    records = [item.record for item in items if isinstance(item, Located)]
    return records, [item for item in items if isinstance(item, Rejected)]


COLUMNS = {"text": "message", "id": "key", "author": "who", "label": "kind", "entities": "spans"}
ROWS = [
    {"key": "a", "message": "Hello, Ann", "who": "Bob", "kind": "x", "spans": [{"start": 7, "end": 10, "label": "P"}]},
    {"key": "b", "message": 'two\n"lines"', "who": None, "kind": "y", "spans": []},
]
RECORDS = [
    Record(id="a", text="Hello, Ann", author="Bob", label="x", entities=(Entity(7, 10, "P"),)),
    Record(id="b", text='two\n"lines"', label="y"),
]


def test_jsonl_csv_and_parquet_give_the_same_records() -> None:
    jsonl = "\n".join(json.dumps(row) for row in ROWS)
    csv = 'key,message,who,kind,spans\na,"Hello, Ann",Bob,x,"[[7, 10, ""P""]]"\nb,"two\n""lines""",,y,[]\n'
    pq.write_table(pa.Table.from_pylist(ROWS), "data.parquet")
    assert _read("data.jsonl", jsonl, columns=COLUMNS) == (RECORDS, [])
    assert _read("data.csv", csv, columns=COLUMNS) == (RECORDS, [])
    assert _read("data.parquet", columns=COLUMNS) == (RECORDS, [])


def test_each_nonempty_line_of_text_is_a_record() -> None:
    records, rejected = _read("in/data.txt", b"\xef\xbb\xbffirst\r\n\n  third \n")
    assert [(record.id, record.text) for record in records] == [
        ("in/data.txt:1", "first"),
        ("in/data.txt:3", "  third "),
    ]
    assert rejected == []


def test_invalid_utf8_rejects_only_its_line() -> None:
    for name, content in (("a.txt", b"good\nb\xffd\ngood\n"), ("a.csv", b"text\ngood\nb\xffd\ngood\n")):
        records, rejected = _read(name, content)
        assert [record.text for record in records] == ["good", "good"]
        assert [(item.file, item.line, item.reason) for item in rejected] == [
            (name, 2 + name.endswith("csv"), "invalid UTF-8")
        ]


def test_a_line_that_is_too_long_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "LONGEST_LINE", 100)
    records, rejected = _read("a.txt", b"one\n" + b"x" * 1000 + b"\nthree\n")
    assert [record.id for record in records] == ["a.txt:1", "a.txt:3"]
    assert [(item.line, item.reason) for item in rejected] == [(2, "line longer than 100 bytes")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "open', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"other": 1}', "no column `text`"),
        ('{"text": 3}', "text is not a string"),
        ('{"text": null}', "text is not a string"),
        ('{"text": "a", "spans": [[0, 1]]}', "entities are not spans"),
        ('{"text": "a", "spans": "PERSON"}', "entities are not spans"),
        ('{"text": "a", "spans": 7}', "entities are not spans"),
        ('{"text": "a", "spans": [[0.5, 1, "X"]]}', "entities are not spans"),
    ],
)
def test_invalid_json_lines_are_rejected_with_line_and_reason(line: str, reason: str) -> None:
    records, rejected = _read(
        "a.jsonl", f'{{"text": "good", "spans": []}}\n\n{line}\n{{"text": "good"}}\n', columns={"entities": "spans"}
    )
    assert [record.id for record in records] == ["a.jsonl:1", "a.jsonl:4"]
    assert [(item.file, item.line, item.reason) for item in rejected] == [("a.jsonl", 3, reason)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [('""', "empty text"), ('"a\\u0000b"', "NUL character"), ('"\\ud800"', "lone surrogate")],
)
def test_json_escapes_can_produce_invalid_texts(text: str, reason: str) -> None:
    records, _ = _read("a.jsonl", f'{{"text": {text}}}\n')
    assert fault(records[0]) == reason


def test_invalid_csv_rows_are_rejected_and_the_rest_is_read() -> None:
    records, rejected = _read(
        "a.tsv", "text\tlabel\none\tx\ntoo\tmany\tfields\nfew\n\nlast\ty\n", columns={"label": "label"}
    )
    assert [(record.text, record.label) for record in records] == [("one", "x"), ("last", "y")]
    assert [(item.line, item.reason) for item in rejected] == [(3, "2 columns expected"), (4, "2 columns expected")]


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("none.txt", None, "file none.txt not found"),
        (".", None, r"folder \. has no file to read"),
        ("2024-*.csv", None, r"no file matches 2024-\*.csv"),
        ("a.xyz", "text", "unknown format.*ingest.source.format"),
        ("a.csv", "other\nx\n", "column `text` not found in a.csv.*it has other"),
        ("a.parquet", "no parquet", "a.parquet is not a valid Parquet file"),
    ],
)
def test_unreadable_files_are_errors(path: str, content: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _read(path, content)


def test_paths_outside_the_project_do_not_appear_in_outputs(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    records, _ = _read(str(outside), "text\n")
    assert records[0].id == "outside.txt:1"
    described = FilesConfig.parse({"kind": "files", "paths": [str(outside)]}, "test").describe()
    assert str(tmp_path) not in json.dumps(described)
    assert described["files"][0]["sha256"] == "b9e68e1bea3e5b19ca6b2f98b73a54b73daafaa250484902e09982e07a12e733"


def test_a_file_can_be_a_group() -> None:
    records, _ = _read("in/a.txt", "one\ntwo\n", group_by_file=True)
    assert {record.group for record in records} == {"in/a.txt"}


@pytest.mark.parametrize("name", ["in/en.txt", "in/en.txt.gz"])
def test_paragraphs_end_at_an_empty_line_and_a_file_can_be_a_label(name: str) -> None:
    content = "Article 1\nAll are born free.\n \n\nArticle 2\nEveryone\r is entitled.\nto all the rights\n"
    written = gzip.compress(content.encode()) if name.endswith(".gz") else content
    records, rejected = _read(name, written, paragraphs=True, label_by_file=True)
    assert [(record.id, record.text, record.label) for record in records] == [
        (f"{name}:1", "Article 1\nAll are born free.", "en"),
        (f"{name}:5", "Article 2\nto all the rights", "en"),
    ]
    assert [(item.line, item.reason) for item in rejected] == [(6, "CR inside a line")]
    lines, _ = _read(name, written)
    assert len(lines) == 4 and {record.label for record in lines} == {None}
    with pytest.raises(DataError, match=r"ingest\.source\.paragraphs is for text files, but in/a\.csv is csv"):
        _read("in/a.csv", "text\na\n", paragraphs=True)


CONLL = """-DOCSTART- -X- O

EU B-ORG
rejects O
New B-LOC
York I-LOC

Peter B-PER

-DOCSTART- -X- O

broken
line B-PER

last O"""


def test_conll_sentences_are_texts_with_spans_and_documents_are_groups() -> None:
    records, rejected = _read("a.conll", CONLL)
    assert [record.text for record in records] == ["EU rejects New York", "Peter", "last"]
    assert records[0].entities == (Entity(0, 2, "ORG"), Entity(11, 19, "LOC"))
    assert [record.group for record in records] == ["a.conll#1", "a.conll#1", "a.conll#2"]
    assert [(item.line, item.reason) for item in rejected] == [(12, "too few columns")]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O I-A I-A O", [(2, 7, "A")]),
        ("B-A B-A I-A I-B", [(0, 1, "A"), (2, 7, "A"), (8, 10, "B")]),
        ("B-A E-A S-A I-A", [(0, 4, "A"), (5, 7, "A"), (8, 10, "A")]),
        ("B-A L-A U-B O", [(0, 4, "A"), (5, 7, "B")]),
        ("I-A I-B I-B O", [(0, 1, "A"), (2, 7, "B")]),
    ],
)
def test_tag_schemes(tags: str, spans: list[tuple[int, int, str]]) -> None:
    assert list(tagged_entities(["a", "bc", "de", "fg"], tags.split())) == spans


def test_a_dataset_on_disk_is_read_with_class_names() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["ham", "spam"])}
    )
    rows = {"text": ["win", "hi"], "label": [1, 0]}
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows, features=features)}).save_to_disk("sms")
    config = DatasetConfig.parse({"kind": "dataset", "path": "sms", "columns": {"label": "label"}}, "test")
    records, rejected = _partition(config.read(DOWNLOADS))
    assert [(record.id, record.text, record.label) for record in records] == [
        ("sms:1", "win", "spam"),
        ("sms:2", "hi", "ham"),
    ]
    assert rejected == []
    for change, message in (
        ({"split": "dev"}, "split 'dev' not found"),
        ({"columns": {"text": "body"}}, "column `body`"),
    ):
        with pytest.raises(DataError, match=message):
            list(DatasetConfig.parse({**config.canonical(), **change}, "test").read(DOWNLOADS))


def test_the_error_for_an_unreachable_dataset_has_the_offline_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(DataError, match=r"Couldn't reach the hub(.|\n)*save_to_disk"):
        list(DatasetConfig.parse({"kind": "dataset", "name": "sms_spam"}, "test").read(DOWNLOADS))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            {"kind": "archives"},
            r"kind must be one of .*, got 'archives'; did you mean 'archive'\?",
        ),
        ({"kind": "files", "path": ["a"]}, r"ingest: source.path is not a known key; did you mean 'paths'\?"),
        ({"kind": "files", "paths": []}, "paths"),
        (
            {"kind": "files", "paths": ["a"], "columns": {"texts": "t"}},
            r"texts is not a known key; did you mean 'text'\?",
        ),
        ({"kind": "dataset"}, "exactly one of `name` and `path`"),
        ({**ARCHIVE, "package": "../x"}, "source.package"),
        ({**ARCHIVE, "sha256": "abc"}, "source.sha256"),
        ({**ARCHIVE, "parser": "plays"}, "source.parser"),
    ],
)
def test_errors_in_a_source_name_the_keys_of_its_kind(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        IngestConfig.parse({"source": source, "validation_share": 0.1, "test_share": 0.1}, "params.yaml: ingest")


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"validation_share": 0.1}, "exactly one of `test_groups` and `test_share`"),
        (
            {"validation_share": 0.1, "validation_groups": ["a"], "test_share": 0.1},
            "exactly one of `validation_groups`",
        ),
        ({"validation_groups": ["a"], "test_groups": ["a"]}, "groups in both `validation_groups` and `test_groups`: a"),
        ({"validation_share": 0.5, "test_share": 0.5}, r"`validation_share` \+ `test_share` must be below 1, got 1"),
        ({"validation_share": 0.1, "test_shares": 0.5}, r"test_shares is not a known key; did you mean 'test_share'\?"),
    ],
)
def test_invalid_splits_are_errors(splits: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        IngestConfig.parse({"source": {"kind": "files", "paths": ["a"]}, **splits}, "params.yaml: ingest")


@pytest.mark.parametrize(
    ("path", "tag_column", "min_records", "label"),
    [("conll2003/test.txt", 1, 3000, "PER"), ("wnut17/emerging.dev.conll", -1, 900, "person")],
)
def test_real_entity_sets(path: str, tag_column: int, min_records: int, label: str) -> None:
    if not (SHARED / path).is_file():
        pytest.skip(f"{path} not found")
    records, rejected = _read(str(SHARED / path), format="conll", tag_column=tag_column)
    assert len(records) > min_records
    assert [fault(record) for record in records if fault(record)] == []
    assert rejected == []
    assert any(entity.label == label for record in records for entity in record.entities)


def test_real_messages() -> None:
    path = SHARED / "sms_spam" / "SMSSpamCollection"
    if not path.is_file():
        pytest.skip("sms_spam not found")
    lines = path.read_text(encoding="utf-8").splitlines()[1:]  # without the header
    Path("sms.jsonl").write_text(
        "\n".join(json.dumps(dict(zip(("label", "text"), line.split("\t", 1), strict=True))) for line in lines)
    )
    records, rejected = _read("sms.jsonl", columns={"label": "label"})
    assert len(records) == len(lines) > 5000
    assert {record.label for record in records} == {"ham", "spam"}
    assert rejected == []
