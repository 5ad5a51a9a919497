"""The rows of words in floret's table: hashes of the word and of its n-grams.

Source: floret (https://github.com/explosion/floret), and MurmurHash3 by Austin Appleby, which is in the public domain.
"""

from typing import NamedTuple

_MASK = 2**64 - 1
_C1, _C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F


class FloretHeader(NamedTuple):
    """The first line of a file: how words are hashed.

    Attributes:
        buckets: rows of the table.
        width: numbers per row.
        min_size, max_size: characters per n-gram; (0, 0) for whole words only.
        num_hashes: rows per word or n-gram, 1 to 4.
        seed: seed of the hash.
        begin, end: marks of the beginning and the end of a word.
    """

    buckets: int
    width: int
    min_size: int
    max_size: int
    num_hashes: int
    seed: int
    begin: str
    end: str

    def rows(self, word: str) -> tuple[int, ...]:
        """The rows of the table whose mean is the vector of a word; none for an empty word."""
        if not word:
            return ()
        marked = f"{self.begin}{word}{self.end}"
        sizes = range(max(1, self.min_size), self.max_size + 1)
        ngrams = [marked[start : start + size] for size in sizes for start in range(len(marked) - size + 1)]
        hashes = (hash128(text.encode(), self.seed)[: self.num_hashes] for text in [marked, *ngrams])
        return tuple(number % self.buckets for numbers in hashes for number in numbers)


def hash128(content: bytes, seed: int) -> tuple[int, int, int, int]:
    """MurmurHash3_x64_128, as four 32-bit numbers.

    >>> hash128(b"", 0)
    (0, 0, 0, 0)
    """
    h1 = h2 = seed & 0xFFFFFFFF
    num_blocks = len(content) // 16
    for block in range(num_blocks):
        start = 16 * block
        k1 = int.from_bytes(content[start : start + 8], "little")
        k2 = int.from_bytes(content[start + 8 : start + 16], "little")
        h1 ^= _mixed(k1, _C1, 31, _C2)
        h1 = ((_rotated(h1, 27) + h2) * 5 + 0x52DCE729) & _MASK
        h2 ^= _mixed(k2, _C2, 33, _C1)
        h2 = ((_rotated(h2, 31) + h1) * 5 + 0x38495AB5) & _MASK
    tail = content[16 * num_blocks :]
    if len(tail) > 8:
        h2 ^= _mixed(int.from_bytes(tail[8:], "little"), _C2, 33, _C1)
    if tail:
        h1 ^= _mixed(int.from_bytes(tail[:8], "little"), _C1, 31, _C2)
    h1, h2 = h1 ^ len(content), h2 ^ len(content)
    h1 = (h1 + h2) & _MASK
    h2 = (h2 + h1) & _MASK
    h1, h2 = _finished(h1), _finished(h2)
    h1 = (h1 + h2) & _MASK
    h2 = (h2 + h1) & _MASK
    return h1 & 0xFFFFFFFF, h1 >> 32, h2 & 0xFFFFFFFF, h2 >> 32


def _mixed(number: int, first: int, turn: int, second: int) -> int:
    return _rotated(number * first & _MASK, turn) * second & _MASK


def _rotated(number: int, turn: int) -> int:
    return (number << turn | number >> (64 - turn)) & _MASK


def _finished(number: int) -> int:
    number = (number ^ number >> 33) * 0xFF51AFD7ED558CCD & _MASK
    number = (number ^ number >> 33) * 0xC4CEB9FE1A85EC53 & _MASK
    return number ^ number >> 33
