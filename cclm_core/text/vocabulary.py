"""The vocabulary: text to ids and back, without loss.

A closed alphabet is fitted on the data; a character outside it becomes its UTF-8 bytes. So there is no
unknown id, and `decode(encode(x)) == x` for every string x that Unicode allows.

```
0 PAD   1 MASK   2 CLS   3 END   4..259 the bytes 0..255   260.. the alphabet, most frequent first
```

>>> preprocessor = Preprocessor().fit(["banana"])
>>> preprocessor.alphabet
'anb'
>>> preprocessor.encode("bé").tolist()
[262, 199, 173]
>>> preprocessor.decode([262, 199, 173])
'bé'
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cclm_core.artifacts import read_json, write_json
from cclm_core.config import Config, digest
from cclm_core.errors import ArtifactError, DataError, IntegrityError

PAD, MASK, CLS, END = 0, 1, 2, 3
NUM_SPECIAL = 4
FIRST_BYTE = NUM_SPECIAL
FIRST_CHARACTER = FIRST_BYTE + 256
MAX_CHARACTERS = 2**16 - FIRST_CHARACTER  # ids are stored as uint16

FORMAT = "cclm-preprocessor-1"
_CHUNK = 1 << 20  # characters counted at once: large enough for NumPy, small beside the count table

Ids = npt.NDArray[np.uint16]


class VocabularyConfig(Config):
    """Which characters get an id of their own.

    Attributes:
        min_count: how often a character must occur in the texts, at least 1.
        max_characters: size of the alphabet, at most 65,276 (ids are 16 bits wide).
        cls: whether `encode` puts the CLS id before every text.
    """

    min_count: int = Field(default=1, ge=1)
    max_characters: int = Field(default=1000, ge=0, le=MAX_CHARACTERS)
    cls: bool = False


class Ragged(NamedTuple):
    """Texts as ids one after the other.

    Attributes:
        ids: (N,) uint16, the ids of all texts.
        lengths: (B,) int64, how many ids each text has; they sum to N.
        fallbacks: (B,) int64, how many characters of each text became bytes.
    """

    ids: Ids
    lengths: npt.NDArray[np.int64]
    fallbacks: npt.NDArray[np.int64]


class Batch(NamedTuple):
    """Texts as a padded array: ids (B, L) int64, padded with PAD on the right; lengths (B,) int64."""

    ids: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]


class Preprocessor:
    """Maps text to ids and back; see the module for the ids."""

    def __init__(self, config: VocabularyConfig | None = None, alphabet: str = "") -> None:
        """A vocabulary with a given alphabet; `fit` finds one in texts.

        Args:
            config: limits of the alphabet and the CLS flag.
            alphabet: distinct characters; the k-th gets the id 260 + k.

        Raises:
            DataError: a character stands twice, is a lone surrogate, or there are too many.
        """
        self.config = config or VocabularyConfig()
        self._set(alphabet)

    def _set(self, alphabet: str) -> None:
        points = _code_points(alphabet)
        if len(points) > MAX_CHARACTERS:
            raise DataError(f"an alphabet must have at most {MAX_CHARACTERS} characters, got {len(points)}.")
        if len(np.unique(points)) < len(points):
            twice = next(character for character in alphabet if alphabet.count(character) > 1)
            raise DataError(f"the characters of an alphabet must be distinct, but {twice!r} stands in it twice.")
        self.alphabet = alphabet
        self._points = points
        # One entry beyond the highest character: what lies above is clipped to it, and 0 means "not in the alphabet".
        self._table = np.zeros(int(points.max(initial=0)) + 2, dtype=np.uint16)
        self._table[points] = np.arange(FIRST_CHARACTER, FIRST_CHARACTER + len(points), dtype=np.uint16)

    @property
    def num_ids(self) -> int:
        """Size of the vocabulary: 4 special ids, 256 bytes, the alphabet."""
        return FIRST_CHARACTER + len(self.alphabet)

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides which ids a text gets."""
        return digest({"format": FORMAT, "alphabet": self.alphabet, "cls": self.config.cls})

    def fit(self, texts: Any, column: str | None = None) -> Self:
        """Finds the alphabet: the most frequent characters, ties by code point. Replaces an earlier one.

        Args:
            texts: strings, read once in a stream, or a `datasets.Dataset`.
            column: which column of a dataset to read; the first that holds strings, if None.

        Raises:
            DataError: something else than strings was given, or a lone surrogate (named with its position).
        """
        counts = np.zeros(0x110000, dtype=np.int64)
        for chunk in _chunks(_strings(texts, column)):
            found = np.bincount(_joined_points(chunk))
            counts[: len(found)] += found
        points = np.flatnonzero(counts >= self.config.min_count)
        order = np.argsort(-counts[points], kind="stable")[: self.config.max_characters]
        self._set(points[order].astype("<u4").tobytes().decode("utf-32-le"))
        return self

    def encode(self, text: str) -> Ids:
        """The ids of one text, (L,) uint16; L is its number of characters where all are in the alphabet.

        Raises:
            DataError: a lone surrogate, named with its position.
        """
        ids = self._ids(_code_points(text)).ids
        return np.concatenate([np.array([CLS], dtype=np.uint16), ids]) if self.config.cls else ids

    def string_to_array(self, text: str, length: int | None = None) -> npt.NDArray[np.int64]:
        """The ids of one text, (L,) int64, padded with PAD or cut to `length` if that is given.

        A text is cut between two characters, never inside the bytes of one.

        >>> Preprocessor(alphabet="ab").string_to_array("abé", 3).tolist()
        [260, 261, 0]
        """
        ids = self.encode(text).astype(np.int64)
        if length is None:
            return ids
        padded = np.full(length, PAD, dtype=np.int64)
        kept = min(length, len(ids))
        if kept < len(ids):
            kept = int(np.searchsorted(self.offsets(text), self.offsets(text)[kept]))
        padded[:kept] = ids[:kept]
        return padded

    def encode_ragged(self, texts: Sequence[str]) -> Ragged:
        """The ids of many texts, one after the other, at the speed of one long text.

        Raises:
            DataError: a lone surrogate, named with its text and position.
        """
        characters = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        points = _joined_points(texts)
        ids, widths = self._ids(points)
        lengths, fallbacks = characters, np.zeros_like(characters)
        if widths is not None:
            ends = np.cumsum(characters)
            lengths = _sums(widths, ends)
            fallbacks = _sums((np.take(self._table, points, mode="clip") == 0).astype(np.int64), ends)
        if self.config.cls:
            ids = np.insert(ids, np.cumsum(lengths) - lengths, CLS)
            lengths = lengths + 1
        return Ragged(ids, lengths, fallbacks)

    def encode_batch(self, texts: Sequence[str]) -> Batch:
        """The ids of many texts as one padded array; L is the length of the longest.

        Raises:
            DataError: a lone surrogate, named with its text and position.
        """
        ids, lengths, _ = self.encode_ragged(texts)
        padded = np.full((len(texts), int(lengths.max(initial=0))), PAD, dtype=np.int64)
        padded[np.arange(padded.shape[1]) < lengths[:, None]] = ids
        return Batch(padded, lengths)

    def offsets(self, text: str) -> npt.NDArray[np.int32]:
        """(L,) int32: of each id of `encode(text)`, the index of its character in `text`; -1 for CLS.

        >>> Preprocessor(alphabet="b").offsets("éb").tolist()
        [0, 0, 1]
        """
        points = _code_points(text)
        widths = self._ids(points).widths
        indices = np.arange(len(points), dtype=np.int32)
        if widths is not None:
            indices = np.repeat(indices, widths)
        return np.concatenate([np.array([-1], dtype=np.int32), indices]) if self.config.cls else indices

    def decode(self, ids: Sequence[int] | npt.NDArray[Any]) -> str:
        """The text of ids (L,). Special ids are left out.

        What `encode` made comes back as it was. Bytes that are no UTF-8, as a model may predict them,
        become U+FFFD.

        Raises:
            DataError: an id outside the vocabulary.
        """
        array = np.asarray(ids, dtype=np.int64).reshape(-1)
        if len(array) and (array.min() < 0 or array.max() >= self.num_ids):
            wrong = array[(array < 0) | (array >= self.num_ids)][0]
            raise DataError(f"ids must be between 0 and {self.num_ids - 1}, got {wrong}; another vocabulary made them?")
        array = array[array >= NUM_SPECIAL]
        is_byte = array < FIRST_CHARACTER
        if not is_byte.any():
            return _text(self._points[array - FIRST_CHARACTER])
        edges = np.flatnonzero(np.diff(is_byte)) + 1
        runs = np.split(array, edges)
        return "".join(self._decode_run(run) for run in runs)

    def decode_batch(self, ids: npt.NDArray[Any]) -> list[str]:
        """The texts of ids (B, L), padding left out."""
        return [self.decode(row) for row in ids]

    def save(self, path: Path) -> None:
        """Writes the vocabulary as JSON, atomically."""
        content = {"format": FORMAT, "config": self.config.canonical(), "alphabet": self.alphabet}
        write_json(path, {**content, "digest": self.digest})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote.

        Raises:
            ArtifactError: the file is missing, no JSON, or no vocabulary.
            IntegrityError: the alphabet is not the one that was saved.
        """
        content = read_json(path)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ArtifactError(f"{path} must hold a vocabulary ({FORMAT}), but it holds something else.")
        missing = {"config", "alphabet", "digest"} - content.keys()
        if missing or not isinstance(content["alphabet"], str) or not isinstance(content["config"], dict):
            raise ArtifactError(f"{path} must hold config, alphabet and digest; it is damaged. Make it anew.")
        config = VocabularyConfig.parse(content["config"], f"{path}: config")
        try:
            preprocessor = cls(config, content["alphabet"])
        except DataError as error:
            raise ArtifactError(f"{path} is damaged: {error} Make it anew.") from None
        if preprocessor.digest != content["digest"]:
            raise IntegrityError(f"{path} was altered: its alphabet does not match its digest. Make it anew.")
        return preprocessor

    def _ids(self, points: npt.NDArray[np.uint32]) -> "_Encoded":
        ids = np.take(self._table, points, mode="clip")
        known = ids != 0
        if known.all():
            return _Encoded(ids, None)
        lost = points[~known]
        widths = np.ones(len(points), dtype=np.int64)
        widths[~known] += (lost >= 0x80).astype(np.int64) + (lost >= 0x800) + (lost >= 0x10000)
        is_character = np.repeat(known, widths)
        wide = np.empty(len(is_character), dtype=np.uint16)
        wide[is_character] = ids[known]
        wide[~is_character] = np.frombuffer(_text(lost).encode(), dtype=np.uint8).astype(np.uint16) + FIRST_BYTE
        return _Encoded(wide, widths)

    def _decode_run(self, run: npt.NDArray[np.int64]) -> str:
        if not len(run):
            return ""
        if run[0] >= FIRST_CHARACTER:
            return _text(self._points[run - FIRST_CHARACTER])
        return (run - FIRST_BYTE).astype(np.uint8).tobytes().decode("utf-8", errors="replace")


class _Encoded(NamedTuple):
    ids: Ids
    widths: npt.NDArray[np.int64] | None  # ids per character, where not all are 1


def _text(points: npt.NDArray[np.uint32]) -> str:
    return points.tobytes().decode("utf-32-le")


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    try:
        return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    except UnicodeEncodeError as error:
        raise DataError(_surrogate(text, error.start)) from None


def _joined_points(texts: Sequence[str]) -> npt.NDArray[np.uint32]:
    try:
        return np.frombuffer("".join(texts).encode("utf-32-le"), dtype="<u4")
    except UnicodeEncodeError:
        for index, text in enumerate(texts):
            try:
                _code_points(text)
            except DataError as error:
                raise DataError(f"text {index}: {error}") from None
        raise


def _surrogate(text: str, position: int) -> str:
    name = f"U+{ord(text[position]):04X}"
    return f"text must be valid Unicode, got the lone surrogate {name} at character {position}; remove or replace it."


def _sums(values: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Sums of consecutive parts of `values`, which end (exclusively) at `ends`; a part may be empty."""
    totals = np.concatenate([[0], np.cumsum(values)])[ends]
    return np.diff(totals, prepend=0)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= _CHUNK:
            yield chunk
            chunk, size = [], 0
    yield chunk


def _strings(texts: Any, column: str | None) -> Iterator[str]:
    """The strings of an iterable or of one column of a `datasets.Dataset`, checked one by one."""
    if isinstance(texts, str | bytes):
        raise DataError(f"texts must be an iterable of strings, got one {type(texts).__name__}; put it into a list.")
    for index, text in enumerate(_column(texts, column) if hasattr(texts, "column_names") else texts):
        if not isinstance(text, str):
            raise DataError(f"texts must be strings, but number {index} is {type(text).__name__}: {text!r:.80}")
        yield text


def _column(dataset: Any, column: str | None) -> Iterator[Any]:
    if isinstance(dataset, dict):
        raise DataError(f"texts must be one dataset, got several splits; choose one of {sorted(dataset)}.")
    features = dataset.features or {}
    strings = [name for name, kind in features.items() if getattr(kind, "dtype", None) in ("string", "large_string")]
    if column is None and not strings:
        raise DataError(f"the dataset must have a column of strings, got {sorted(features)}; name one with `column`.")
    chosen = column or strings[0]
    if features and chosen not in features:
        raise DataError(f"the dataset must have a column {chosen!r}, got {sorted(features)}.")
    for batch in dataset.iter(batch_size=1000):
        yield from batch[chosen]
