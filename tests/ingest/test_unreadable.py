"""Input that does not match its format: one error that names the file and the remedy, or rejections; never a guess."""

import codecs
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.corpus.records import Entity, Record
from cclm_core.ingest.config import IngestConfig
from cclm_core.ingest.sources import csv_rows, tables
from cclm_core.ingest.sources.columns import did_you_mean, listed
from cclm_core.ingest.sources.files import FilesConfig
from cclm_core.runtime.errors import ConfigError, DataError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"
ROWS = "".join(f"row {number}\n" for number in range(20))


@pytest.fixture(autouse=True)
def _in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _read(name: str, content: bytes | str | None = None, **settings: Any) -> tuple[list[Record], list[Rejected]]:
    if content is not None:
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    items = list(FilesConfig.parse({"kind": "files", "paths": name, **settings}, "test").read(Path("downloads")))
    records = [item.record for item in items if isinstance(item, Located)]
    return records, [item for item in items if isinstance(item, Rejected)]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.conll", "a.parquet"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINTER, "is a pointer of Git LFS, not the file itself. Run `git lfs pull`"),
        (b"/annex/objects/SHA256E-s5--ab.txt\n", "is a pointer of git-annex"),
    ],
)
def test_placeholders_are_refused_in_every_format(name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"{name} {message}"):
        _read(name, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"text\nx\n", mtime=0)[:-12], "is compressed with gzip and damaged: .*. Download it again"),
        (gzip.compress(gzip.compress(b"text\nx\n")), "is compressed twice; its content is gzip. Unpack it once"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "compressed with zstd and damaged"),
        (b"PK\x03\x04" + bytes(20), "compressed with ZIP"),
        (b"BZh91AY&SY" + bytes(20), "compressed with bzip2 and damaged"),
        (b"PAR1" + bytes(20), "is Parquet, not text"),
        (("text\n" + ROWS).encode("utf-16"), "is UTF-16, not UTF-8. Convert it: `iconv -f UTF-16"),
        (codecs.BOM_UTF16_BE + ("text\n" + ROWS).encode("utf-16-be"), "is UTF-16"),
        (("text\n" + ROWS).encode("utf-16-le"), "is UTF-16"),
        (("text\n" + ROWS).encode("utf-32"), "is UTF-32"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.conll"])
def test_files_that_are_not_text_are_refused_by_what_they_are(name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _read(name, content)


def test_an_archive_of_unknown_suffix_is_named_as_packed() -> None:
    with pytest.raises(DataError, match=r"a.zip is compressed with ZIP"):
        _read("a.zip", b"PK\x03\x04" + bytes(20))


def test_files_with_carriage_returns_alone_are_refused_and_single_ones_rejected() -> None:
    for name in ("a.txt", "a.conll", "a.jsonl"):
        with pytest.raises(DataError, match=r"the lines of a\..* end in CR alone.*`tr '\\r' '\\n' < a"):
            _read(name, "".join(f"line {number} O\r" for number in range(30)))
    records, rejected = _read("a.txt", "one\r\ntwo\rthree\nfour\r\n")
    assert [record.text for record in records] == ["one", "four"]
    assert [(item.line, item.reason) for item in rejected] == [(2, "CR inside a line")]
    records, rejected = _read("a.csv", "text\rone\rtwo\r")
    assert ([record.text for record in records], rejected) == (["one", "two"], [])


@pytest.mark.parametrize(
    ("encoding", "text"), [("cp1252", "café à €"), ("gb18030", "你好世界"), ("shift_jis", "日本語")]
)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.conll"])
def test_other_encodings_are_read_if_they_are_named(name: str, encoding: str, text: str) -> None:
    content = {
        "a.txt": text,
        "a.jsonl": json.dumps({"text": text}, ensure_ascii=False),
        "a.csv": f"text\n{text}",
        "a.conll": "\n".join(f"{word} O" for word in text.split()),
    }[name].encode(encoding)
    records, rejected = _read(name, content, encoding=encoding)
    assert ([record.text for record in records], rejected) == ([text], [])
    records, rejected = _read(name, content)
    assert records == []
    assert [item.reason for item in rejected] == ["invalid UTF-8"]


def test_encodings_that_cannot_be_split_into_lines_are_refused() -> None:
    for encoding, message in (("utf-16", "cannot be split into lines"), ("latin-99", "unknown encoding 'latin-99'")):
        with pytest.raises(ConfigError, match=message):
            FilesConfig.parse({"kind": "files", "paths": ["a.txt"], "encoding": encoding}, "test")


def test_an_unclosed_quote_rejects_its_line_and_the_next_rows_are_read() -> None:
    records, rejected = _read("a.csv", f'text\n{ROWS}"open\n{ROWS}')
    assert [record.text for record in records] == (ROWS + ROWS).split("\n")[:20] * 2
    assert [(item.line, item.reason, item.excerpt) for item in rejected] == [(22, csv_rows._UNCLOSED, '"open')]
    assert records[20].id == "a.csv:23"


def test_an_unclosed_quote_before_a_quoted_row_loses_no_row() -> None:
    records, rejected = _read("a.csv", 'text,label\n"open,x\nplain,y\n"quoted, row",z\n', columns={"label": "label"})
    assert [(record.text, record.label) for record in records] == [("plain", "y"), ("quoted, row", "z")]
    assert [item.line for item in rejected] == [2]


def test_rows_of_several_lines_are_rejected_with_their_extent() -> None:
    _, rejected = _read("a.csv", 'text,label\na,b\n"two\nlines",x,too many\n')
    assert [(item.line, item.last_line, item.reason) for item in rejected] == [(3, 4, "2 columns expected")]


def test_quotes_that_swallow_each_other_take_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "LONGEST_LINE", 1000)  # each line opens a quote that no other one closes
    _, rejected = _read("a.csv", "text\n" + 'a","b\n' * 20_000)
    assert sum(max(1, item.last_line - item.line + 1) for item in rejected) == 20_000
    assert len({item.line for item in rejected}) == len(rejected)


def test_a_csv_line_that_is_too_long_is_rejected_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "LONGEST_LINE", 100)
    records, rejected = _read("a.csv", "text\none\n" + "x" * 1000 + '\ntwo\n"open\n' + "y" * 500 + "\nthree\n")
    assert [(record.id, record.text) for record in records] == [
        ("a.csv:2", "one"),
        ("a.csv:4", "two"),
        ("a.csv:7", "three"),
    ]
    assert [item.line for item in rejected] == [3, 5, 6]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('"a"b,text\n1,x\n', "the header of a.csv is not CSV"),
        ('"text\nx\n', "the header of a.csv is not CSV"),
        (b"t\xe9xt\nx\n", "the header of a.csv is not in utf-8. Set ingest.source.encoding"),
        ("text,label,text\na,b,c\n", "must have one column `text`, but 2 have that name"),
        ("id;text\n1;x\n", r"it has id;text.*set ingest.source.delimiter to ';'"),
        ("id\ttext\n1\tx\n", r'set ingest.source.delimiter to "\\t"'),
        ("id,texts\n1,x\n", r"column `text` not found in a.csv; it has id, texts. Did you mean `texts`\?"),
        ("\x1b[2Jid\nx\n", r"it has '\\x1b\[2Jid'"),
    ],
)
def test_headers_that_cannot_be_used_are_errors(content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _read("a.csv", content)


def test_two_parquet_columns_of_one_name_are_refused_unless_unused() -> None:
    column = pa.array(["a", "b"])
    pq.write_table(pa.table([column, column], names=["text", "text"]), "a.parquet")
    with pytest.raises(DataError, match=r"a.parquet must have one column `text`, but 2 have that name"):
        _read("a.parquet")
    pq.write_table(pa.table([column, column, column], names=["text", "x", "x"]), "a.parquet")
    assert [record.text for record in _read("a.parquet")[0]] == ["a", "b"]


def test_json_keys_that_occur_twice_reject_the_line() -> None:
    records, rejected = _read(
        "a.jsonl", '{"text": "a"}\n{"text": "b", "text": "c"}\n{"text": "d", "x": {"y": 1, "y": 2}}\n'
    )
    assert [record.text for record in records] == ["a"]
    assert [(item.line, item.reason) for item in rejected] == [(2, "a key occurs twice"), (3, "a key occurs twice")]


def test_a_key_that_no_line_has_is_refused_and_a_rare_one_is_not() -> None:
    lines = '{"text": "a", "category": "x"}\n' * 5
    with pytest.raises(DataError, match=r"key `categorie` not found in any line of a.jsonl.*Did you mean `category`\?"):
        _read("a.jsonl", lines, columns={"label": "categorie"})
    records, _ = _read("a.jsonl", lines + '{"text": "b", "rare": "y"}\n', columns={"label": "rare"})
    assert [record.label for record in records] == [None] * 5 + ["y"]
    with pytest.raises(DataError, match=r"a.jsonl is a JSON array"):
        _read("a.jsonl", '[\n{"text": "a"}\n]\n')


LABELS = [
    ("NaN", None),
    ("null", None),
    ('" "', None),
    ("1.0", "1"),
    ("1", "1"),
    ("true", "true"),
    ('"x"', "x"),
]


@pytest.mark.parametrize(("value", "label"), LABELS)
def test_values_that_are_missing_give_no_label(value: str, label: str | None) -> None:
    records, rejected = _read("a.jsonl", f'{{"text": "a", "kind": {value}}}\n', columns={"label": "kind"})
    assert ([record.label for record in records], rejected) == ([label], [])


@pytest.mark.parametrize("field", ["id", "author", "group", "variant", "label"])
@pytest.mark.parametrize("value", ['["x"]', '{"x": 1}', "[]", "Infinity"])
def test_values_that_are_no_text_are_rejected(field: str, value: str) -> None:
    records, rejected = _read(
        "a.jsonl", f'{{"text": "a", "k": {value}}}\n{{"text": "b", "k": "x"}}\n', columns={field: "k"}
    )
    assert [record.text for record in records] == ["b"]
    assert [(item.line, item.reason) for item in rejected] == [(1, f"{field} is not a text or a number")]


def test_missing_labels_of_parquet_are_no_class() -> None:
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": [1.0, float("nan"), None]}), "a.parquet")
    assert [record.label for record in _read("a.parquet", columns={"label": "label"})[0]] == ["1", None, None]


@pytest.mark.parametrize(
    "spans", ["[[false, true, 'X']]", "[[0, 1.0, 'X']]", "[[0, true, 'X']]", "0", "true", "[" * 50_000]
)
def test_odd_spans_are_rejected(spans: str) -> None:
    value = spans.replace("'", '"')
    quoted = value.replace('"', '""')
    _, rejected = _read("a.csv", f'text,e\nAnn,"[[0, 3, ""P""]]"\nBob,"{quoted}"\n', columns={"entities": "e"})
    assert [(item.line, item.reason) for item in rejected] == [(3, "entities are not spans")]


def test_spans_stored_by_column_are_read() -> None:
    line = json.dumps({"text": "Ann met Bob", "e": {"start": [8, 0], "end": [11, 3], "label": ["P", "P"]}})
    assert _read("a.jsonl", line, columns={"entities": "e"})[0][0].entities == (Entity(0, 3, "P"), Entity(8, 11, "P"))


def _invalid(texts: list[bytes]) -> Any:
    return pa.Array.from_buffers(pa.string(), len(texts), pa.array(texts, pa.binary()).buffers())


@pytest.mark.parametrize("dictionary", [True, False])
def test_one_parquet_text_of_invalid_utf8_rejects_its_row(dictionary: bool) -> None:
    texts = _invalid([b"good", b"\xff\xfe bad", b"good", b"fine"])
    pq.write_table(pa.table({"text": texts}), "a.parquet", use_dictionary=dictionary)
    records, rejected = _read("a.parquet")
    assert [(record.id, record.text) for record in records] == [
        ("a.parquet:1", "good"),
        ("a.parquet:3", "good"),
        ("a.parquet:4", "fine"),
    ]
    assert [(item.line, item.reason, item.excerpt) for item in rejected] == [(2, "invalid UTF-8", "\\xff\\xfe bad")]


def test_large_values_of_parquet_are_rejected_before_they_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LONGEST_LINE", 1000)
    monkeypatch.setattr(tables, "BATCH_BYTES", 2000)
    span = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string())])
    spans = pa.array(
        [[], [{"start": 0, "end": 1, "label": "x" * 2000}], None, [{"start": 0, "end": 1, "label": "P"}]],
        pa.list_(span),
    )
    texts = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 1], pa.int32()), pa.array(["a" * 1500, "b", "c"]))
    pq.write_table(pa.table({"text": texts, "e": spans}), "a.parquet", compression="zstd")
    records, rejected = _read("a.parquet", columns={"entities": "e"})
    assert [(record.text, record.entities) for record in records] == [("c", ()), ("b", (Entity(0, 1, "P"),))]
    assert [item.line for item in rejected] == [1, 2]


def test_columns_of_other_types_are_refused() -> None:
    pq.write_table(
        pa.table({"text": ["a"], "e": pa.array([[("x", 1)]], pa.map_(pa.string(), pa.int32()))}), "a.parquet"
    )
    with pytest.raises(DataError, match=r"a column of a.parquet has the type map"):
        _read("a.parquet", columns={"entities": "e"})


def test_damaged_parquet_files_are_one_error() -> None:
    pq.write_table(pa.table({"text": [f"text {number}" for number in range(200)]}), "a.parquet")
    whole = Path("a.parquet").read_bytes()
    for cut in (0, 3, 100, len(whole) // 2, len(whole) - 5):
        with pytest.raises(DataError, match=r"a.parquet is not a valid Parquet file"):
            _read("a.parquet", whole[:cut])


def test_a_single_path_or_group_needs_no_list() -> None:
    config = IngestConfig.parse(
        {"source": {"kind": "files", "paths": "t.csv"}, "validation_groups": "a", "test_groups": "b"}, "params.yaml"
    )
    assert (config.source.canonical()["paths"], config.validation_groups, config.test_groups) == (
        ["t.csv"],
        ("a",),
        ("b",),
    )
    with pytest.raises(ConfigError, match="a quote or a line end cannot be the delimiter"):
        FilesConfig.parse({"kind": "files", "paths": "t.csv", "delimiter": '"'}, "test")


def test_names_in_messages_are_near_or_listed() -> None:
    assert did_you_mean("Label", ["text", "label"]) == "Did you mean `label`? "
    assert did_you_mean("x", ["text"]) == ""
    assert listed([f"n{number}" for number in range(30)]).endswith("n19 and 10 more")
