"""What may stand in place of a text: its symbols, and for which symbols of the text they stand.

>>> align("m", "rn"), align("knife", "nife")
((0, -1), (1, 2, 3, 4))
>>> align("their", "thier")
(0, 1, 3, 2, 4)
>>> align("cat", "caat"), align("cat", "acat")
((0, 1, -1, 2), (0, -1, 1, 2))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

INSERTED = -1


@dataclass(frozen=True)
class Replacements:
    """R replacements, of W symbols at most.

    Attributes:
        symbols: (W, R) int64, meaningless beyond the length.
        offsets: (W, R) int64, for which symbol of the text each stands, or INSERTED.
        lengths: (R,) int64.
    """

    symbols: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]], replacements: Sequence[Sequence[int]]) -> "Replacements":
        """Each text, as symbols, with what stands in its place."""
        lengths = np.array([len(one) for one in replacements], dtype=np.int64)
        symbols = np.zeros((int(lengths.max(initial=0)), len(replacements)), dtype=np.int64)
        offsets = np.full_like(symbols, INSERTED)
        for row, (text, replacement) in enumerate(zip(texts, replacements, strict=True)):
            symbols[: len(replacement), row] = replacement
            offsets[: len(replacement), row] = align(text, replacement)
        return cls(symbols, offsets, lengths)

    def columns(self, chosen: npt.NDArray[np.int64]) -> tuple[tuple[npt.NDArray[np.int64], ...], ...]:
        """Symbols and offsets of the `chosen` (E,), column by column, as `Emission` has them."""
        width = int(self.lengths.take(chosen).max(initial=0))
        symbols, offsets = self.symbols[:width], self.offsets[:width]
        return tuple(row.take(chosen) for row in symbols), tuple(row.take(chosen) for row in offsets)


def align(text: Sequence[Any], replacement: Sequence[Any]) -> tuple[int, ...]:
    """For each item of `replacement` the index of the item of `text` for which it stands, or INSERTED.

    By the fewest insertions, deletions, substitutions and swaps of neighbours (Damerau 1964, the restricted
    distance); the first item always stands for one.
    """
    same = 0  # at the start of both; the distance is that of the rest
    while same < min(len(text), len(replacement)) and text[same] == replacement[same]:
        same += 1
    rest = _align(text[same:], replacement[same:])
    offsets = [*range(same), *(offset + same if offset != INSERTED else INSERTED for offset in rest)]
    if text and replacement and offsets[0] == INSERTED:
        # What is typed before the text belongs to it, not to what stands before it.
        if 0 in offsets:
            offsets[offsets.index(0)] = INSERTED
        offsets[0] = 0
    return tuple(offsets)


def _align(text: Sequence[Any], replacement: Sequence[Any]) -> list[int]:
    rows, columns = len(text), len(replacement)
    costs = [[row + column if row * column == 0 else 0 for column in range(columns + 1)] for row in range(rows + 1)]

    def swapped(row: int, column: int) -> bool:
        if min(row, column) < 2:
            return False
        return bool(text[row - 1] == replacement[column - 2] and text[row - 2] == replacement[column - 1])

    for row in range(1, rows + 1):
        for column in range(1, columns + 1):
            replaced = costs[row - 1][column - 1] + (text[row - 1] != replacement[column - 1])
            cost = min(replaced, costs[row - 1][column] + 1, costs[row][column - 1] + 1)
            costs[row][column] = min(cost, costs[row - 2][column - 2] + 1) if swapped(row, column) else cost
    offsets = [INSERTED] * columns
    row, column = rows, columns
    while column:
        cost = costs[row][column]
        if row and cost == costs[row - 1][column - 1] + (text[row - 1] != replacement[column - 1]):
            row, column = row - 1, column - 1
            offsets[column] = row
        elif swapped(row, column) and cost == costs[row - 2][column - 2] + 1:
            row, column = row - 2, column - 2
            offsets[column], offsets[column + 1] = row + 1, row
        elif row and cost == costs[row - 1][column] + 1:
            row -= 1
        else:
            column -= 1
    return offsets
