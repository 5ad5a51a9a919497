"""The texts of a batch of ids, and the character of each id: what embeddings of words and word pieces read."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cclm_core.text.code_points import code_points, text_of
from cclm_core.text.vocabulary import FIRST_BYTE, FIRST_CHARACTER, MASK, Preprocessor

_REPLACEMENT, _SPACE = 0xFFFD, 0x20


class TextRows(NamedTuple):
    """The texts of the rows of a batch.

    Attributes:
        texts: B texts.
        owners: (B, L) int64, on the device of the ids: the character of each id, as an index into the characters of all
            texts joined; their number at padding.
        ids: (B, L) int64, the batch itself.
    """

    texts: list[str]
    owners: Tensor
    ids: Tensor

    @property
    def num_characters(self) -> int:
        """C, the number of characters of all texts."""
        return sum(map(len, self.texts))

    def spread(self, features: Tensor) -> Tensor:
        """Copies features (C, W) of the characters to the ids: (B, L, W), zeros at padding."""
        padded = torch.cat([features, features.new_zeros(1, features.shape[1])])
        return padded[self.owners]


def read_rows(ids: Tensor, preprocessor: Preprocessor) -> TextRows:
    """Decodes ids (B, L) int64, 0 for padding after the last character.

    A character of several bytes has several ids. MASK and bytes that are not valid UTF-8, such as a character that the
    edge of a window has cut, become U+FFFD. CLS, END and padding between characters become spaces.

    >>> prep = Preprocessor(alphabet="ab")
    >>> rows = read_rows(torch.tensor([[260, 199, 173, 261], [261, 1, 0, 0]]), prep)
    >>> rows.texts, rows.owners.tolist()
    (['aéb', 'b�'], [[0, 1, 1, 2], [3, 4, 5, 5]])
    """
    # A column of padding after each row, so that bytes of two rows never join.
    symbols = np.pad(ids.cpu().numpy(), ((0, 0), (0, 1)))
    width = symbols.shape[1]
    is_used = np.flip(np.maximum.accumulate(np.flip(symbols != 0, axis=1), axis=1), axis=1)
    points, is_first = _points(symbols.reshape(-1), code_points(preprocessor.alphabet))
    is_first &= is_used.reshape(-1)
    joined = text_of(points[is_first])
    ends = np.cumsum(is_first.reshape(-1, width).sum(axis=1))
    starts = np.append(0, ends)[:-1]
    owners = np.where(is_used, np.cumsum(is_first).reshape(-1, width) - 1, len(joined))[:, :-1]
    texts = [joined[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    return TextRows(texts, torch.from_numpy(np.ascontiguousarray(owners)).to(ids.device), ids)


def _points(
    symbols: npt.NDArray[np.int64], alphabet: npt.NDArray[np.uint32]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
    """The code point of each id (N,), and whether the id is the first one of its character."""
    table = np.full(FIRST_CHARACTER + len(alphabet), _SPACE, dtype=np.uint32)
    table[MASK] = _REPLACEMENT
    table[FIRST_BYTE:FIRST_CHARACTER] = np.arange(256)
    table[FIRST_CHARACTER:] = alphabet
    points, is_first = table[symbols], np.ones(len(symbols), dtype=bool)
    is_wide = (symbols >= FIRST_BYTE + 0x80) & (symbols < FIRST_CHARACTER)
    edges = np.flatnonzero(np.diff(np.pad(is_wide, 1).astype(np.int8)))
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        octets = (symbols[start:stop] - FIRST_BYTE).astype(np.uint8).tobytes()
        offset = start
        for character, size in _characters(octets):
            points[offset] = ord(character)
            is_first[offset + 1 : offset + size] = False
            offset += size
    return points, is_first


def _characters(octets: bytes) -> list[tuple[str, int]]:
    """The characters of a run of bytes from 0x80, with their numbers of bytes; U+FFFD for each invalid byte."""
    try:
        return [(character, len(character.encode())) for character in octets.decode()]
    except UnicodeDecodeError:
        pass
    characters, start = [], 0
    while start < len(octets):
        size = 2 + (octets[start] >= 0xE0) + (octets[start] >= 0xF0)
        try:
            character = octets[start : start + size].decode()
        except UnicodeDecodeError:
            character = ""
        if len(character) != 1:
            character, size = chr(_REPLACEMENT), 1
        characters.append((character, size))
        start += size
    return characters
