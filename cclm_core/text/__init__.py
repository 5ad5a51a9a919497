"""Text to ids and back: alphabet, normalization, vocabulary, word targets."""

from cclm_core.text.vocabulary import Preprocessor, VocabularyConfig

__all__ = ["Preprocessor", "VocabularyConfig"]
