"""Bits per character of texts under a small model of character trigrams, which the accepted data bring along.

The base would measure better, but it is made from the corpus: a stage that asked it would depend on its own output. The
counts of trigrams are a few kilobytes of `contract/accepted.json`, so every clone measures the same.

Half of the texts, chosen by a hash of the text, are counted; only the other half are measured. So a text that was in
the accepted data is never measured by a model that has counted it, and equal data give an equal figure.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

MAX_TRIGRAMS = 5_000  # that are stored, the most frequent ones: about 70 KB
MIN_COUNT = 3  # of a stored trigram, so that what only one text has is not stored
MAX_SAMPLE = 1_000_000  # characters that are read of a source or file
START = "\x02"
"""What comes before a text, twice."""

_MAX_LEVEL, _CODE_POINTS = 20, 0x110000
_BITS = 21  # of a code point
_MASK = np.uint64((1 << _BITS) - 1)

Keys = npt.NDArray[np.uint64]


class TrigramModel:
    """Interpolated counts of characters, pairs and trigrams.

    Each estimate is mixed with that of the shorter context, which counts as often as there are different continuations.

    Args:
        counts: trigram -> how often it occurs.

    Source: Witten and Bell 1991, "The zero-frequency problem".
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        texts = sorted(counts)
        codes = _codes(texts).reshape(-1, 3)
        numbers = np.array([counts[text] for text in texts], dtype=np.float64)
        self._trigrams = _Table.of(_packed(codes[:, 0], codes[:, 1], codes[:, 2]), numbers)
        self._pairs = _Table.of(_packed(codes[:, 1], codes[:, 2]), numbers)
        self._characters = _Table.of(codes[:, 2], numbers)

    def bits(self, keys: Keys) -> npt.NDArray[np.float64]:
        """The bits of the last character of each trigram after the other two, (N,), as made by `keys_of`."""
        last, middle = keys & _MASK, (keys >> np.uint64(_BITS)) & _MASK
        pair, context = keys & np.uint64((1 << 2 * _BITS) - 1), keys >> np.uint64(_BITS)
        total, kinds = self._characters.numbers.sum(), len(self._characters.keys)
        estimate = (self._characters.count(last) + max(1, kinds) / _CODE_POINTS) / (total + max(1, kinds))
        for table, key, before in ((self._pairs, pair, middle), (self._trigrams, keys, context)):
            seen, different = table.after(before)
            estimate = np.where(
                seen > 0, (table.count(key) + different * estimate) / np.maximum(seen + different, 1), estimate
            )
        return np.asarray(-np.log2(estimate), dtype=np.float64)


@dataclass(frozen=True)
class _Table:
    """Counts by key, and by context: the key without its last character."""

    keys: Keys
    numbers: npt.NDArray[np.float64]
    contexts: Keys
    totals: npt.NDArray[np.float64]
    kinds: npt.NDArray[np.float64]

    @classmethod
    def of(cls, keys: Keys, numbers: npt.NDArray[np.float64]) -> "_Table":
        """Adds up the numbers of equal keys."""
        distinct, places = np.unique(keys, return_inverse=True)
        sums = np.bincount(places, weights=numbers, minlength=len(distinct)).astype(np.float64)
        contexts, owners = np.unique(distinct >> np.uint64(_BITS), return_inverse=True)
        totals = np.bincount(owners, weights=sums, minlength=len(contexts)).astype(np.float64)
        kinds = np.bincount(owners, minlength=len(contexts)).astype(np.float64)
        return cls(distinct, sums, contexts, totals, kinds)

    def count(self, keys: Keys) -> npt.NDArray[np.float64]:
        """The count of each key, 0 if it is unknown."""
        return _looked_up(self.keys, self.numbers, keys)

    def after(self, contexts: Keys) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """How often each context occurs, and how many different characters follow it."""
        return _looked_up(self.contexts, self.totals, contexts), _looked_up(self.contexts, self.kinds, contexts)


@dataclass
class _Level:
    """The texts of a sample with the same level."""

    characters: int = 0
    counted: Counter[int] = field(default_factory=Counter)
    held_out: Counter[int] = field(default_factory=Counter)
    bits: float = 0.0
    measured: int = 0


class TrigramSample:
    """The trigrams of a sample of texts, which does not depend on their order.

    A text has a level, 0 in half of the cases, 1 in a quarter and so on, from a hash of the text. If the sample is
    full, its lowest level is dropped.

    Args:
        accepted: the model of the accepted data, which measures the texts; None without accepted data.
        is_counted: whether to count trigrams, too, for a model of these texts.
    """

    def __init__(self, accepted: TrigramModel | None, is_counted: bool) -> None:
        self._accepted, self._is_counted = accepted, is_counted
        self._levels: dict[int, _Level] = {}
        self._lowest = 0

    def add(self, texts: Sequence[str]) -> tuple[int, float]:
        """Adds texts.

        Returns:
            The index of the measured text with the most bits per character, and these; (-1, 0.0) if none was measured.
        """
        worst, most = -1, 0.0
        for (level, is_measured), rows in self._grouped(texts).items():
            kept = self._levels.setdefault(level, _Level())
            keys, owners = keys_of([texts[row] for row in rows])
            kept.characters += len(keys)
            if self._is_counted:
                counter = kept.held_out if is_measured else kept.counted
                distinct, numbers = np.unique(keys, return_counts=True)
                counter.update(dict(zip(distinct.tolist(), numbers.tolist(), strict=True)))
            if is_measured and self._accepted is not None and len(keys):
                bits = self._accepted.bits(keys)
                kept.bits += float(bits.sum())
                kept.measured += len(keys)
                lengths = np.bincount(owners, minlength=len(rows))
                means = np.bincount(owners, weights=bits, minlength=len(rows)) / np.maximum(lengths, 1)
                if means.max() > most:
                    worst, most = rows[int(means.argmax())], float(means.max())
        while len(self._levels) > 1 and sum(level.characters for level in self._levels.values()) > MAX_SAMPLE:
            self._lowest = min(self._levels) + 1
            del self._levels[self._lowest - 1]
        return worst, most

    @property
    def bits_per_character(self) -> float | None:
        """Bits per character under the model of the accepted data; None if nothing was measured."""
        measured = sum(level.measured for level in self._levels.values())
        return sum(self._levels[level].bits for level in sorted(self._levels)) / measured if measured else None

    def counts(self) -> tuple[Counter[str], float | None]:
        """The most frequent trigrams, and bits per character of the held-out texts under them, None without any."""
        counted: Counter[int] = Counter()
        held_out: Counter[int] = Counter()
        for level in self._levels.values():
            counted.update(level.counted)
            held_out.update(level.held_out)
        frequent = {_unpacked(key): number for key, number in counted.items() if number >= MIN_COUNT}
        ordered = sorted(frequent.items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_TRIGRAMS]
        trigrams = Counter(dict(ordered))
        if not trigrams or not held_out:
            return trigrams, None
        keys = np.array(sorted(held_out), dtype=np.uint64)
        numbers = np.array([held_out[key] for key in keys.tolist()], dtype=np.float64)
        return trigrams, float((TrigramModel(trigrams).bits(keys) * numbers).sum() / numbers.sum())

    def _grouped(self, texts: Sequence[str]) -> dict[tuple[int, bool], list[int]]:
        """Level and whether it is measured -> the indices of the texts, those of dropped levels left out."""
        groups: dict[tuple[int, bool], list[int]] = {}
        for row, text in enumerate(texts):
            number = zlib.crc32(text.encode("utf-8", "surrogatepass"))
            level = min(_MAX_LEVEL, (number & -number).bit_length() - 1 if number else _MAX_LEVEL)
            if level >= self._lowest:
                groups.setdefault((level, bool(number >> 31)), []).append(row)
        return dict(sorted(groups.items()))


def keys_of(texts: Sequence[str]) -> tuple[Keys, npt.NDArray[np.int64]]:
    """The trigram that ends at each character, as one number each, and the index of its text, both (N,)."""
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    codes = _codes(_padded(texts))
    owners = np.repeat(np.arange(len(texts)), lengths)
    ends = np.arange(len(owners)) + 2 * (owners + 1)
    return _packed(codes[ends - 2], codes[ends - 1], codes[ends]), owners


def _padded(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        yield START + START
        yield text


def _codes(texts: Iterable[str]) -> Keys:
    """The code points of texts, one after the other."""
    joined = "".join(texts).encode("utf-32-le", "surrogatepass")
    codes: Keys = np.frombuffer(joined, dtype=np.uint32).astype(np.uint64)
    return codes


def _packed(*codes: Keys) -> Keys:
    packed = np.zeros_like(codes[0])
    for code in codes:
        packed = packed << np.uint64(_BITS) | code
    return packed


def _unpacked(key: int) -> str:
    return "".join(chr(key >> _BITS * place & int(_MASK)) for place in (2, 1, 0))


def _looked_up(keys: Keys, values: npt.NDArray[np.float64], wanted: Keys) -> npt.NDArray[np.float64]:
    """The value of each wanted key in sorted keys; 0 if it is not there."""
    if not len(keys):
        return np.zeros(len(wanted))
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0.0)
