"""Parquet files: whatever is damaged, or does not match the schema, is an ArtifactError with the path."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cclm_core.corpus.encoded import EncodedCorpus, EncodedWriter
from cclm_core.corpus.records import SCHEMA, Entity, Record, read_records, to_table, write_shards
from cclm_core.runtime import parquet
from cclm_core.runtime.errors import ArtifactError, CclmError
from cclm_core.runtime.parquet import count_row_groups, read_parquet, read_row_group, read_row_groups
from cclm_core.text.vocabulary import Preprocessor

RECORDS = [Record(f"i{n}", f"text {n} of it", "a", f"g{n % 5}", entities=(Entity(0, 4, "X"),)) for n in range(300)]


def test_whole_files_and_row_groups_are_read(tmp_path: Path) -> None:
    table = to_table(RECORDS)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    assert count_row_groups(str(tmp_path / "a.parquet"), SCHEMA) == 3
    assert read_parquet(tmp_path / "a.parquet", SCHEMA).equals(table)
    assert read_parquet(tmp_path / "a.parquet", SCHEMA, ["id", "text"]).equals(table.select(["id", "text"]))
    assert read_row_group(tmp_path / "a.parquet", 1, SCHEMA, ["id"]).column("id")[0].as_py() == "i100"
    assert sum(group.num_rows for group in read_row_groups(tmp_path / "a.parquet", SCHEMA)) == 300
    pq.write_table(SCHEMA.empty_table(), tmp_path / "empty.parquet")
    assert read_parquet(tmp_path / "empty.parquet", SCHEMA).equals(SCHEMA.empty_table())


def test_other_columns_types_and_missing_values_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    schema = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("e", pa.list_(pa.int32()))])
    for table, message in (
        (pa.table({"id": ["a"]}), "it must have one column e, got 0"),
        (pa.table({"id": [1], "e": [[1]]}), "column id must be string, got int64"),
        (pa.Table.from_arrays([pa.array(["a"])] * 2, ["id", "id"]), "it must have one column id, got 2"),
        (pa.table({"id": ["a", None], "e": pa.array([[1], [2]], schema.field("e").type)}), "no missing value, got 1"),
        (pa.table({"id": ["a"], "e": pa.array([[None]], schema.field("e").type)}), "missing values inside its lists"),
    ):
        pq.write_table(table, path)
        with pytest.raises(ArtifactError, match=rf"a\.parquet is damaged: .*{message}.*Delete the folder"):
            read_parquet(path, schema)
    with pytest.raises(ArtifactError, match=r"none\.parquet not found\. Run the stage"):
        read_parquet(tmp_path / "none.parquet", schema)


def test_a_row_group_that_is_too_large_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(to_table(RECORDS), tmp_path / "a.parquet")
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 1000)
    with pytest.raises(ArtifactError, match=r"row group 0 must have at most 1,000 bytes, got"):
        count_row_groups(tmp_path / "a.parquet", SCHEMA)


def test_a_damaged_shard_is_one_error(tmp_path: Path) -> None:
    write_shards(tmp_path, RECORDS)
    path = tmp_path / "train-00000.parquet"
    good, draw, num_refused = path.read_bytes(), random.Random(1), 0
    for case in range(60):
        bad = bytearray(good)
        if case % 2:
            del bad[draw.randrange(len(bad)) :]
        else:
            bad[draw.randrange(len(bad))] ^= 0xFF
        path.write_bytes(bad)
        try:
            list(read_records(tmp_path))
        except ArtifactError as error:
            num_refused += 1
            assert str(path) in str(error)
    assert num_refused > 30


def test_a_span_outside_its_text_is_a_damaged_shard(tmp_path: Path) -> None:
    pq.write_table(to_table([Record("1", "abc", entities=(Entity(0, 9, "X"),))]), tmp_path / "train-00000.parquet")
    with pytest.raises(ArtifactError, match=r"is damaged: record '1': entity span out of range"):
        list(read_records(tmp_path))


def test_a_damaged_encoded_corpus_is_one_error(tmp_path: Path) -> None:
    with EncodedWriter(str(tmp_path), Preprocessor().fit(["abcdefghij 0123456789"]), ["P"]) as writer:
        list(writer.write([Record(f"i{n}", f"abc {n}") for n in range(30)]))
    files = [
        tmp_path / name for name in ("encoded.json", "train.documents.parquet", "preprocessor.json", "train.ids.bin")
    ]
    originals, draw, num_refused = {path: path.read_bytes() for path in files}, random.Random(2), 0
    for _ in range(150):
        path = draw.choice(files)
        bad = bytearray(originals[path])
        where = draw.randrange(len(bad))
        bad[where : where + draw.choice((0, 1, 30))] = draw.choice((b"", b"\xff", b"null", b"[" * 200))
        path.write_bytes(bad)
        try:
            assert len(EncodedCorpus.open(tmp_path).split("train").documents) == 30
        except CclmError:
            num_refused += 1
        path.write_bytes(originals[path])
    assert num_refused > 80
    for splits in ('{"train":true}', '{"../x":1}', "[]", '{"train":-1}', '{"train":"9"}'):
        (tmp_path / "encoded.json").write_text(f'{{"splits":{splits},"entity_labels":[],"preprocessor":""}}')
        with pytest.raises(ArtifactError, match=r"encoded\.json must have splits"):
            EncodedCorpus.open(str(tmp_path))
