"""From the tags of words to the tags of ids, for pipelines that classify every token.

```
first id of a word      the scores of the word
its other ids           I where the word is B or I
between two words       I where the next word is I; O otherwise
```

Source: the rule of the reference labels in `align_word_labels`.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cclm_core.text.alphabet import FIRST_BYTE, FIRST_CHARACTER, NUM_SPECIAL
from cclm_core.text.tagged_words import characters_of, words_of
from cclm_core.text.vocabulary import Preprocessor

_NEVER = -1e4  # log-probability of an impossible tag; finite in every precision
_CONTINUATION = (FIRST_BYTE + 0x80, FIRST_BYTE + 0xC0)  # ids of UTF-8 continuation bytes, half open


class Words(NamedTuple):
    """The N words of a batch.

    Attributes:
        row, start, stop: (N,) int64, the row of each word, its first id, and the id after its last one.
    """

    row: Tensor
    start: Tensor
    stop: Tensor


def words_in(ids: Tensor, preprocessor: Preprocessor, unit: str) -> Words:
    """The words of a batch `ids` (B, L), or its characters with `unit` `character`. Special ids are in no word."""
    rows: list[list[int]] = [[], [], []]
    for row, values in enumerate(ids.cpu().numpy()):
        positions = np.flatnonzero(values >= NUM_SPECIAL)
        text, owners = _text(values[positions], preprocessor)
        spans = characters_of(text) if unit == "character" else words_of(text)
        edges = np.searchsorted(owners, np.array(spans, dtype=np.int64).reshape(-1, 2))
        rows[0] += [row] * len(spans)
        rows[1] += positions[edges[:, 0]].tolist()
        rows[2] += (positions[edges[:, 1] - 1] + 1).tolist()
    return Words(*(torch.tensor(column, dtype=torch.int64, device=ids.device) for column in rows))


def scores_of_ids(scores: Tensor, words: Words, shape: tuple[int, int]) -> Tensor:
    """Log-probabilities (B, L, 1 + 2K) of the tag of each id, from scores (N, 1 + 2K) of the words.

    Tags: 0 is O, 1 + 2k is B of label k, 2 + 2k is I of label k.
    """
    known = torch.log_softmax(scores.float(), dim=-1)
    result = known.new_full((*shape, known.shape[1]), _NEVER)
    result[..., 0] = 0
    inside = known.clone()
    inside[:, 2::2] = torch.logaddexp(known[:, 1::2], known[:, 2::2])
    inside[:, 1::2] = _NEVER
    between = torch.full_like(known, _NEVER)
    between[:, 2::2] = known[:, 2::2]
    between[:, 0] = torch.log1p(-known[:, 2::2].exp().sum(-1).clamp(max=1 - 1e-6))
    rows, columns, kinds, owners = _places(words)
    table = torch.stack([known, inside, between])
    return result.index_put((rows, columns), table[kinds, owners])


def _places(words: Words) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each id of a word or before a later word of its row: row, column, kind of its scores, and the word."""
    row, start, stop = (column.cpu().numpy() for column in words)
    follows = np.zeros(len(row), dtype=bool)
    follows[1:] = row[1:] == row[:-1]
    begin = np.where(follows, np.concatenate([[0], stop[:-1]])[: len(row)], start)
    sizes = stop - begin
    owners = np.repeat(np.arange(len(row)), sizes)
    columns = np.arange(len(owners)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + begin[owners]
    kinds = np.where(columns < start[owners], 2, np.where(columns == start[owners], 0, 1))
    device = words.row.device
    places = (torch.from_numpy(values).to(device) for values in (row[owners], columns, kinds, owners))
    rows, places_columns, places_kinds, places_owners = places
    return rows, places_columns, places_kinds, places_owners


def _text(ids: npt.NDArray[np.int64], preprocessor: Preprocessor) -> tuple[str, npt.NDArray[np.int64]]:
    """The text of ids (L,), and the index of the character of each id; invalid bytes are one U+FFFD each group."""
    is_first = (ids < _CONTINUATION[0]) | (ids >= _CONTINUATION[1])
    if len(ids):
        is_first[0] = True
    owners = np.cumsum(is_first) - 1
    if (ids >= FIRST_CHARACTER).all():
        return preprocessor.decode(ids), owners
    groups = np.split(ids, np.flatnonzero(is_first)[1:])
    decoded = (preprocessor.decode(group) for group in groups)
    return "".join(text if len(text) == 1 else "\ufffd" for text in decoded), owners
