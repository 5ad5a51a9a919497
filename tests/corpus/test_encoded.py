"""The encoded corpus: reading restores what was written, tags stay on their characters, damage is reported."""

from pathlib import Path

import numpy as np
import pytest

from cclm_core.corpus import encoded
from cclm_core.corpus.encoded import EncodedCorpus, EncodedWriter, encode_records
from cclm_core.corpus.records import SPLITS, Entity, Record
from cclm_core.runtime.errors import ArtifactError, DataError, IntegrityError
from cclm_core.text.vocabulary import END, Preprocessor, VocabularyConfig

RECORDS = [
    Record(
        "a", "Ophelia met Hamlét.", "Gertrude", "hamlet", "modern", "tragedy", (Entity(0, 7, "P"), Entity(12, 18, "Q"))
    ),
    Record("b", "no", split="train"),
    Record("c", "Yorick漢", split="train", entities=(Entity(0, 7, "Q"),)),
    Record("d", "Rome", split="test", group="caesar", entities=(Entity(0, 4, "P"),)),
]


def write(folder: Path, records: list[Record], cls: bool = False) -> EncodedWriter:
    preprocessor = Preprocessor(
        VocabularyConfig(cls=cls), "".join(sorted(set("".join(r.text for r in RECORDS)) - set("é漢")))
    )
    with EncodedWriter(folder, preprocessor, ["Q", "P", "Q"]) as writer:
        for _ in writer.write(records):
            pass
    return writer


@pytest.mark.parametrize("cls", [False, True])
@pytest.mark.parametrize("chunk", [1, 2, 4096])
def test_reading_restores_documents_and_entities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cls: bool, chunk: int
) -> None:
    monkeypatch.setattr(encoded, "_RECORDS", chunk)
    write(tmp_path, RECORDS, cls)
    corpus = EncodedCorpus.open(tmp_path)
    assert corpus.entity_labels == ["P", "Q"]
    by_id = {record.id: record for record in RECORDS}
    seen = []
    for name in SPLITS:
        split = corpus.split(name)
        assert split.ids.dtype == np.uint16 and split.tags.dtype == np.uint8
        assert len(split.ids) == len(split.tags) == (split.documents["length"] + 1).sum()
        for row in split.documents.itertuples():
            record = by_id[row.id]
            assert record.split == name
            seen.append(row.id)
            ids, tags = split.ids[row.start :][: row.length], split.tags[row.start :][: row.length]
            assert (split.ids[row.start + row.length], split.tags[row.start + row.length]) == (END, 0)
            assert corpus.preprocessor.decode(ids) == record.text
            starts = np.flatnonzero(tags % 2 == 1).tolist()
            labels = [corpus.entity_labels[(tags[start] - 1) // 2] for start in starts]
            assert labels == [entity.label for entity in record.entities]
            for start, expected in zip(starts, record.entities, strict=True):
                end = start + 1
                while end < len(tags) and tags[end] == tags[start] + 1:
                    end += 1
                covered = corpus.preprocessor.decode(ids[start:end])
                assert covered == record.text[expected.start : expected.end]
    assert sorted(seen) == ["a", "b", "c", "d"]


def test_the_columns_of_documents(tmp_path: Path) -> None:
    write(tmp_path, RECORDS)
    documents = EncodedCorpus.open(tmp_path).split("train").documents
    assert list(documents.columns) == ["id", "start", "length", "author", "group", "variant", "label"]
    first = documents.iloc[0]
    assert (first["author"], first["group"], first["variant"], first["label"]) == (
        "Gertrude",
        "hamlet",
        "modern",
        "tragedy",
    )
    assert documents["author"].isna().tolist() == [False, True, True]
    assert documents["start"].tolist() == [0, 21, 24]  # é is two ids, and each document ends with END
    assert (documents["start"].dtype, documents["length"].dtype) == (np.int64, np.int32)


def test_the_writer_counts_documents_characters_and_tags(tmp_path: Path) -> None:
    writer = write(tmp_path, RECORDS)
    train = writer.counts["train"]
    assert (train.documents, train.characters, train.fallback_characters, train.ids) == (3, 28, 2, 34)
    assert writer.counts["validation"].ids == 0
    assert writer.tags == {"P": 7 + 4, "Q": 7 + 9}


def test_chunks_of_long_documents_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "_CHARACTERS", 10)
    preprocessor = Preprocessor(alphabet="no")
    with EncodedWriter(tmp_path, preprocessor, []) as writer:
        sizes = list(writer.write(Record(str(number), "no" * number) for number in range(1, 8)))
    assert sizes == [3, 2, 1, 1]
    assert len(EncodedCorpus.open(tmp_path).split("train").documents) == 7


def test_a_corpus_can_be_empty(tmp_path: Path) -> None:
    write(tmp_path, [])
    split = EncodedCorpus.open(tmp_path).split("validation")
    assert len(split.ids) == len(split.tags) == len(split.documents) == 0


def test_the_ids_are_memory_mapped_and_read_only(tmp_path: Path) -> None:
    write(tmp_path, RECORDS)
    ids = EncodedCorpus.open(tmp_path).split("train").ids
    assert isinstance(ids, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        ids[0] = 1


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, RECORDS)
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert len(files) == 11
    for name in files:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name


def test_damage_is_reported(tmp_path: Path) -> None:
    write(tmp_path, RECORDS)
    corpus = EncodedCorpus.open(tmp_path)
    with pytest.raises(ArtifactError, match=r"split 'dev' not found in .* one of \['test', 'train', 'validation'\]"):
        corpus.split("dev")
    path = tmp_path / "train.ids.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"train\.ids\.bin must have 68 bytes, got 67 bytes"):
        corpus.split("train")
    (tmp_path / "test.tags.bin").unlink()
    with pytest.raises(ArtifactError, match="no such file"):
        corpus.split("test")
    Preprocessor(alphabet="xyz").save(tmp_path / "preprocessor.json")
    with pytest.raises(IntegrityError, match="made with another vocabulary"):
        EncodedCorpus.open(tmp_path)
    (tmp_path / "encoded.json").write_text("{}")
    with pytest.raises(ArtifactError, match="must have splits"):
        EncodedCorpus.open(tmp_path)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Record("x", "ab", entities=(Entity(1, 3, "P"),)), r"document x: the span \(1, 3, 'P'\) must be within the 2"),
        (Record("x", "ab", entities=(Entity(1, 1, "P"),)), "the span"),
        (Record("x", "ab", entities=(Entity(0, 1, "LAKE"),)), r"label must be one of \['P'\], got 'LAKE'"),
    ],
)
def test_invalid_entities_are_refused(record: Record, message: str) -> None:
    with pytest.raises(DataError, match=message):
        encode_records([record], Preprocessor(alphabet="ab"), ["P"])


def test_the_writer_refuses_too_many_labels_and_unknown_splits(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at most 127 entity labels, got 128"):
        EncodedWriter(tmp_path, Preprocessor(), map(str, range(128)))
    with pytest.raises(DataError, match="got 'dev'"):
        write(tmp_path, [Record("x", "a", split="dev")])
    assert not (tmp_path / "encoded.json").exists()
