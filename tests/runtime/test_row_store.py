"""Arrays on disk by key: kept, bounded, whole after a kill, checked, shared."""

from pathlib import Path

import numpy as np
import pytest

from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.row_store import RowStore

SIZE = 2 * 3 * 4 + 20


def store(folder: Path, max_bytes: float = 1e6) -> RowStore:
    return RowStore(folder, (2, 3), np.float32, max_bytes)


def rows(*numbers: int) -> np.ndarray:
    return np.stack([np.full((2, 3), number, dtype=np.float32) for number in numbers])


def value(opened: RowStore, key: bytes) -> float | None:
    row = opened.get(key)
    return None if row is None else float(row[1, 2])


def test_arrays_are_found_by_key_in_this_process_and_the_next(tmp_path: Path) -> None:
    first = store(tmp_path / "a" / "b")
    first.add([b"one", b""], rows(1, 2))
    first.add([b"three"], rows(3))
    for opened in (first, store(tmp_path / "a" / "b")):
        assert len(opened) == 3 and b"one" in opened and b"four" not in opened
        assert [value(opened, key) for key in (b"three", b"", b"one", b"four")] == [3, 2, 1, None]
        opened.close()


def test_the_limit_is_kept_and_later_arrays_are_left_out(tmp_path: Path) -> None:
    opened = store(tmp_path, max_bytes=3.5 * SIZE)
    opened.add([b"1", b"2"], rows(1, 2))
    opened.add([b"3", b"4", b"5"], rows(3, 4, 5))
    opened.add([b"6"], rows(6))
    assert len(opened) == opened.capacity == 3 and b"3" in opened and b"4" not in opened
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 3 * SIZE
    opened.close()
    smaller = store(tmp_path, max_bytes=2 * SIZE)
    assert len(smaller) == 2 and b"3" not in smaller
    smaller.close()


@pytest.mark.parametrize("name", ["rows.bin", "index.bin"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_everything_before_damage_is_kept_and_nothing_after_it(tmp_path: Path, name: str, damage: str) -> None:
    opened = store(tmp_path)
    opened.add([b"1", b"2", b"3"], rows(1, 2, 3))
    opened.close()
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    position = len(content) // 3 + 18  # in the second array, or in its checksum
    content[position] ^= 1
    path.write_bytes(content if damage == "changed" else content[:position])
    again = store(tmp_path)
    assert len(again) == 1 and value(again, b"1") == 1
    again.add([b"2"], rows(22))
    again.close()
    last = store(tmp_path)
    assert len(last) == 2 and value(last, b"2") == 22
    last.close()


def test_another_process_sees_what_was_added(tmp_path: Path) -> None:
    writer, reader = store(tmp_path), store(tmp_path)
    writer.add([b"1"], rows(1))
    assert b"1" not in reader
    reader.refresh()
    assert value(reader, b"1") == 1
    writer.close()
    reader.close()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"cannot write to .*file"):
        store(tmp_path / "file")
