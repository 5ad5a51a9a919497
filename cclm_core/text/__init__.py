"""Converts text to ids and back: alphabet, normalization, vocabulary, word targets."""

from cclm_core.text.config import VocabularyConfig
from cclm_core.text.vocabulary import Preprocessor

__all__ = ["Preprocessor", "VocabularyConfig"]
