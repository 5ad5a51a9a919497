"""Texts from lists, iterators, datasets and a published corpus."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.records import corpus_texts
from cclm_core.runtime.errors import ArtifactError, DataError, IntegrityError
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.params import Params
from cclm_core.steps.vocab import vocab
from cclm_core.text.config import TargetsConfig
from cclm_core.text.texts import check_text, chunks, column_names, is_table, strings, text_list
from cclm_core.text.vocabulary import Preprocessor
from cclm_core.text.word_targets import WordTargets
from tests.steps.test_vocab import RECORDS, corpus_of


def test_all_sources_of_the_same_texts_give_the_same_alphabet() -> None:
    datasets = pytest.importorskip("datasets")
    texts = ["naïve", "", "漢字 🚀"]

    def rows() -> Iterator[dict[str, object]]:
        for number, text in enumerate(texts):
            yield {"number": number, "text": text}

    dataset = datasets.Dataset.from_dict({"number": [0, 1, 2], "text": texts})
    generated = datasets.IterableDataset.from_generator(rows)
    expected = Preprocessor().fit(texts).alphabet
    for source in (tuple(texts), iter(texts), (text for text in texts), dataset, dataset["text"], generated):
        assert Preprocessor().fit(source).alphabet == expected
    for source in (dataset, dataset.to_iterable_dataset(), generated):
        assert Preprocessor().fit(source, column="text").alphabet == expected
        with pytest.raises(
            DataError, match=r"column 'body' not found in the dataset\. Choose one of \['number', 'text'\]"
        ):
            Preprocessor().fit(source, column="body")
    with pytest.raises(DataError, match=r"must have a column of strings, got \['number'\]"):
        Preprocessor().fit(generated.remove_columns("text"))
    assert Preprocessor().fit(datasets.Dataset.from_dict({"text": []}), column="text").alphabet == ""


def test_a_column_requires_a_dataset() -> None:
    with pytest.raises(DataError, match="`column` requires a dataset, got 'text' with list"):
        Preprocessor().fit(["a"], column="text")


def test_a_published_corpus_gives_the_same_alphabet_as_the_stage_vocab(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", RECORDS)
    params = tmp_path / "params.yaml"
    params.write_text("vocabulary: {}\n")
    vocab(Params.load(params), corpus, tmp_path / "encoded", null_report)
    fitted = Preprocessor().fit(corpus_texts(corpus))
    assert fitted.digest == EncodedCorpus.open(tmp_path / "encoded").preprocessor.digest
    assert list(corpus_texts(corpus, "validation")) == ["Gülden"]
    assert list(corpus_texts(corpus, variants=["modern"])) == ["My lord Hamlet!"]


def test_a_missing_or_altered_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="corpus not found"):
        corpus_texts(tmp_path / "none")
    corpus = corpus_of(tmp_path / "corpus", RECORDS)
    shard = next(corpus.glob("train-*.parquet"))
    shard.write_bytes(shard.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match="is altered"):
        corpus_texts(corpus)


def test_chunks_contain_every_text_once_in_order() -> None:
    texts = ["a" * 700_000, "b", "c" * 400_000, "", "d"]
    grouped = list(chunks(iter(texts)))
    assert [len(group) for group in grouped] == [3, 2]
    assert [text for group in grouped for text in group] == texts
    assert list(chunks(iter([]))) == [[]]
    assert list(strings(iter(texts[3:]))) == ["", "d"]


FITTED = Preprocessor().fit(["abc"])
DOORS: dict[str, Callable[[Any], object]] = {
    "fit": lambda texts: Preprocessor().fit(texts),
    "encode_batch": FITTED.encode_batch,
    "encode_ragged": FITTED.encode_ragged,
    "WordTargets.fit": lambda texts: WordTargets.fit(texts, TargetsConfig(), FITTED),
    "WordTargets.encode_batch": WordTargets.fit(["abc abc"], TargetsConfig(), FITTED).encode_batch,
    "text_list": text_list,
}
"""Every function of `text` that takes texts."""

REFUSED: dict[str, tuple[Any, str]] = {
    "one string": ("abc", "texts must be an iterable of strings, got one str"),
    "bytes": (b"abc", "texts must be an iterable of strings, got one bytes"),
    "None": (None, "got NoneType: None"),
    "a number": (5, "got int: 5"),
    "None among texts": (["a", None], "texts must be strings, got NoneType at index 1: None"),
    "NaN among texts": (["a", "b", float("nan")], "got float at index 2: nan"),
    "bytes among texts": ([b"a"], "got bytes at index 0"),
    "a list among texts": (["a", ["b"]], "got list at index 1"),
    "rows": ([{"text": "a"}], r"got dict at index 0: .*Pass the texts of one column"),
    "texts by name": ({"one": "a", "two": "b"}, r"got a dict whose values are not lists\. Pass `list\(texts\.values"),
    "an empty mapping": ({}, "got a dict whose values are not lists"),
    "a series with a gap": (pd.Series(["a", None]), r"got (float|NoneType) at index 1"),
    "numbers": (np.arange(3), "at index 0"),
    "a table without strings": (pd.DataFrame({"id": [1]}), r"must have a column of strings, got \['id'\]"),
    "two columns of strings": (
        pd.DataFrame({"id": ["1"], "body": ["a"]}),
        r"must have a column `text` or a single column of strings, got \['id', 'body'\]\. Pass `column`",
    ),
    "an Arrow table of two": (pa.table({"id": ["1"], "body": ["a"]}), r"got \['id', 'body'\]"),
    "two columns of one name": (
        pd.DataFrame([["a", "b"]], columns=["text", "text"]),
        "column names must differ, got 'text' 2 times",
    ),
    "a column text of numbers": (pa.table({"text": [1], "body": ["a"]}), "got int at index 0"),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_texts_is_refused_in_every_function(door: str, name: str) -> None:
    texts, message = REFUSED[name]
    with pytest.raises(DataError, match=message):
        DOORS[door](texts)


TABLES: dict[str, Any] = {
    "DataFrame": pd.DataFrame({"id": ["1", "2"], "text": ["ab", "c"]}),
    "DataFrame of objects": pd.DataFrame({"id": ["1", "2"], "text": ["ab", "c"]}, dtype=object),
    "mapping": {"id": ["1", "2"], "text": ["ab", "c"]},
    "Arrow table": pa.table({"id": ["1", "2"], "text": ["ab", "c"]}),
    "Arrow batch": pa.record_batch({"id": ["1", "2"], "text": ["ab", "c"]}),
    "DataFrame without names": pd.DataFrame([[1, "ab"], [2, "c"]]),
    "one column of strings": pd.DataFrame({"id": [1, 2], "body": ["ab", "c"]}),
    "Arrow, one column of strings": pa.table({"id": [[1], [2]], "body": pa.array(["ab", "c"]).dictionary_encode()}),
    "Series with gaps in its index": pd.Series(["ab", "c"], index=[7, 3]),
    "Arrow array": pa.array(["ab", "c"]),
    "NumPy array": np.array(["ab", "c"]),
    "generator": (text for text in ("ab", "c")),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_read_by_column(name: str) -> None:
    texts = text_list(TABLES[name])
    assert texts == ["ab", "c"]
    assert all(type(text) is str for text in texts)


def test_a_table_gives_the_ids_of_its_column() -> None:
    for name in ("DataFrame", "mapping", "Arrow table", "one column of strings"):
        assert FITTED.encode_batch(TABLES[name]).ids.tolist() == FITTED.encode_batch(["ab", "c"]).ids.tolist()
        assert Preprocessor().fit(TABLES[name]).alphabet == "abc"
    assert text_list(TABLES["DataFrame"], column="id") == ["1", "2"]
    with pytest.raises(DataError, match=r"column 'body' not found in the dataset\. Choose one of \['id', 'text'\]"):
        text_list(TABLES["DataFrame"], column="body")
    assert is_table(TABLES["DataFrame"]) and not is_table(["ab"]) and not is_table(pd.Series(["ab"]))
    assert column_names(TABLES["Arrow table"]) == ["id", "text"]


def test_datasets_are_read_by_column_whatever_their_format() -> None:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"id": ["1", "2"], "text": ["ab", "c"], "label": [0, 1]})
    for kind in (None, "numpy", "pandas", "arrow", "torch"):
        assert text_list(dataset.with_format(kind)) == ["ab", "c"], kind
        assert text_list(dataset.with_format(kind, columns=["label"])) == ["ab", "c"], kind
    assert text_list(dataset.remove_columns("id").rename_column("text", "body")) == ["ab", "c"]
    with pytest.raises(DataError, match=r"got \['id', 'body'\]\. Pass `column`"):
        text_list(dataset.rename_column("text", "body").to_iterable_dataset())
    with pytest.raises(DataError, match=r"one dataset, got several splits\. Choose one of \['test', 'train'\]"):
        text_list(datasets.DatasetDict({"train": dataset, "test": dataset}))
    with pytest.raises(DataError, match="got NoneType at index 1"):
        text_list(datasets.Dataset.from_dict({"text": ["a", None]}))


def test_other_columns_of_a_dataset_are_not_decoded() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "picture": datasets.Image()})
    rows = {"text": ["ab"], "picture": [{"bytes": b"no picture", "path": None}]}
    dataset = datasets.Dataset.from_dict(rows, features=features)
    assert text_list(dataset) == text_list(dataset.to_iterable_dataset()) == ["ab"]


def test_one_text_must_be_a_string() -> None:
    word_targets = WordTargets.fit(["abc abc"], TargetsConfig(), FITTED)
    for text in (None, b"abc", 5, ["abc"], float("nan")):
        for call in (FITTED.encode, FITTED.offsets, FITTED.string_to_array, check_text):
            with pytest.raises(DataError, match=f"`text` must be a string, got {type(text).__name__}"):
                call(text)  # type: ignore[operator]
        with pytest.raises(DataError, match=f"got {type(text).__name__} at index 0"):
            word_targets.encode(text)  # type: ignore[arg-type]
    assert FITTED.encode(np.str_("abc")).tolist() == FITTED.encode("abc").tolist()
