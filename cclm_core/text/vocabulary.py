"""The vocabulary: text to ids and back, without loss.

A closed alphabet is fitted on the data; a character outside it becomes its UTF-8 bytes. So there is no unknown id, and
`decode(encode(x)) == x` for every valid Unicode string x. (With Unicode normalization, which is off by default,
`decode(encode(x)) == normalise(x)`.)

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

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.config import Config, digest
from cclm_core.runtime.errors import ArtifactError, ConfigError, DataError, IntegrityError
from cclm_core.text.alphabet import (
    CLS,
    END,
    FIRST_BYTE,
    FIRST_CHARACTER,
    MASK,
    MAX_CHARACTERS,
    NUM_SPECIAL,
    PAD,
    Alphabet,
    Ids,
)
from cclm_core.text.code_points import code_points, refuse_surrogates, refuse_surrogates_in, text_of
from cclm_core.text.normalization import Form, aligned, normalise
from cclm_core.text.texts import chunks, strings

__all__ = [
    "CLS",
    "END",
    "FIRST_BYTE",
    "FIRST_CHARACTER",
    "MASK",
    "MAX_CHARACTERS",
    "NUM_SPECIAL",
    "PAD",
    "Batch",
    "Ids",
    "Preprocessor",
    "Ragged",
    "TargetsConfig",
    "VocabularyConfig",
]

FORMAT = "cclm-preprocessor-1"


class TargetsConfig(Config):
    """The words or pieces of words that masked language modeling predicts; see `text.word_targets`.

    Attributes:
        kind: `words`, whole words; `bpe`, pieces of words found by byte-pair encoding.
        max_targets: the most targets, "other" included, at least 2.
        min_count: the least count of a word, or of a pair of pieces, in the texts, at least 1.
    """

    kind: Literal["words", "bpe"] = "words"
    max_targets: int = Field(default=20_000, ge=2)
    min_count: int = Field(default=2, ge=1)


class VocabularyConfig(Config):
    """Which characters get an id of their own, and how texts become rows of a batch.

    Attributes:
        min_count: the least count of a character in the texts, at least 1.
        max_characters: the largest size of the alphabet, at most 65,276 (ids have 16 bits).
        cls: whether `encode` puts the CLS id before every text.
        normalisation: NFC, NFD, NFKC or NFKD: the normal form of all texts; null leaves them as they are.
        max_length: the most ids in a row of a batch, a multiple of `downsample_factor`; null for no limit. A longer
            text is an error, or is cut if the caller asks for it.
        downsample_factor: the length of a batch is rounded up to a multiple of this, at least 1.
        words: targets for masked language modeling, fitted next to the alphabet; null for none.
    """

    min_count: int = Field(default=1, ge=1)
    max_characters: int = Field(default=1000, ge=0, le=MAX_CHARACTERS)
    cls: bool = False
    normalisation: Form | None = None
    max_length: int | None = Field(default=None, ge=1)
    downsample_factor: int = Field(default=1, ge=1)
    words: TargetsConfig | None = None

    @model_validator(mode="after")
    def _rows_can_be_filled(self) -> Self:
        if self.max_length is not None and self.max_length % self.downsample_factor:
            both = f"{self.max_length} and {self.downsample_factor}"
            raise ValueError(f"max_length must be a multiple of downsample_factor, got {both}")
        return self


class Ragged(NamedTuple):
    """The ids of several texts, concatenated.

    Attributes:
        ids: (N,) uint16, the ids of all texts.
        lengths: (B,) int64, the number of ids of each text; their sum is N.
        fallbacks: (B,) int64, the number of characters of each text that became bytes; at least 1 if normalization
            changed the text. So 0 means that the k-th character is the k-th id.
    """

    ids: Ids
    lengths: npt.NDArray[np.int64]
    fallbacks: npt.NDArray[np.int64]


class Batch(NamedTuple):
    """Texts as a padded array.

    Attributes:
        ids: (B, L) int64, padded with PAD on the right.
        lengths: (B,) int64, the number of ids of each row without padding.
        cut: (B,) int64, the number of characters cut from the end of each text; 0 without `truncate`.
    """

    ids: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    cut: npt.NDArray[np.int64]


class Preprocessor:
    """Maps text to ids and back; see the module for the ids."""

    def __init__(
        self, config: VocabularyConfig | None = None, alphabet: str = "", max_example_len: int | None = None
    ) -> None:
        """A vocabulary with a given alphabet; `fit` finds one in texts.

        Args:
            config: limits of the alphabet, the CLS flag, the normal form, the lengths of batches.
            alphabet: distinct characters; the k-th gets the id 260 + k.
            max_example_len: sets `config.max_length`, by its name in the original CCLM.

        Raises:
            ConfigError: `max_example_len` is below 1, or contradicts `config`.
            DataError: the alphabet repeats a character, has a lone surrogate, or is too large.
        """
        self.config = _limited(config or VocabularyConfig(), max_example_len)
        self.alphabet, self._codec = alphabet, Alphabet(alphabet)

    @property
    def num_ids(self) -> int:
        """Size of the vocabulary: 4 special ids, 256 bytes, the alphabet."""
        return self._codec.num_ids

    @property
    def n_chars(self) -> int:
        """`num_ids`, by its name in the original CCLM."""
        return self.num_ids

    @property
    def max_example_len(self) -> int | None:
        """`config.max_length`, by its name in the original CCLM: the most ids in a row; None for no limit."""
        return self.config.max_length

    @property
    def digest(self) -> str:
        """SHA-256 of everything that determines the ids of a text."""
        about: dict[str, Any] = {"format": FORMAT, "alphabet": self.alphabet, "cls": self.config.cls}
        if self.config.normalisation is not None:
            about["normalisation"] = self.config.normalisation
        return digest(about)

    def fit(self, texts: Any, column: str | None = None) -> Self:
        """Finds the alphabet: the most frequent characters, ties by code point. Replaces an earlier one.

        Args:
            texts: strings, read once as a stream; a `datasets.Dataset` or `IterableDataset`; for a published corpus,
                `corpus_texts(folder)` of `corpus.records`.
            column: the column of a dataset to read; None for the first with strings.

        Raises:
            DataError: not strings, or a lone surrogate (named with its position).
        """
        counts = np.zeros(0x110000, dtype=np.int64)
        for chunk in chunks(strings(texts, column)):
            refuse_surrogates_in(chunk)
            of_chunk = np.bincount(code_points("".join(self._normalised(chunk))))
            counts[: len(of_chunk)] += of_chunk
        points = np.flatnonzero(counts >= self.config.min_count)
        order = np.argsort(-counts[points], kind="stable")[: self.config.max_characters]
        self.alphabet = text_of(points[order].astype(np.uint32))
        self._codec = Alphabet(self.alphabet)
        return self

    def encode(self, text: str) -> Ids:
        """The ids of one text, (L,) uint16; L is its number of characters if all are in the alphabet.

        Raises:
            DataError: a lone surrogate, named with its position.
        """
        try:
            ids = self._codec.encode_text(normalise(text, self.config.normalisation)).ids
        except UnicodeEncodeError:
            refuse_surrogates(text)
            raise
        return np.concatenate([np.array([CLS], dtype=np.uint16), ids]) if self.config.cls else ids

    def string_to_array(self, text: str, length: int | None = None, truncate: bool = False) -> npt.NDArray[np.int64]:
        """The ids of one text, (L,) int64, padded with PAD.

        Args:
            text: any text.
            length: L; None for the number of ids, rounded up to a multiple of the downsample factor.
            truncate: whether a text that is too long is cut, between two characters (see `num_fitting`).

        Raises:
            DataError: a lone surrogate; a text that is too long, without `truncate`.

        >>> preprocessor = Preprocessor(alphabet="ab")
        >>> preprocessor.string_to_array("ab", 3).tolist()
        [260, 261, 0]
        >>> preprocessor.string_to_array("abé", 3, truncate=True).tolist()
        [260, 261, 0]
        """
        ids = self.encode(text)
        limit = self.config.max_length if length is None else length
        if limit is not None and len(ids) > limit:
            if not truncate:
                raise DataError(_too_long("text", len(ids), limit))
            ids = ids[: self._fitting(text, limit)[0]]
        padded = np.full(self._rounded(len(ids)) if length is None else length, PAD, dtype=np.int64)
        padded[: len(ids)] = ids
        return padded

    def num_fitting(self, text: str, length: int) -> int:
        """The number of characters of `text` that fit completely into `length` ids, CLS included.

        Raises:
            DataError: a lone surrogate, named with its position.

        >>> Preprocessor(alphabet="ab").num_fitting("aéb", 2)
        1
        """
        return self._fitting(text, length)[1]

    def encode_ragged(self, texts: Sequence[str]) -> Ragged:
        """The ids of many texts, concatenated, at the speed of one long text.

        Raises:
            DataError: a lone surrogate, named with its text and position.
        """
        normal = self._normalised(texts)
        lengths = np.fromiter(map(len, normal), dtype=np.int64, count=len(texts))
        try:
            ids, lost, widths = self._codec.encode(normal, lengths)
        except UnicodeEncodeError:
            refuse_surrogates_in(texts)
            raise
        owners = np.searchsorted(np.cumsum(lengths), lost, side="right")
        fallbacks = np.bincount(owners, minlength=len(texts))
        if normal is not texts:
            fallbacks = np.maximum(fallbacks, [one != other for one, other in zip(normal, texts, strict=True)])
        lengths = lengths + np.bincount(owners, weights=widths - 1, minlength=len(texts)).astype(np.int64)
        if self.config.cls:
            ids = np.insert(ids, np.cumsum(lengths) - lengths, CLS)
            lengths = lengths + 1
        return Ragged(ids, lengths, fallbacks)

    def encode_batch(self, texts: Sequence[str], truncate: bool = False) -> Batch:
        """The ids of many texts as one padded array.

        Args:
            texts: any number; L is the length of the longest, rounded up to a multiple of the downsample factor.
            truncate: whether texts with more ids than the configured `max_length` are cut, between two characters.

        Raises:
            DataError: a lone surrogate, named with its text and position; a text that is too long, without `truncate`.
        """
        ids, lengths, _ = self.encode_ragged(texts)
        kept, cut, limit = lengths, np.zeros_like(lengths), self.config.max_length
        if truncate and limit is None:
            raise DataError("`truncate` needs a length to cut to: configure `max_length`, or set `truncate=False`.")
        if limit is not None and lengths.max(initial=0) > limit:
            kept = lengths.copy()
            for index in np.flatnonzero(lengths > limit).tolist():
                if not truncate:
                    raise DataError(_too_long(f"text {index}", int(lengths[index]), limit))
                kept[index], characters = self._fitting(texts[index], limit)
                cut[index] = len(texts[index]) - characters
            within = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            ids = ids[within < np.repeat(kept, lengths)]
        padded = np.full((len(texts), self._rounded(int(kept.max(initial=0)))), PAD, dtype=np.int64)
        padded[np.arange(padded.shape[1]) < kept[:, None]] = ids
        return Batch(padded, kept, cut)

    def offsets(self, text: str) -> npt.NDArray[np.int32]:
        """(L,) int32, not decreasing: for each id of `encode(text)` the index of its character in `text`; -1 for CLS.

        >>> Preprocessor(alphabet="b").offsets("éb").tolist()
        [0, 0, 1]
        """
        normal, starts = aligned(text, self.config.normalisation)
        _, lost, widths = self._codec.encode_text(normal)
        indices = starts[:-1]
        if len(lost):
            widths_of_all = np.ones(len(normal), dtype=np.int64)
            widths_of_all[lost] = widths
            indices = np.repeat(indices, widths_of_all)
        return np.concatenate([np.array([-1], dtype=np.int32), indices]) if self.config.cls else indices

    def decode(self, ids: Sequence[int] | npt.NDArray[Any]) -> str:
        """The text of ids (L,), without special ids; bytes that are not UTF-8, as a model may predict, become U+FFFD.

        Raises:
            DataError: an id that is not an integer, or is outside the vocabulary.
        """
        given = np.asarray(ids).reshape(-1)
        if len(given) and given.dtype.kind not in "iu":
            raise DataError(f"ids must be integers, got {given.dtype}.")
        array = given.astype(np.int64)
        if len(array) and (array.min() < 0 or array.max() >= self.num_ids):
            wrong = array[(array < 0) | (array >= self.num_ids)][0]
            raise DataError(
                f"ids must be between 0 and {self.num_ids - 1}, got {wrong}; were they made with another vocabulary?"
            )
        return self._codec.decode(array)

    def decode_batch(self, ids: npt.NDArray[Any]) -> list[str]:
        """The texts of ids (B, L), without padding."""
        return [self.decode(row) for row in ids]

    def save(self, path: Path) -> None:
        """Writes the vocabulary, with all settings, as JSON, atomically."""
        content = {"format": FORMAT, "config": self.config.canonical(), "alphabet": self.alphabet}
        write_json(path, {**content, "digest": self.digest})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote.

        Raises:
            ArtifactError: the file is missing, is not JSON, or is not a vocabulary.
            IntegrityError: the alphabet is not the one that was saved.
        """
        content = read_json(path)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ArtifactError(f"{path} must be a vocabulary ({FORMAT}).")
        missing = {"config", "alphabet", "digest"} - content.keys()
        if missing or not isinstance(content["alphabet"], str) or not isinstance(content["config"], dict):
            raise ArtifactError(f"{path} must have config, alphabet and digest; it is damaged. Create it again.")
        config = VocabularyConfig.parse(content["config"], f"{path}: config")
        try:
            preprocessor = cls(config, content["alphabet"])
        except DataError as error:
            raise ArtifactError(f"{path} is damaged: {error} Create it again.") from None
        if preprocessor.digest != content["digest"]:
            raise IntegrityError(f"{path} was altered: its alphabet does not match its digest. Create it again.")
        return preprocessor

    def _normalised(self, texts: Sequence[str]) -> Sequence[str]:
        """Texts in the configured normal form, each on its own: the end of one must not combine with the next."""
        form = self.config.normalisation
        if form is None:
            return texts
        refuse_surrogates_in(texts)
        return [normalise(text, form) for text in texts]

    def _fitting(self, text: str, length: int) -> tuple[int, int]:
        """The numbers of ids and of characters of `text` that fit into `length` ids."""
        offsets = self.offsets(text)
        if len(offsets) <= length:
            return len(offsets), len(text)
        first_lost = int(offsets[length])
        return int(np.searchsorted(offsets, first_lost)), max(0, first_lost)

    def _rounded(self, length: int) -> int:
        factor = self.config.downsample_factor
        return -(-length // factor) * factor


def _limited(config: VocabularyConfig, max_example_len: int | None) -> VocabularyConfig:
    if max_example_len is None or max_example_len == config.max_length:
        return config
    if config.max_length is not None:
        raise ConfigError(f"max_example_len {max_example_len} contradicts max_length {config.max_length}; give one.")
    return VocabularyConfig.parse(config.canonical() | {"max_length": max_example_len}, "Preprocessor")


def _too_long(name: str, length: int, limit: int) -> str:
    return f"{name} must have at most {limit} ids, got {length}; shorten it, or set `truncate=True`."
