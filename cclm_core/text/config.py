"""Settings of the vocabulary and of word targets: section `vocabulary` of params.yaml."""

from typing import Literal, Self

from pydantic import Field, model_validator

from cclm_core.runtime.config import Config
from cclm_core.text.alphabet import MAX_CHARACTERS
from cclm_core.text.normalization import Form


class TargetsConfig(Config):
    """The words or pieces of words that masked language modeling predicts; see `text.word_targets`.

    Attributes:
        kind: `words`, whole words; `bpe`, pieces of words from byte-pair encoding.
        max_targets: maximum number of targets, "other" included, 2 to 1,048,576.
        min_count: minimum count of a word, or of a pair of pieces, in the texts, at least 1.
    """

    kind: Literal["words", "bpe"] = "words"
    max_targets: int = Field(default=20_000, ge=2, le=1 << 20)  # the trainer allocates all at once
    min_count: int = Field(default=2, ge=1)


class VocabularyConfig(Config):
    """Which characters get an id of their own, and how texts become rows of a batch.

    Attributes:
        min_count: minimum count of a character in the texts, at least 1.
        max_characters: maximum size of the alphabet, 0 to 65,276 (ids have 16 bits).
        cls: whether `encode` puts the CLS id before every text.
        normalisation: Unicode normal form of all texts: NFC, NFD, NFKC or NFKD; null does not change them.
        max_length: maximum number of ids in a row of a batch, a multiple of `downsample_factor`; null for no limit.
            A longer text is an error, or is cut if the caller sets `truncate`.
        downsample_factor: the length of a batch is rounded up to a multiple of this, 1 to 65,536.
        words: targets for masked language modeling, fitted together with the alphabet; null for none.
    """

    min_count: int = Field(default=1, ge=1)
    max_characters: int = Field(default=1000, ge=0, le=MAX_CHARACTERS)
    cls: bool = False
    normalisation: Form | None = None
    max_length: int | None = Field(default=None, ge=1, le=1 << 32)
    downsample_factor: int = Field(default=1, ge=1, le=1 << 16)
    words: TargetsConfig | None = None

    @model_validator(mode="after")
    def _max_length_is_a_multiple(self) -> Self:
        if self.max_length is not None and self.max_length % self.downsample_factor:
            values = f"{self.max_length} and {self.downsample_factor}"
            raise ValueError(f"max_length must be a multiple of downsample_factor, got {values}")
        return self
