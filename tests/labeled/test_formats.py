"""Every task is read from every format that can hold it."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cclm_core.corpus.records import Entity
from cclm_core.labeled.examples import LabeledText
from cclm_core.runtime.errors import DataError
from tests.labeled.stages import build, files, write

GIVEN = {"validation": {"paths": "input/dev.jsonl"}, "test": {"paths": "input/test.jsonl"}}


@pytest.fixture(autouse=True)
def _in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def jsonl(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def one_file(content: str | bytes, name: str, task: str, more: str | bytes, **settings: Any) -> list[LabeledText]:
    """The train split of one file; `more` is a file of the same format for the other splits."""
    dev = f"input/dev{name[name.index('.') :]}"
    write({f"input/{name}": content, dev: more, dev.replace("dev", "test"): more})
    splits = {"validation": {"paths": dev}, "test": {"paths": dev.replace("dev", "test")}, "leakage": "keep"}
    top = {key: settings.pop(key) for key in ("label_separator", "tag_scheme", "tag_names") if key in settings}
    return build(task=task, source=files(f"input/{name}", **settings), **splits, **top).data.split("train")


ROWS = [
    {"body": "Where is it?", "kind": "delivery", "who": "ann", "channel": "mail"},
    {"body": "Charged twice", "kind": "billing", "who": "bob", "channel": None},
]
COLUMNS = {"text": "body", "label": "kind", "group": "who", "slices": ["channel"]}


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.jsonl", "a.parquet"])
def test_texts_with_a_label_a_group_and_slices(name: str) -> None:
    if name == "a.jsonl":
        content: str | bytes = jsonl(*ROWS)
    elif name == "a.parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(ROWS), sink)
        content = sink.getvalue().to_pybytes()
    else:
        delimiter = "\t" if ".tsv" in name else ","
        content = "\n".join(
            delimiter.join(value or "" for value in row) for row in [list(ROWS[0]), *(r.values() for r in ROWS)]
        )
        content = gzip.compress(content.encode()) if name.endswith(".gz") else content
    texts = one_file(content, name, "classify", content, columns=COLUMNS)
    first = 2 if "sv" in name else 1
    assert texts == [
        LabeledText(f"input/{name}:{first}", "Where is it?", label="delivery", group="ann", slices={"channel": "mail"}),
        LabeledText(f"input/{name}:{first + 1}", "Charged twice", label="billing", group="bob"),
    ]


def test_a_table_without_a_header() -> None:
    content = "delivery\tWhere?\nbilling\tTwice\n"
    columns = {"text": "t", "label": "l"}
    texts = one_file(content, "a.tsv", "classify", content, header=["l", "t"], columns=columns)
    assert [(text.text, text.label, text.id) for text in texts] == [
        ("Where?", "delivery", "input/a.tsv:1"),
        ("Twice", "billing", "input/a.tsv:2"),
    ]


def test_a_folder_and_a_pattern() -> None:
    content = "text,label\none,a\ntwo,b\n"
    write({"input/train/1.csv": content, "input/train/deep/2.csv": content.replace("o", "0"), "input/README.md": "no"})
    write({"input/held/dev.csv": content, "input/held/test.csv": content})
    held = {"validation": {"paths": "input/held/d*.csv"}, "test": {"paths": "input/held/t*.csv"}, "leakage": "keep"}
    built = build(task="classify", source=files("input/train", columns={"label": "label"}), **held)
    assert built.texts("train") == ["one", "two", "0ne", "tw0"]
    with pytest.raises(DataError, match=r"labeled.x.test.paths: no file matches input/held/x\*.csv"):
        build(
            task="classify",
            source=files("input/train", columns={"label": "label"}),
            test={"paths": "input/held/x*.csv"},
        )


def test_a_text_file_per_label() -> None:
    write({"input/mail/spam.txt": "win now\nbuy this\n", "input/mail/other.txt": "see you\nthe report\n"})
    held = {"validation": {"share": 0.3}, "test": {"share": 0.3}}
    data = build(task="classify", source=files("input/mail", label_by_file=True), **held).data
    labels = {text.text: text.label for split in ("train", "validation", "test") for text in data.split(split)}
    assert labels == {"win now": "spam", "buy this": "spam", "see you": "other", "the report": "other"}


@pytest.mark.parametrize(
    ("rows", "columns", "settings"),
    [
        ([{"t": "one", "l": ["b", "a"]}, {"t": "two", "l": []}], "l", {}),
        ([{"t": "one", "l": "b; a"}, {"t": "two", "l": ""}], "l", {"label_separator": ";"}),
        ([{"t": "one", "l": '["a", "b"]'}, {"t": "two", "l": None}], "l", {}),
        ([{"t": "one", "a": 1, "b": True, "c": 0}, {"t": "two", "a": "0", "b": "no", "c": 0.0}], ["a", "b", "c"], {}),
    ],
)
def test_several_labels_are_a_list_a_text_with_separators_or_several_columns(
    rows: list[dict[str, Any]], columns: str | list[str], settings: dict[str, Any]
) -> None:
    content = jsonl(*rows)
    texts = one_file(content, "a.jsonl", "multilabel", content, columns={"text": "t", "labels": columns}, **settings)
    assert [(text.text, text.labels) for text in texts] == [("one", ("a", "b")), ("two", ())]


def test_pairs_with_a_numeric_target() -> None:
    content = "a\tb\tscore\tgenre\nOne.\tTwo.\t3.5\tnews\nThree.\tFour.\t-1e-1\t\n"
    columns = {"text": "a", "second": "b", "value": "score", "slices": "genre"}
    texts = one_file(content, "a.tsv", "regress", content, columns=columns)
    assert [(text.text, text.second, text.value, dict(text.slices)) for text in texts] == [
        ("One.", "Two.", 3.5, {"genre": "news"}),
        ("Three.", "Four.", -0.1, {}),
    ]


SENTENCE = LabeledText(
    "input/a.conll:1",
    "Ann Lee in York",
    entities=(Entity(0, 7, "PER"), Entity(11, 15, "LOC")),
    words=((0, 3), (4, 7), (8, 10), (11, 15)),
)


@pytest.mark.parametrize(
    "tags", ["B-PER I-PER O B-LOC", "I-PER I-PER O I-LOC", "B-PER E-PER O S-LOC", "B-PER L-PER O U-LOC"]
)
def test_sentences_of_conll_in_every_scheme(tags: str) -> None:
    content = "".join(f"{word} x {tag}\n" for word, tag in zip(["Ann", "Lee", "in", "York"], tags.split(), strict=True))
    assert one_file(content, "a.conll", "tag", content) == [SENTENCE]


def test_sentences_of_conll_with_bare_labels_and_without_spaces() -> None:
    content = "王 PER\n明 PER\n在 O\n"
    (text,) = one_file(content, "a.conll", "tag", content, token_separator="", tag_scheme="io")
    assert (text.text, text.entities, text.words) == ("王明在", (Entity(0, 2, "PER"),), ((0, 1), (1, 2), (2, 3)))


TOKENS, TAGS = ["Ann", "Lee", "in", "York"], ["B-PER", "I-PER", "O", "B-LOC"]


@pytest.mark.parametrize(
    ("tokens", "tags", "settings"),
    [
        (TOKENS, TAGS, {}),
        (" ".join(TOKENS), " ".join(TAGS), {}),
        (json.dumps(TOKENS), json.dumps(TAGS), {}),
        (TOKENS, [1, 2, 0, 3], {"tag_names": ["O", "B-PER", "I-PER", "B-LOC"]}),
        (TOKENS, "1 2 0 3", {"tag_names": ["O", "B-PER", "I-PER", "B-LOC"]}),
        (TOKENS, ["PER", "PER", "O", "LOC"], {"tag_scheme": "io"}),
    ],
)
def test_lists_of_tokens_and_tags(tokens: Any, tags: Any, settings: dict[str, Any]) -> None:
    content = jsonl({"tokens": tokens, "ner": tags})
    (text,) = one_file(content, "a.jsonl", "tag", content, columns={"tokens": "tokens", "tags": "ner"}, **settings)
    assert (text.text, text.entities, text.words) == (SENTENCE.text, SENTENCE.entities, SENTENCE.words)


def test_spans_of_entities() -> None:
    content = jsonl({"text": SENTENCE.text, "spans": [[11, 15, "LOC"], {"start": 0, "end": 7, "label": "PER"}]})
    (text,) = one_file(content, "a.jsonl", "tag", content, columns={"entities": "spans"})
    assert (text.entities, text.words) == (SENTENCE.entities, ())


def test_a_saved_dataset_with_its_splits_and_classes() -> None:
    datasets = pytest.importorskip("datasets")
    tags = datasets.Sequence(datasets.ClassLabel(names=["O", "B-PER", "I-PER", "B-LOC"]))
    features = datasets.Features({"tokens": datasets.Sequence(datasets.Value("string")), "ner_tags": tags})
    one = datasets.Dataset.from_dict({"tokens": [TOKENS], "ner_tags": [[1, 2, 0, 3]]}, features=features)
    datasets.DatasetDict(train=one, validation=one, test=one).save_to_disk("input/saved")
    source = {"kind": "dataset", "path": "input/saved", "columns": {"tokens": "tokens", "tags": "ner_tags"}}
    splits = {"validation": {"split": "validation"}, "test": {"split": "test"}}
    built = build(task="tag", source=source, **splits, leakage="keep")
    (text,) = built.data.split("test")
    assert (text.id, text.text, text.entities) == ("saved[test]:1", SENTENCE.text, SENTENCE.entities)
    assert built.metrics["tag_schemes"] == {f"saved[{split}]": "iob2" for split in ("train", "validation", "test")}
    with pytest.raises(DataError, match=r"labeled.x.test.split"):
        build(task="tag", source=source, validation={"split": "validation"}, test={"split": "tset"})


def test_a_saved_dataset_with_lists_of_class_numbers_as_labels() -> None:
    datasets = pytest.importorskip("datasets")
    labels = datasets.Sequence(datasets.ClassLabel(names=["late", "broken"]))
    features = datasets.Features({"text": datasets.Value("string"), "labels": labels})
    rows = {"text": [f"text {number}" for number in range(40)], "labels": [[1, 0], [], [0], [1]] * 10}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk("input/saved")
    source = {"kind": "dataset", "path": "input/saved", "columns": {"labels": "labels"}}
    built = build(task="multilabel", source=source, test={"share": 0.2})
    assert {text.labels for text in built.data.split("train")} == {("broken", "late"), (), ("late",), ("broken",)}


def test_a_folder_of_parquet_files_of_datasets_has_the_names_of_its_classes() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["late", "broken"])}
    )
    Path("input/hub/data").mkdir(parents=True)
    for split, number in (("train", 40), ("test", 8)):
        rows = {"text": [f"{split} {index}" for index in range(number)], "label": [0, 1, 1, -1] * (number // 4)}
        path = f"input/hub/data/{split}-00000-of-00001.parquet"
        datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    source = {"kind": "files", "paths": "input/hub/data/train-*.parquet", "columns": {"label": "label"}}
    built = build(task="classify", source=source, test={"paths": "input/hub/data/test-*.parquet"})
    assert [text.label for text in built.data.split("test")] == ["late", "broken", "broken"] * 2
    assert built.metrics["quarantined"]["reasons"] == {"no label": 12}


def test_damaged_class_names_of_parquet_are_refused() -> None:
    Path("input").mkdir()
    table = pa.table({"text": ["a", "b"] * 30, "label": [0, 7] * 30})
    features = {"label": {"_type": "ClassLabel", "names": ["late", "broken"]}}
    for about, message in (
        (b"{", "metadata of `datasets` are damaged"),
        ({"info": {"features": features}}, "7 is not"),
    ):
        metadata = {"huggingface": about if isinstance(about, bytes) else json.dumps(about)}
        pq.write_table(table.replace_schema_metadata(metadata), "input/a.parquet")
        source = {"kind": "files", "paths": "input/a.parquet", "columns": {"label": "label"}}
        with pytest.raises(DataError, match=message):
            build(task="classify", source=source, test={"share": 0.2})


def test_an_archive_with_its_own_parser() -> None:
    import io
    import tarfile

    from cclm_core.runtime.artifacts import file_digest

    Path("downloads").mkdir()
    with tarfile.open("downloads/mails-1.tar.gz", "w:gz") as tar:
        for number in range(40):
            member = tarfile.TarInfo(f"mails-1/{'ham' if number % 2 else 'spam'}/{number}.txt")
            member.size = len(content := f"message {number}".encode())
            tar.addfile(member, io.BytesIO(content))
    Path("mail_parser.py").write_text(
        "from cclm_core.corpus import Record\nfrom cclm_core.corpus.quarantine import Located\n\n\n"
        "def read(members):\n    for name, content in members:\n"
        "        yield Located(Record(name, content.decode(), label=name.split('/')[0]), name, 1)\n"
    )
    digest = file_digest(Path("downloads/mails-1.tar.gz"))
    source = {"kind": "archive", "package": "mails", "version": "1", "sha256": digest, "parser": "mail_parser:read"}
    built = build(task="classify", source=source, test={"share": 0.2})
    assert built.data.labels == ("ham", "spam") and built.metrics["texts"] == 40


def test_ids_of_a_column_are_kept_and_made_unique() -> None:
    rows = [{"id": 1, "text": "one", "label": "a"}, {"id": 2, "text": "two", "label": "b"}]
    again = {"id": 2, "text": "three", "label": "a"}
    write({"input/a.jsonl": jsonl(*rows, again), "input/dev.jsonl": jsonl({**rows[0], "text": "x"})})
    write({"input/test.jsonl": jsonl({**rows[0], "text": "y"})})
    built = build(task="classify", source=files("input/a.jsonl", columns={"id": "id", "label": "label"}), **GIVEN)
    ids = [[text.id for text in built.data.split(split)] for split in ("train", "validation", "test")]
    assert ids == [["1", "2"], ["validation:1"], ["test:1"]]
    assert [(row["reason"], row["line"], row["duplicate_of"]) for row in built.quarantine] == [
        ("duplicate id", 3, "input/a.jsonl:2")
    ]
