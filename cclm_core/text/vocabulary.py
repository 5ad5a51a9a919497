"""The vocabulary: text to ids and back, without loss.

`fit` finds a closed alphabet. Characters outside it become their UTF-8 bytes, so there is no unknown id and
`decode(encode(x)) == x` for every valid Unicode string x. With Unicode normalization (off by default),
`decode(encode(x)) == normalize(x)`.

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

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.config import digest
from cclm_core.runtime.errors import ArtifactError, DataError, IntegrityError
from cclm_core.runtime.files import StrPath, as_path
from cclm_core.runtime.migration import old_arguments, old_attribute
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
from cclm_core.text.arguments import (
    ARGUMENTS,
    ATTRIBUTES,
    FIT,
    TO_ARRAY,
    check_same,
    configured,
    file_in,
    file_to_load,
    refuse_old_file,
    too_long,
)
from cclm_core.text.batches import MAX_BATCH, Batch, Ragged, check_length
from cclm_core.text.code_points import code_points, refuse_surrogates, refuse_surrogates_in, text_of
from cclm_core.text.config import TargetsConfig, VocabularyConfig
from cclm_core.text.normalization import aligned, normalize
from cclm_core.text.texts import check_text, chunks, strings, text_list

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


class Preprocessor:
    """Maps text to ids and back; the module lists the ids.

    Attributes:
        config: the settings.
        alphabet: character k has the id 260 + k.
    """

    config: VocabularyConfig
    alphabet: str

    @old_arguments(hints=ARGUMENTS)
    def __init__(
        self,
        config: VocabularyConfig | Mapping[str, Any] | None = None,
        alphabet: str = "",
        max_example_len: int | None = None,
        load_from: StrPath | None = None,
        vocab_size: int | None = None,
        add_cls: bool | None = None,
        downsample_factor: int | None = None,
    ) -> None:
        """Creates a vocabulary from an alphabet or from a saved file. Without either, call `fit`.

        Args:
            config: limits of the alphabet, the CLS flag, the normal form, the lengths of batches; also as a mapping.
            alphabet: distinct characters; character k gets the id 260 + k.
            load_from: a file written by `save`, or its folder. Omit all others, or pass the saved values.
            max_example_len, vocab_size, add_cls, downsample_factor: names of the original CCLM for `config.max_length`,
                `config.words.max_targets`, `config.cls` and `config.downsample_factor`.

        Raises:
            ConfigError: an argument is out of range, or contradicts `config` or `load_from`.
            DataError: the alphabet repeats a character, contains a lone surrogate, or is too large.
            ArtifactError, IntegrityError: see `load`.
        """
        if load_from is not None:
            saved = self.load(load_from)
            check_same(saved.config, config, saved.alphabet, alphabet, load_from)
            config, alphabet = saved.config, saved.alphabet
        self.config = configured(config, max_example_len, vocab_size, add_cls, downsample_factor)
        self.alphabet = check_text(alphabet, "alphabet")
        self._codec = Alphabet(self.alphabet)

    def __repr__(self) -> str:
        return f"Preprocessor({len(self.alphabet)} characters, {self.num_ids} ids, max_length {self.config.max_length})"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Explains the attributes of cclm 0.1.2."""
            raise old_attribute(self, name, ATTRIBUTES)

    @property
    def num_ids(self) -> int:
        """Size of the vocabulary: 4 special ids, 256 bytes, the alphabet."""
        return self._codec.num_ids

    @property
    def n_chars(self) -> int:
        """`num_ids`; the name of the original CCLM."""
        return self.num_ids

    @property
    def max_example_len(self) -> int | None:
        """`config.max_length`, the maximum number of ids in a row; the name of the original CCLM."""
        return self.config.max_length

    @property
    def digest(self) -> str:
        """SHA-256 of everything that determines the ids of a text."""
        about: dict[str, Any] = {"format": FORMAT, "alphabet": self.alphabet, "cls": self.config.cls}
        if self.config.normalisation is not None:
            about["normalisation"] = self.config.normalisation
        return digest(about)

    @old_arguments(hints=FIT, aliases={"data": "texts"})
    def fit(self, texts: Any, column: str | None = None, min_char_count: int | None = None) -> Self:
        """Finds the alphabet: the most frequent characters, ties by code point. Replaces the current alphabet.

        Args:
            texts: strings, a `datasets.Dataset` or another table (see `text.texts`), read once as a stream. For a
                published corpus, pass `corpus_texts(folder)` of `corpus.records`.
            column: the column of a table; None selects `text`, otherwise the only column of strings.
            min_char_count: sets `config.min_count`; the name of the original CCLM.

        Raises:
            DataError: a text is not a string, or contains a lone surrogate (the message gives its position).
        """
        if min_char_count is not None:
            self.config = VocabularyConfig.parse(self.config.canonical() | {"min_count": min_char_count}, "fit")
        counts = np.zeros(0x110000, dtype=np.int64)
        for chunk in chunks(strings(texts, column)):
            refuse_surrogates_in(chunk)
            chunk_counts = np.bincount(code_points("".join(self._normalized(chunk))))
            counts[: len(chunk_counts)] += chunk_counts
        points = np.flatnonzero(counts >= self.config.min_count)
        order = np.argsort(-counts[points], kind="stable")[: self.config.max_characters]
        self.alphabet = text_of(points[order].astype(np.uint32))
        self._codec = Alphabet(self.alphabet)
        return self

    def encode(self, text: str) -> Ids:
        """The ids of one text, (L,) uint16; L is the number of characters if all are in the alphabet.

        Raises:
            DataError: not a string, or a lone surrogate; the message gives its position.
        """
        text = check_text(text)
        try:
            ids = self._codec.encode_text(normalize(text, self.config.normalisation)).ids
        except UnicodeEncodeError:
            refuse_surrogates(text)
            raise
        return np.concatenate([np.array([CLS], dtype=np.uint16), ids]) if self.config.cls else ids

    @old_arguments(hints=TO_ARRAY, aliases={"string_in": "text"})
    def string_to_array(self, text: str, length: int | None = None, truncate: bool = False) -> npt.NDArray[np.int64]:
        """The ids of one text, (L,) int64, padded with PAD.

        Args:
            text: any text.
            length: L; None for the number of ids, rounded up to a multiple of the downsample factor.
            truncate: whether to cut a text that is too long, between two characters (see `num_fitting`).

        Raises:
            DataError: a lone surrogate, or a text that is too long without `truncate`.

        >>> preprocessor = Preprocessor(alphabet="ab")
        >>> preprocessor.string_to_array("ab", 3).tolist()
        [260, 261, 0]
        >>> preprocessor.string_to_array("abé", 3, truncate=True).tolist()
        [260, 261, 0]
        """
        ids = self.encode(text)
        limit = self.config.max_length if length is None else check_length(length)
        if limit is not None and len(ids) > limit:
            if not truncate:
                raise DataError(too_long("text", len(ids), limit))
            ids = ids[: self._fitting(text, limit)[0]]
        padded = np.full(self._rounded(len(ids)) if length is None else length, PAD, dtype=np.int64)
        padded[: len(ids)] = ids
        return padded

    def num_fitting(self, text: str, length: int) -> int:
        """The number of whole characters of `text` that fit into `length` ids, CLS included.

        Raises:
            DataError: a lone surrogate; the message gives its position.

        >>> Preprocessor(alphabet="ab").num_fitting("aéb", 2)
        1
        """
        return self._fitting(text, check_length(length))[1]

    def encode_ragged(self, texts: Iterable[str]) -> Ragged:
        """The ids of many texts, concatenated; as fast as encoding one long text.

        Args:
            texts: B texts, as for `fit`.

        Raises:
            DataError: a text is not a string, or contains a lone surrogate; the message gives its text and position.
        """
        texts = text_list(texts)
        normal = self._normalized(texts)
        lengths = np.fromiter(map(len, normal), dtype=np.int64, count=len(texts))
        try:
            ids, unknown, widths = self._codec.encode(normal, lengths)
        except UnicodeEncodeError:
            refuse_surrogates_in(texts)
            raise
        owners = np.searchsorted(np.cumsum(lengths), unknown, side="right")
        fallbacks = np.bincount(owners, minlength=len(texts))
        if normal is not texts:
            fallbacks = np.maximum(fallbacks, [text != before for text, before in zip(normal, texts, strict=True)])
        lengths = lengths + np.bincount(owners, weights=widths - 1, minlength=len(texts)).astype(np.int64)
        if self.config.cls:
            ids = np.insert(ids, np.cumsum(lengths) - lengths, CLS)
            lengths = lengths + 1
        return Ragged(ids, lengths, fallbacks)

    def encode_batch(self, texts: Iterable[str], truncate: bool = False) -> Batch:
        """The ids of many texts as one padded array.

        Args:
            texts: B texts, as for `fit`. L is the length of the longest, rounded up to a multiple of the downsample
                factor.
            truncate: whether to cut texts with more than `max_length` ids, between two characters.

        Raises:
            DataError: a text is not a string, contains a lone surrogate, or is too long without `truncate`; the message
                gives the text.
        """
        texts = text_list(texts)
        ids, lengths, _ = self.encode_ragged(texts)
        kept, cut, limit = lengths, np.zeros_like(lengths), self.config.max_length
        if truncate and limit is None:
            raise DataError("`truncate=True` needs a maximum length. Configure `max_length`, or set `truncate=False`.")
        if limit is not None and lengths.max(initial=0) > limit:
            kept = lengths.copy()
            for index in np.flatnonzero(lengths > limit).tolist():
                if not truncate:
                    raise DataError(too_long(f"text {index}", int(lengths[index]), limit))
                kept[index], characters = self._fitting(texts[index], limit)
                cut[index] = len(texts[index]) - characters
            within = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            ids = ids[within < np.repeat(kept, lengths)]
        width = self._rounded(int(kept.max(initial=0)))
        if len(texts) * width > MAX_BATCH:
            raise DataError(f"a batch must have at most {MAX_BATCH:,} ids, got {len(texts):,} x {width:,}. Divide it.")
        padded = np.full((len(texts), width), PAD, dtype=np.int64)
        padded[np.arange(padded.shape[1]) < kept[:, None]] = ids
        return Batch(padded, kept, cut)

    def offsets(self, text: str) -> npt.NDArray[np.int32]:
        """For each id of `encode(text)`, the index of its character in `text`: (L,) int32, nondecreasing; -1 for CLS.

        >>> Preprocessor(alphabet="b").offsets("éb").tolist()
        [0, 0, 1]
        """
        normal, starts = aligned(check_text(text), self.config.normalisation)
        _, unknown, widths = self._codec.encode_text(normal)
        indices = starts[:-1]
        if len(unknown):
            repeats = np.ones(len(normal), dtype=np.int64)
            repeats[unknown] = widths
            indices = np.repeat(indices, repeats)
        return np.concatenate([np.array([-1], dtype=np.int32), indices]) if self.config.cls else indices

    def decode(self, ids: Sequence[int] | npt.NDArray[Any]) -> str:
        """The text of ids (L,). Special ids are skipped; invalid UTF-8, which a model can predict, becomes U+FFFD.

        Raises:
            DataError: an id is not an integer, or is outside the vocabulary.
        """
        try:
            array = np.asarray(ids).reshape(-1)
        except ValueError:  # lists of different lengths
            raise DataError("ids must be integers, got lists of different lengths. Use `decode_batch`.") from None
        if len(array) and array.dtype.kind not in "iu":
            raise DataError(f"ids must be integers, got {array.dtype}. Convert them.")
        array = array.astype(np.int64)
        if len(array) and (array.min() < 0 or array.max() >= self.num_ids):
            wrong = array[(array < 0) | (array >= self.num_ids)][0]
            raise DataError(
                f"ids must be between 0 and {self.num_ids - 1}, got {wrong}. Use the vocabulary that encoded them."
            )
        return self._codec.decode(array)

    def decode_batch(self, ids: npt.NDArray[Any]) -> list[str]:
        """The texts of ids (B, L), without padding."""
        return [self.decode(row) for row in ids]

    def save(self, path: StrPath) -> None:
        """Writes the alphabet and all settings as JSON, atomically. In a folder, the file is `preprocessor.json`."""
        content = {"format": FORMAT, "config": self.config.canonical(), "alphabet": self.alphabet}
        write_json(file_in(as_path(path)), {**content, "digest": self.digest})

    @classmethod
    def load(cls, path: StrPath) -> Self:
        """Reads a file written by `save`, or `preprocessor.json` in a folder.

        Raises:
            ArtifactError, IntegrityError: the file is missing, is not a vocabulary, or does not match its digest.
        """
        path = file_to_load(as_path(path))
        content = read_json(path)
        refuse_old_file(content, path)
        if content.get("format") != FORMAT:
            raise ArtifactError(f"{path} is not a vocabulary ({FORMAT}). Pass a file written by `Preprocessor.save`.")
        missing = {"config", "alphabet", "digest"} - content.keys()
        if missing or not isinstance(content["alphabet"], str) or not isinstance(content["config"], dict):
            raise ArtifactError(f"{path} is damaged: it must have config, alphabet and digest. Create it again.")
        config = VocabularyConfig.parse(content["config"], f"{path}: config")
        try:
            preprocessor = cls(config, content["alphabet"])
        except DataError as error:
            raise ArtifactError(f"{path} is damaged: {error} Create it again.") from None
        if preprocessor.digest != content["digest"]:
            raise IntegrityError(f"{path} was altered: its alphabet does not match its digest. Create it again.")
        return preprocessor

    def _normalized(self, texts: Sequence[str]) -> Sequence[str]:
        """Normalizes each text on its own, so that the end of one does not combine with the next."""
        form = self.config.normalisation
        if form is None:
            return texts
        refuse_surrogates_in(texts)
        return [normalize(text, form) for text in texts]

    def _fitting(self, text: str, length: int) -> tuple[int, int]:
        """The number of ids and the number of characters of `text` that fit into `length` ids."""
        offsets = self.offsets(text)
        if len(offsets) <= length:
            return len(offsets), len(text)
        first_cut = int(offsets[length])
        return int(np.searchsorted(offsets, first_cut)), max(0, first_cut)

    def _rounded(self, length: int) -> int:
        factor = self.config.downsample_factor
        return -(-length // factor) * factor
