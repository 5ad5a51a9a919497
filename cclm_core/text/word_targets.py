"""Words, or pieces of words, as targets of masked language modeling. They are predicted, never an input.

A model reads characters, but it can be trained to predict the whole word at masked characters. `WordTargets` finds the
targets of a text and their positions. Target 0 is "other", a word outside the fitted targets.

A word is a run of letters, marks, digits and underscores, with apostrophes inside: `don't`, `naïve`, `1623`.

>>> texts = ["the cat and the dog", "the end"]
>>> targets = WordTargets.fit(texts, TargetsConfig(max_targets=3, min_count=1), Preprocessor().fit(texts))
>>> targets.names
['[OTHER]', 'the', 'and']
>>> words = targets.encode("the hat and ...")
>>> words.ids.tolist(), words.starts.tolist(), words.ends.tolist()
([1, 0, 2], [0, 4, 8], [3, 7, 11])
"""

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.config import digest
from cclm_core.runtime.errors import ArtifactError, ConfigError, IntegrityError
from cclm_core.text.code_points import refuse_surrogates
from cclm_core.text.config import TargetsConfig
from cclm_core.text.normalization import Form, aligned, normalize
from cclm_core.text.texts import chunks, strings
from cclm_core.text.vocabulary import Preprocessor
from cclm_core.text.words import RUN, with_apostrophes

FORMAT = "cclm-word-targets-1"
FILE = "targets.json"
OTHER = 0

_ABOUT = ("normalisation", "tokenizer", "counts")  # the keys of a file that its digest covers
Counts = npt.NDArray[np.int64]

_OTHER = "[OTHER]"  # not a word, because of the brackets
_WORD = with_apostrophes(RUN)  # with digits and underscores, unlike `words.WORD`: any masked run can be a target


class Targets(NamedTuple):
    """The targets of one text, from left to right; they are not empty and do not overlap.

    Attributes:
        ids: (T,) int64, from 0 (other) to `num_targets` - 1.
        starts, ends: (T,) int32, the range of characters of each target, end excluded.
    """

    ids: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]


class WordTargets:
    """Finds the targets of a text; the module has an example."""

    def __init__(
        self, config: TargetsConfig, normalisation: Form | None, tokenizer: Any, counts: Counts | None = None
    ) -> None:
        """Stores the parts. Call `fit` or `load` instead.

        Args:
            config: kind and maximum number of targets.
            normalisation: the normal form of the preprocessor.
            tokenizer: a `tokenizers.Tokenizer` whose token 0 is `[OTHER]`.
            counts: (num_targets,) int64, the number of occurrences of each target; None if not counted.
        """
        self.config = config
        self.normalisation = normalisation
        self.counts = counts
        self._tokenizer = tokenizer

    @classmethod
    def fit(cls, texts: Any, config: TargetsConfig, preprocessor: Preprocessor, column: str | None = None) -> Self:
        """Finds the targets: the most frequent words, ties by code point, or the pieces of byte-pair encoding.

        The result does not depend on the order of the texts or on the number of threads.

        Args:
            texts: as for `Preprocessor.fit`; read once, as a stream. Memory grows with the number of distinct words.
            config: kind and maximum number of targets.
            preprocessor: provides the normal form and, for `bpe`, the initial alphabet.
            column: as for `Preprocessor.fit`.

        Raises:
            ConfigError: `max_targets` is too small for the alphabet, for `bpe`.
            DataError: a text is not a string, or contains a lone surrogate (the message gives its position).
        """
        form = preprocessor.config.normalisation
        if config.kind == "bpe" and config.max_targets <= len(preprocessor.alphabet):
            raise ConfigError(
                f"words.max_targets must be more than the {len(preprocessor.alphabet)} characters of the alphabet for "
                f"kind bpe, got {config.max_targets}. Raise it, or lower max_characters."
            )
        learner = _tokenizer(config)
        stream = (_encodable(normalize(text, form)) for text in strings(texts, column))
        learner.train_from_iterator(stream, _trainer(config, preprocessor.alphabet))
        # Training makes [OTHER] a special token, which would match inside texts. A new tokenizer has none.
        fitted = _tokenizer(config)
        fitted.model = learner.model
        return cls(config, form, fitted)

    @property
    def num_targets(self) -> int:
        """The number of targets, "other" included."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def names(self) -> list[str]:
        """The word or piece of each target, in the order of the ids."""
        return [str(self._tokenizer.id_to_token(target)) for target in range(self.num_targets)]

    @property
    def digest(self) -> str:
        """SHA-256 of everything that determines the targets of a text, and of the counts."""
        return digest({"format": FORMAT, **self._about()})

    def with_counts(self, texts: Any, column: str | None = None) -> Self:
        """The same targets with their number of occurrences in `texts`, which losses that sample targets need.

        Args:
            texts: as for `Preprocessor.fit`; read once, as a stream.
            column: as for `Preprocessor.fit`.

        Raises:
            DataError: a text is not a string, or contains a lone surrogate (the message gives its position).

        >>> targets = WordTargets.fit(["a b a"], TargetsConfig(max_targets=2, min_count=1), Preprocessor().fit(["ab"]))
        >>> dict(zip(targets.names, targets.with_counts(["a b a", "c a"]).counts.tolist()))
        {'[OTHER]': 2, 'a': 3}
        """
        counts = np.zeros(self.num_targets, dtype=np.int64)
        for chunk in chunks(strings(texts, column)):
            normal = [_encodable(normalize(text, self.normalisation)) for text in chunk]
            encodings = self._tokenizer.encode_batch(normal, add_special_tokens=False)
            ids = np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), dtype=np.int64)
            counts += np.bincount(ids, minlength=len(counts))
        return type(self)(self.config, self.normalisation, self._tokenizer, counts)

    def encode(self, text: str) -> Targets:
        """The targets of a text.

        Raises:
            DataError: a lone surrogate; the message gives its position.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[Targets]:
        """The targets of several texts.

        Raises:
            DataError: a lone surrogate; the message gives its position.
        """
        normal = [aligned(text, self.normalisation) for text in texts]
        encodings = self._tokenizer.encode_batch([text for text, _ in normal], add_special_tokens=False)
        result = []
        for encoding, (_, origins) in zip(encodings, normal, strict=True):
            starts, ends = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2).T
            # Drop targets that start or end inside an original character, such as "1" in "½", normalized to "1/2".
            is_boundary = np.diff(origins, prepend=-1) > 0
            is_whole = is_boundary[starts] & is_boundary[ends]
            ids = np.array(encoding.ids, dtype=np.int64)
            result.append(Targets(ids[is_whole], origins[starts[is_whole]], origins[ends[is_whole]]))
        return result

    def save(self, path: Path) -> None:
        """Writes the targets as JSON, atomically."""
        write_json(path, {"format": FORMAT, "config": self.config.canonical(), **self._about(), "digest": self.digest})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a file written by `save`.

        Raises:
            ArtifactError: the file is missing, is not JSON, or does not contain word targets.
            IntegrityError: the targets do not match their digest.
        """
        content = read_json(path)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ArtifactError(f"{path} does not contain word targets ({FORMAT}). Run the stage `vocab`.")
        if {"config", "normalisation", "tokenizer", "digest"} - content.keys():
            raise ArtifactError(
                f"{path} is damaged: it must have config, normalisation, tokenizer and digest. Run the stage `vocab`."
            )
        about = {name: content[name] for name in ("format", *_ABOUT) if name in content}
        if digest(about) != content["digest"]:
            raise IntegrityError(f"{path} was altered: its content does not match its digest. Run the stage `vocab`.")
        config = TargetsConfig.parse(content["config"], f"{path}: config")
        tokenizer = Tokenizer.from_str(json.dumps(content["tokenizer"]))
        counts = np.array(content["counts"], dtype=np.int64) if "counts" in content else None
        return cls(config, content["normalisation"], tokenizer, counts)

    def _about(self) -> dict[str, Any]:
        about = {"normalisation": self.normalisation, "tokenizer": json.loads(self._tokenizer.to_str())}
        return about if self.counts is None else about | {"counts": self.counts.tolist()}


def read_targets(encoded: Path) -> WordTargets | None:
    """The word targets of an encoded corpus; None if its vocabulary was configured without targets.

    Raises:
        ArtifactError, IntegrityError: see `WordTargets.load`.
    """
    return WordTargets.load(encoded / FILE) if (encoded / FILE).exists() else None


def id_spans(targets: Targets, offsets: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """The range of ids of each target, end excluded, (T, 2) int64.

    Args:
        targets: the targets of a text.
        offsets: (L,) int32, `Preprocessor.offsets` of the same text.

    >>> targets = Targets(np.array([7]), np.array([1]), np.array([2]))
    >>> id_spans(targets, Preprocessor(alphabet="a").offsets("aéa")).tolist()
    [[1, 3]]
    """
    return np.stack([np.searchsorted(offsets, targets.starts), np.searchsorted(offsets, targets.ends)], axis=-1)


def _tokenizer(config: TargetsConfig) -> Any:
    is_bpe = config.kind == "bpe"
    tokenizer = Tokenizer(models.BPE(unk_token=_OTHER, fuse_unk=True) if is_bpe else models.WordLevel(unk_token=_OTHER))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True)
    return tokenizer


def _trainer(config: TargetsConfig, alphabet: str) -> Any:
    common: dict[str, Any] = {
        "vocab_size": config.max_targets,
        "min_frequency": config.min_count,
        "show_progress": False,
    }
    if config.kind == "words":
        return trainers.WordLevelTrainer(special_tokens=[_OTHER], **common)
    # A fixed alphabet: without it, the result depends on the order of equally frequent characters.
    return trainers.BpeTrainer(
        special_tokens=[_OTHER], initial_alphabet=list(alphabet), limit_alphabet=len(alphabet), **common
    )


def _encodable(text: str) -> str:
    refuse_surrogates(text)
    return text
