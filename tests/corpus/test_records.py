"""Shards keep every record in order, have reproducible bytes, and can be read by split and variant."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cclm_core.corpus.records import SPLITS, Entity, Record, fault, read_records, write_shards
from cclm_core.runtime.artifacts import file_digest
from cclm_core.runtime.errors import ArtifactError


def _records(count: int) -> list[Record]:
    return [
        Record(
            id=f"r{index}",
            text=f"Text {index} with Höhe 🙂\nand Romeo",
            author=None if index % 2 else "Romeo",
            group=f"g{index % 4}",
            variant=(None, "modern", "folio")[index % 3],
            label="comedy",
            entities=(Entity(0, 4, "WORD"), Entity(5, 6, "NUMBER")) if index % 5 else (),
            split=SPLITS[index % 3],
        )
        for index in range(count)
    ]


def test_records_are_read_by_split_then_in_source_order(tmp_path: Path) -> None:
    records = _records(100)
    assert write_shards(tmp_path, records, records_per_shard=7) == {"train": 34, "validation": 33, "test": 33}
    expected = [record for split in SPLITS for record in records if record.split == split]
    assert list(read_records(tmp_path)) == expected
    assert sorted(path.name for path in tmp_path.glob("train-*"))[-1] == "train-00004.parquet"


def test_reading_selects_split_and_variants(tmp_path: Path) -> None:
    records = [replace(record, split="train") for record in _records(20)]
    write_shards(tmp_path, records)
    assert list(read_records(tmp_path, split="test")) == []
    modern = list(read_records(tmp_path, split="train", variants=["modern"]))
    assert modern == [record for record in records if record.variant == "modern"]
    assert len(modern) == 7


def test_the_bytes_depend_only_on_the_records(tmp_path: Path) -> None:
    digests = []
    for name, records in (("a", _records(50)), ("b", _records(50)), ("c", _records(51))):
        (tmp_path / name).mkdir()
        write_shards(tmp_path / name, iter(records))
        digests.append([file_digest(tmp_path / name / f"{split}-00000.parquet") for split in SPLITS])
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_row_groups_of_long_texts_are_small(tmp_path: Path) -> None:
    write_shards(tmp_path, (Record(id=str(index), text="x" * (1 << 20)) for index in range(9)))
    with pq.ParquetFile(tmp_path / "train-00000.parquet") as shard:
        assert [shard.metadata.row_group(index).num_rows for index in range(shard.num_row_groups)] == [4, 4, 1]


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no Parquet shard found"):
        list(read_records(tmp_path))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"text": " \n"}, "empty text"),
        ({"text": "a\0b"}, "NUL character"),
        ({"text": "a\ud800b"}, "lone surrogate"),
        ({"author": "\udfff"}, "lone surrogate"),
        ({"entities": (Entity(3, 6, "X"),)}, "entity span out of range"),
        ({"entities": (Entity(-1, 2, "X"),)}, "entity span out of range"),
        ({"entities": (Entity(2, 2, "X"),)}, "entity span out of range"),
        ({"entities": (Entity(0, 2, ""),)}, "entity without a label"),
        ({"entities": (Entity(0, 3, "X"), Entity(2, 4, "X"))}, "entity spans overlap or are not sorted"),
    ],
)
def test_fault_returns_the_reason(change: dict[str, object], reason: str) -> None:
    good = Record(id="1", text="hello", entities=(Entity(0, 2, "X"), Entity(2, 5, "Y")))
    assert fault(good) is None
    assert fault(replace(good, **change)) == reason  # type: ignore[arg-type]
