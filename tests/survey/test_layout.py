"""How a file is written is recognized from its content, and what was assumed is said."""

import gzip
from pathlib import Path

import pytest

from cclm_core.runtime.errors import DataError
from cclm_core.survey.layout import Layout, recognize
from cclm_core.survey.profile import profiles

ROWS = "".join(f"the {number}th message is here,label {number % 3}\n" for number in range(40))


def layout(folder: Path, name: str, content: str | bytes, **known: object) -> Layout:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return recognize(path, name, **known).layout  # type: ignore[arg-type]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_the_delimiter_is_that_with_which_all_rows_have_the_same_cells(tmp_path: Path, delimiter: str) -> None:
    text = "body,topic\n".replace(",", delimiter) + ROWS.replace(",", delimiter).replace("is here", "is here, too")
    assert layout(tmp_path, "a.csv", text).settings() == {"delimiter": delimiter}


def test_the_usual_forms_need_no_settings(tmp_path: Path) -> None:
    assert layout(tmp_path, "a.csv", "body,topic\n" + ROWS) == Layout()
    assert layout(tmp_path, "a.tsv", ("body,topic\n" + ROWS).replace(",", "\t")) == Layout()
    assert layout(tmp_path, "a.csv.gz", gzip.compress(("body,topic\n" + ROWS).encode())) == Layout()
    assert layout(tmp_path, "a.jsonl", '{"text": "a"}\n') == Layout()
    quoted = 'body,topic\n"a, b",c\n' + ROWS + '"she said ""no""",c\n'
    assert layout(tmp_path, "b.csv", quoted) == Layout()


def test_a_first_row_that_looks_like_the_others_is_no_header(tmp_path: Path) -> None:
    assert layout(tmp_path, "a.csv", ROWS).header == ("column_1", "column_2")
    assert layout(tmp_path, "a.csv", ROWS, has_header=True).header == ()
    assert layout(tmp_path, "a.csv", "one,two\n" + ROWS, has_header=False).header == ("column_1", "column_2")


def test_quotes_inside_cells_are_ordinary_characters(tmp_path: Path) -> None:
    rows = ROWS.replace(",", "\t") + 'so he said "no\tlabel 1\n"maybe" she said\tlabel 2\n'
    assert layout(tmp_path, "a.tsv", "body\ttopic\n" + rows).settings() == {"quotes": False}


def test_text_of_a_western_language_is_cp1252_and_a_damaged_line_of_utf8_is_not(tmp_path: Path) -> None:
    rows = "body,topic\n" + ROWS.replace("here", "à côté")
    assert layout(tmp_path, "a.csv", rows.encode("cp1252")).encoding == "cp1252"
    damaged = ("body,topic\n" + ROWS * 5).encode() + b"\xff,label 1\n"
    assert layout(tmp_path, "a.csv", damaged).encoding == "utf-8"
    assert layout(tmp_path, "a.csv", rows.encode("latin-1"), encoding="latin-1").encoding == "latin-1"


def test_conll_in_a_text_file_with_other_columns_and_without_spaces(tmp_path: Path) -> None:
    sentences = "Anna NNP B-PER x\nsings VBZ O x\n\n" * 30
    assert layout(tmp_path, "a.txt", sentences).settings() == {"format": "conll", "tag_column": 2}
    assert layout(tmp_path, "a.txt", sentences, as_lines=True) == Layout()
    unspaced = "\u53bb O\n\u5317 B-LOC\n\u4eac I-LOC\n\n" * 30
    assert layout(tmp_path, "b.conll", unspaced).settings() == {"token_separator": ""}
    with pytest.raises(DataError, match="no column of tags such as B-LOC"):
        layout(tmp_path, "c.conll", "only words here\nand here\n\n")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "a.csv is empty"),
        ("a.data", '[\n{"text": "a"}\n]\n', "is a JSON array"),
        ("a.csv", "a,b\n".encode("utf-16"), "is UTF-16, not UTF-8"),
        ("a.txt", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        ("a.parquet", b"PAR1", "not a valid Parquet file"),
    ],
)
def test_what_is_no_data_is_refused(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    from cclm_core.survey.rows import first_rows

    with pytest.raises(DataError, match=message):
        first_rows(tmp_path / name, name, layout(tmp_path, name, content))


def test_a_profile_tells_labels_from_texts_numbers_and_lists() -> None:
    columns = profiles(
        {"text": f"message {n} is here", "label": "ab"[n % 2], "value": n / 2, "several": "a; b" if n % 2 else "b",
         "tags": ["x"], "stars": n % 5, "key": f"k{n}"}
        for n in range(60)
    )  # fmt: skip
    assert [name for name, profile in columns.items() if profile.has_classes] == ["label", "several", "stars"]
    assert [name for name, profile in columns.items() if profile.is_number] == ["value", "stars"]
    assert columns["several"].separator == ";" and columns["label"].separator is None
    assert columns["tags"].is_list and columns["text"].is_distinct
