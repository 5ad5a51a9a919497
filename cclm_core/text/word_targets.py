"""Words, or pieces of words, as targets of masked language modelling: fitted beside the alphabet, never an input.

A model reads characters. What it is asked for may be larger: which word stood where these characters are masked.
`WordTargets` says which words of a text can be asked for, and where they stand. Target 0 is "other": a word that is
not among the targets. It is a class to predict, not an unknown input: the characters themselves always reach the model.

A word is a run of letters, marks, digits and underscores, with apostrophes inside: `don't`, `naïve`, `1623`.

>>> texts = ["the cat and the dog", "the end"]
>>> targets = WordTargets.fit(texts, TargetsConfig(max_targets=3, min_count=1), Preprocessor().fit(texts))
>>> targets.names
['[OTHER]', 'the', 'and']
>>> found = targets.encode("the hat and ...")
>>> found.ids.tolist(), found.starts.tolist(), found.ends.tolist()
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
from cclm_core.text.normalization import Form, aligned, normalise
from cclm_core.text.texts import chunks, strings
from cclm_core.text.vocabulary import Preprocessor, TargetsConfig
from cclm_core.text.words import RUN, with_apostrophes

FORMAT = "cclm-word-targets-1"
FILE = "targets.json"
OTHER = 0

_ABOUT = ("normalisation", "tokenizer", "counts")  # what the digest of a file is of
Counts = npt.NDArray[np.int64]

_OTHER = "[OTHER]"  # brackets are no part of a word, so no word of a text is called that
_WORD = with_apostrophes(RUN)  # also digits and underscores, unlike `words.WORD`: every masked run can be a target


class Targets(NamedTuple):
    """The targets of one text, from left to right; none is empty, and they do not overlap.

    Attributes:
        ids: (T,) int64, between 0 (other) and `num_targets` - 1.
        starts, ends: (T,) int32, the characters of the text that each one covers, half open.
    """

    ids: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]


class WordTargets:
    """Which words of a text are targets; see the module."""

    def __init__(
        self, config: TargetsConfig, normalisation: Form | None, tokenizer: Any, counts: Counts | None = None
    ) -> None:
        """Use `fit` or `load`.

        Args:
            config: kind and number of the targets.
            normalisation: the normal form of the preprocessor that the targets were fitted beside.
            tokenizer: a `tokenizers.Tokenizer` whose token 0 is `[OTHER]`.
            counts: (`num_targets`,) how often each target occurs, see `counted`; None if nobody counted.
        """
        self.config = config
        self.normalisation = normalisation
        self.counts = counts
        self._tokenizer = tokenizer

    @classmethod
    def fit(cls, texts: Any, config: TargetsConfig, preprocessor: Preprocessor, column: str | None = None) -> Self:
        """Finds the targets: the most frequent words, ties by code point; or the merges of byte-pair encoding.

        The result depends on the texts alone, neither on their order nor on the number of threads.

        Args:
            texts: as for `Preprocessor.fit`; read once, in a stream. What is held is the count of each distinct word.
            config: kind and number.
            preprocessor: its normal form is applied; for `bpe`, its alphabet is where merging begins.
            column: as for `Preprocessor.fit`.

        Raises:
            ConfigError: fewer targets than `bpe` needs for the alphabet.
            DataError: something else than strings was given, or a lone surrogate (named with its position).
        """
        form = preprocessor.config.normalisation
        if config.kind == "bpe" and config.max_targets <= len(preprocessor.alphabet):
            raise ConfigError(
                f"words.max_targets must be more than the {len(preprocessor.alphabet)} characters of the alphabet for "
                f"kind bpe, got {config.max_targets}; raise it, or lower max_characters."
            )
        learner = _tokenizer(config)
        stream = (_encodable(normalise(text, form)) for text in strings(texts, column))
        learner.train_from_iterator(stream, _trainer(config, preprocessor.alphabet))
        # Training declares [OTHER] a special token, which would be found in the midst of a text; a new one has none.
        fitted = _tokenizer(config)
        fitted.model = learner.model
        return cls(config, form, fitted)

    @property
    def num_targets(self) -> int:
        """How many targets there are, "other" included."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def names(self) -> list[str]:
        """The word or piece of each target, by id."""
        return [str(self._tokenizer.id_to_token(target)) for target in range(self.num_targets)]

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides which targets a text has, and of their counts."""
        return digest({"format": FORMAT, **self._about()})

    def counted(self, texts: Any, column: str | None = None) -> Self:
        """The same targets, with how often each occurs in `texts`.

        What trains on targets by drawing some of them needs to know which are frequent.

        Args:
            texts: as for `Preprocessor.fit`; read once, in a stream.
            column: as for `Preprocessor.fit`.

        Raises:
            DataError: something else than strings was given, or a lone surrogate (named with its position).

        >>> targets = WordTargets.fit(["a b a"], TargetsConfig(max_targets=2, min_count=1), Preprocessor().fit(["ab"]))
        >>> dict(zip(targets.names, targets.counted(["a b a", "c a"]).counts.tolist()))
        {'[OTHER]': 2, 'a': 3}
        """
        counts = np.zeros(self.num_targets, dtype=np.int64)
        for chunk in chunks(strings(texts, column)):
            normal = [_encodable(normalise(text, self.normalisation)) for text in chunk]
            encodings = self._tokenizer.encode_batch(normal, add_special_tokens=False)
            found = np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), dtype=np.int64)
            counts += np.bincount(found, minlength=len(counts))
        return type(self)(self.config, self.normalisation, self._tokenizer, counts)

    def encode(self, text: str) -> Targets:
        """The targets of a text.

        Raises:
            DataError: a lone surrogate, named with its position.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[Targets]:
        """The targets of several texts.

        Raises:
            DataError: a lone surrogate, named with its position.
        """
        normal = [aligned(text, self.normalisation) for text in texts]
        encodings = self._tokenizer.encode_batch([text for text, _ in normal], add_special_tokens=False)
        result = []
        for encoding, (_, origins) in zip(encodings, normal, strict=True):
            first, after = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2).T
            # A normalised text may have a boundary where the original has none ("½" is "1/2"): no target lies there.
            is_boundary = np.diff(origins, prepend=-1) > 0
            whole = is_boundary[first] & is_boundary[after]
            ids = np.array(encoding.ids, dtype=np.int64)
            result.append(Targets(ids[whole], origins[first[whole]], origins[after[whole]]))
        return result

    def save(self, path: Path) -> None:
        """Writes the targets as JSON, atomically."""
        write_json(path, {"format": FORMAT, "config": self.config.canonical(), **self._about(), "digest": self.digest})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote.

        Raises:
            ArtifactError: the file is missing, no JSON, or holds no word targets.
            IntegrityError: the targets are not those that were saved.
        """
        content = read_json(path)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ArtifactError(f"{path} must hold word targets ({FORMAT}), but it holds something else.")
        if {"config", "normalisation", "tokenizer", "digest"} - content.keys():
            raise ArtifactError(f"{path} must hold config, normalisation, tokenizer and digest; it is damaged.")
        about = {name: content[name] for name in ("format", *_ABOUT) if name in content}
        if digest(about) != content["digest"]:
            raise IntegrityError(f"{path} was altered: its content does not match its digest. Make it anew.")
        config = TargetsConfig.parse(content["config"], f"{path}: config")
        tokenizer = Tokenizer.from_str(json.dumps(content["tokenizer"]))
        counts = np.array(content["counts"], dtype=np.int64) if "counts" in content else None
        return cls(config, content["normalisation"], tokenizer, counts)

    def _about(self) -> dict[str, Any]:
        about = {"normalisation": self.normalisation, "tokenizer": json.loads(self._tokenizer.to_str())}
        return about if self.counts is None else about | {"counts": self.counts.tolist()}


def read_targets(encoded: Path) -> WordTargets | None:
    """The word targets of an encoded corpus; None where its vocabulary was configured without.

    Raises:
        ArtifactError, IntegrityError: see `WordTargets.load`.
    """
    return WordTargets.load(encoded / FILE) if (encoded / FILE).exists() else None


def id_spans(targets: Targets, offsets: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """(T, 2) int64: the ids that each target covers, half open.

    Args:
        targets: of a text.
        offsets: (L,), what `Preprocessor.offsets` gives for the same text.

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
    # With just the given alphabet, what is kept does not hang on the order of equally frequent characters.
    return trainers.BpeTrainer(
        special_tokens=[_OTHER], initial_alphabet=list(alphabet), limit_alphabet=len(alphabet), **common
    )


def _encodable(text: str) -> str:
    refuse_surrogates(text)
    return text
