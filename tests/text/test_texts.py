"""Texts from lists, iterators, datasets and a published corpus."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.records import corpus_texts
from cclm_core.runtime.errors import ArtifactError, DataError, IntegrityError
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.params import Params
from cclm_core.steps.vocab import vocab
from cclm_core.text.texts import chunks, strings
from cclm_core.text.vocabulary import Preprocessor
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
