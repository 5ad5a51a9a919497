"""The stage `vocab`: encoded splits, metrics, reproducibility, and rejected input."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from cclm_core.corpus import encoded
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.records import SPLITS, Entity, Record, write_shards
from cclm_core.runtime.artifacts import publishing, read_json, verify, write_json
from cclm_core.runtime.errors import ArtifactError, ConfigError, DataError, IntegrityError
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.params import Params
from cclm_core.steps.vocab import vocab

RECORDS = [
    Record("1", "My lord Hamlet!", "Horatio", "hamlet", "modern", "tragedy", (Entity(8, 14, "PERSON"),)),
    Record("2", "To Elsinore, lords.", group="hamlet", entities=(Entity(3, 11, "PLACE"),)),
    Record("3", "Gülden", split="validation"),
    Record("4", "Brutus & Cæsar", split="test", group="caesar", entities=(Entity(9, 14, "ROLE"),)),
]


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text("seed: 1\nvocabulary: {min_count: 1, max_characters: 1000}\n")
    return path


def corpus_of(folder: Path, records: list[Record]) -> Path:
    with publishing(folder, "corpus") as written:
        write_shards(written, records)
        write_json(written / "metrics.json", {"records": len(records)})
    return folder


def test_every_split_is_encoded_with_the_alphabet_of_the_train_split(tmp_path: Path, params: Path) -> None:
    reports: list[tuple[int, dict[str, float]]] = []

    def report(step: int, values: Mapping[str, float], total: int | None = None) -> None:
        assert total is None
        reports.append((step, dict(values)))

    corpus, out = corpus_of(tmp_path / "corpus", RECORDS), tmp_path / "encoded"
    vocab(Params.load(params), corpus, out, report)
    verify(out, "encoded")
    result = EncodedCorpus.open(out)
    assert set(result.preprocessor.alphabet) == set(RECORDS[0].text + RECORDS[1].text)
    assert result.entity_labels == ["PERSON", "PLACE", "ROLE"]  # of all splits
    for name in SPLITS:
        split = result.split(name)
        texts = [
            result.preprocessor.decode(split.ids[row.start :][: row.length]) for row in split.documents.itertuples()
        ]
        assert texts == [record.text for record in RECORDS if record.split == name]
    assert reports[-1] == (4, {"ids": sum(result.num_ids.values())})


def test_metrics_count_documents_ids_and_tags(tmp_path: Path, params: Path) -> None:
    vocab(Params.load(params), corpus_of(tmp_path / "corpus", RECORDS), tmp_path / "encoded", null_report)
    metrics = read_json(tmp_path / "encoded" / "metrics.json")
    assert metrics["alphabet"] == len(set(RECORDS[0].text + RECORDS[1].text))
    assert metrics["splits"]["train"] == {
        "documents": 2,
        "characters": 34,
        "fallback_characters": 0,
        "fallback_share": 0,
        "ids": 36,
    }
    assert metrics["splits"]["validation"]["fallback_share"] == pytest.approx(2 / 6)  # G and ü of Gülden
    assert metrics["splits"]["validation"]["ids"] == 6 + 1 + 1  # a second byte of ü, and the end mark
    assert metrics["tags"] == {"PERSON": 6, "PLACE": 8, "ROLE": 6}


def test_the_output_is_reproducible_and_independent_of_the_chunk_size(
    tmp_path: Path, params: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = corpus_of(tmp_path / "corpus", RECORDS)
    first = vocab_digest(params, corpus, tmp_path / "encoded")
    assert vocab_digest(params, corpus, tmp_path / "encoded") == first
    monkeypatch.setattr(encoded, "_RECORDS", 1)
    vocab(Params.load(params), corpus, tmp_path / "small", null_report)
    for name in SPLITS:
        for kind in ("ids", "tags"):
            file = f"{name}.{kind}.bin"
            assert (tmp_path / "small" / file).read_bytes() == (tmp_path / "encoded" / file).read_bytes()


def vocab_digest(params: Path, corpus: Path, out: Path) -> str:
    vocab(Params.load(params), corpus, out, null_report)
    return verify(out, "encoded")


def test_the_alphabet_is_limited_as_configured(tmp_path: Path, params: Path) -> None:
    params.write_text("vocabulary: {min_count: 3, max_characters: 2, cls: true}\n")
    vocab(Params.load(params), corpus_of(tmp_path / "corpus", RECORDS), tmp_path / "encoded", null_report)
    result = EncodedCorpus.open(tmp_path / "encoded")
    assert result.preprocessor.alphabet == " l"  # o is as frequent, but comes later
    assert result.split("test").ids[0] == 2
    assert result.preprocessor.decode(result.split("test").ids) == RECORDS[3].text


def test_after_rejected_input_nothing_is_published_and_the_next_run_works(tmp_path: Path, params: Path) -> None:
    out = tmp_path / "encoded"
    with pytest.raises(ArtifactError, match="none"):
        vocab(Params.load(params), tmp_path / "none", out, null_report)
    empty_train = corpus_of(tmp_path / "test_only", [RECORDS[3]])
    with pytest.raises(DataError, match=r"the train split of .* is empty"):
        vocab(Params.load(params), empty_train, out, null_report)
    corpus = corpus_of(tmp_path / "corpus", RECORDS)
    params.write_text("vocabulary: {min_cuont: 1}\n")
    with pytest.raises(ConfigError, match="did you mean 'min_count'"):
        vocab(Params.load(params), corpus, out, null_report)
    assert sorted(path.name for path in tmp_path.iterdir() if "encoded" in path.name and path.is_dir()) == []
    params.write_text("vocabulary: {}\n")
    vocab(Params.load(params), corpus, out, null_report)
    assert verify(out, "encoded")
    shard = next(corpus.glob("train-*.parquet"))
    shard.write_bytes(shard.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match=r"train-00000\.parquet is altered"):
        vocab(Params.load(params), corpus, out, null_report)
