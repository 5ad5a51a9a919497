"""Windows: every id once per epoch, new boundaries each epoch, batches that depend only on their number."""

from pathlib import Path

import numpy as np
import pytest

from cclm_core.corpus.records import Record
from cclm_core.corpus.windows import Windows
from cclm_core.runtime.errors import DataError
from tests.corpora import encode, records


@pytest.fixture
def windows(tmp_path: Path) -> Windows:
    return Windows(encode(tmp_path / "encoded", records(50)).split("train"), 16)


def test_an_epoch_reads_every_id_exactly_once(windows: Windows) -> None:
    count = windows.num_windows(0)
    batch = windows.fixed(count, seed=3)
    read = np.sort(batch.ids[batch.ids > 0])
    assert np.array_equal(read, np.sort(np.asarray(windows.split.ids, dtype=np.int64)))


def test_boundaries_move_between_epochs_and_no_text_is_lost(tmp_path: Path) -> None:
    some = [Record(str(n), "".join(chr(0x4E00 + 7 * n + k) for k in range(7)), split="train") for n in range(20)]
    some += [Record(split, "x", split=split) for split in ("validation", "test")]
    windows = Windows(encode(tmp_path / "encoded", some).split("train"), 16)
    per_epoch = windows.batches_per_epoch(4)
    epochs = []
    for epoch in range(5):
        batches = [windows.batch(epoch * per_epoch + number, 4, seed=1) for number in range(per_epoch)]
        characters = np.concatenate([batch.ids[batch.ids > 3] for batch in batches])
        assert np.array_equal(np.unique(characters), np.unique(windows.split.ids[windows.split.ids > 3]))
        epochs.append(frozenset(tuple(row) for batch in batches for row in batch.ids))
    assert len(set(epochs)) >= 3


def test_a_batch_depends_only_on_its_number_and_the_seed(windows: Windows) -> None:
    forwards = [windows.batch(number, 8, seed=2).ids for number in (0, 1, 2)]
    backwards = [windows.batch(number, 8, seed=2).ids for number in (2, 1, 0)]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))
    assert not np.array_equal(forwards[0], windows.batch(0, 8, seed=3).ids)


def mixed(count: int) -> list[Record]:
    """Documents of two alternating variants, so that documents of one variant are never adjacent."""
    some = [Record(str(n), "ab" * 10, variant=("folio", "modern")[n % 2], split="train") for n in range(count)]
    return some + [Record(split, "ab" * 10, split=split) for split in ("validation", "test")]


def test_documents_that_are_not_adjacent_fill_rows_and_keep_their_ends(tmp_path: Path) -> None:
    windows = Windows(encode(tmp_path / "encoded", mixed(600)).split("train"), 64, ("modern",))
    assert len(windows.starts) == 300 and windows.num_ids == 300 * 21
    per_epoch = windows.batches_per_epoch(8)
    batches = [windows.batch(number, 8, seed=1) for number in range(per_epoch - 1)]
    padding = sum(int((batch.ids == 0).sum()) for batch in batches) / sum(batch.ids.size for batch in batches)
    assert padding < 0.05
    row = next(row for batch in batches for row in batch.ids if (row > 0).all())
    ends = np.flatnonzero(row == 3)
    assert np.array_equal(np.diff(ends), np.full(len(ends) - 1, 21)), "one END after each document"


def test_an_epoch_of_documents_that_are_not_adjacent_reads_each_id_once(tmp_path: Path) -> None:
    some = [
        Record(str(n), "".join(chr(0x4E00 + 7 * n + k) for k in range(7)), variant=("a", "b", None)[n % 3])
        for n in range(40)
    ]
    some += [Record(split, "x", split=split) for split in ("validation", "test")]
    corpus = encode(tmp_path / "encoded", some)
    windows = Windows(corpus.split("train"), 16, ("b",))
    batch = windows.fixed(windows.num_windows(0), seed=3)
    expected = sorted(character for record in some[:40] if record.variant != "a" for character in record.text)
    assert sorted(corpus.preprocessor.decode(batch.ids.ravel())) == expected


def test_all_documents_are_one_range_without_reading_the_table(tmp_path: Path) -> None:
    split = encode(tmp_path / "encoded", mixed(30)).split("train")
    split.path.unlink()
    windows = Windows(split, 64)
    assert (windows.starts.tolist(), windows.ends.tolist()) == ([0], [30 * 21])


def test_no_document_of_the_variant_is_an_error(tmp_path: Path) -> None:
    corpus = encode(tmp_path / "encoded", records(8))
    with pytest.raises(DataError, match=r"no document of the variants \('quarto',\)"):
        Windows(corpus.split("train"), 16, ("quarto",))
