"""The reader of long texts: each id once, averaged overlaps, results independent of the batch."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from cclm_core.composition.long_texts import TextReader, split
from cclm_core.runtime.errors import ConfigError


class Positions(nn.Module):
    """Features (B, L, 2): the id, and its position in the window."""

    def forward(self, ids: Tensor) -> Tensor:
        return torch.stack([ids.float(), torch.arange(ids.shape[1]).expand(ids.shape).float()], dim=-1)


def numbered(length: int) -> npt.NDArray[np.int64]:
    return np.arange(1, length + 1)


LENGTHS = (0, 1, 7, 8, 9, 12, 13, 40, 0, 8)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("window", "overlap"), [(8, 0), (8, None), (8, 7), (8, 3), (1, 0), (2, 1), (9, None), (64, None)]
)
@pytest.mark.parametrize("batch_characters", [1, 20, 1000])
def test_every_id_is_returned_once_and_in_order(
    window: int, overlap: int | None, batch_characters: int, causal: bool
) -> None:
    texts = [numbered(length) for length in LENGTHS]
    reader = TextReader(Positions(), window=window, overlap=overlap, batch_characters=batch_characters, causal=causal)
    seen: list[list[float]] = [[] for _ in texts]
    for piece in reader.pieces(texts):
        assert piece.start == len(seen[piece.text]) and 0 < len(piece.features) <= window
        seen[piece.text] += piece.features[:, 0].tolist()
    assert seen == [ids.tolist() for ids in texts]
    for ids, rows in zip(texts, reader.whole(texts, 2), strict=True):
        assert rows.shape == (len(ids), 2) and rows[:, 0].tolist() == ids.tolist()
        assert torch.equal(rows, reader.whole([ids], 2)[0])


@pytest.mark.parametrize(("window", "overlap"), [(8, 4), (8, 7), (5, 2)])
def test_overlapping_windows_are_averaged(window: int, overlap: int) -> None:
    (rows,) = TextReader(Positions(), window=window, overlap=overlap).whole([numbered(30)], 2)
    for index, (_, position) in enumerate(rows.tolist()):
        expected = [index - part.start for part in split(30, window, overlap) if part.start <= index < part.stop]
        assert position == pytest.approx(np.mean(expected))


def test_a_causal_encoder_reads_every_id_with_the_most_context() -> None:
    (rows,) = TextReader(Positions(), window=8, causal=True).whole([numbered(30)], 2)
    positions = rows[:, 1].tolist()
    assert positions[:8] == list(range(8)) and min(positions[8:]) >= 4


def test_without_overlap_windows_are_disjoint() -> None:
    (rows,) = TextReader(Positions(), window=8, overlap=0).whole([numbered(19)], 2)
    assert rows[:, 1].tolist() == [*range(8), *range(8), *range(3)]


def test_batches_are_bounded_and_the_longest_windows_come_first() -> None:
    sizes: list[tuple[int, int]] = []

    class Counting(TextReader):
        def read(self, ids: npt.NDArray[np.int64]) -> Tensor:
            sizes.append((ids.shape[0], ids.shape[1]))
            return super().read(ids)

    reader = Counting(Positions(), window=16, batch_characters=32)
    assert [rows.shape for rows in reader.whole([numbered(length) for length in (3, 100, 0, 5, 5)], 2)] == [
        (3, 2),
        (100, 2),
        (0, 2),
        (5, 2),
        (5, 2),
    ]
    assert all(rows * length <= 32 for rows, length in sizes)
    assert [length for _, length in sizes] == sorted((length for _, length in sizes), reverse=True)
    assert reader.whole([], 2) == [] and reader.whole([numbered(0)], 2)[0].shape == (0, 2)


def test_batches_of_texts_of_many_lengths_have_few_shapes() -> None:
    shapes = set()

    class Counting(TextReader):
        def read(self, ids: npt.NDArray[np.int64]) -> Tensor:
            shapes.add(ids.shape)
            return super().read(ids)

    reader = Counting(Positions(), window=512, batch_characters=2048)
    for first in range(1, 500, 20):
        lengths = range(first, first + 20)
        rows = reader.whole([numbered(length) for length in lengths], 2)
        assert [row.shape for row in rows] == [(length, 2) for length in lengths]
    assert len({length for _, length in shapes}) < 60
    assert all(rows * length <= 2048 for rows, length in shapes)


@pytest.mark.parametrize("overlap", [-1, 8])
def test_an_overlap_outside_its_range_is_refused(overlap: int) -> None:
    with pytest.raises(ConfigError, match="`overlap` must be at least 0 and below the window of 8"):
        TextReader(Positions(), window=8, overlap=overlap)
