"""Pretrainers of language models: masked characters, next characters, masked words."""

from typing import NamedTuple

import numpy as np
import torch

from cclm_core.composition.component import OverBase
from cclm_core.objectives.catalogue import MaskedCharactersConfig, MaskedWordsConfig, NextCharactersConfig
from cclm_core.objectives.masked_words import MaskedWords
from cclm_core.pretraining.pretrainer import Pretrainer
from cclm_core.runtime.device import device_of
from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.text.vocabulary import END, MASK
from cclm_core.text.word_targets import OTHER


class CharacterMaskPretrainer(Pretrainer):
    """Trains a component to predict masked characters and spans; see `MaskedCharactersConfig`."""

    task_type = MaskedCharactersConfig


class CausalLanguagePretrainer(Pretrainer):
    """Trains a causal language model: a component that predicts the next characters; see `NextCharactersConfig`.

    The default encoder is causal. So the embedder must be causal, or the component must be `independent`.
    """

    task_type = NextCharactersConfig
    is_causal = True


class PredictedWord(NamedTuple):
    """A word, or a piece of one, and its probability from 0 to 1."""

    word: str
    probability: float


class MaskedLanguagePretrainer(Pretrainer):
    """Trains a component to predict masked words; see `MaskedWordsConfig`.

    `words` configures which words can be predicted. The default is that of the preprocessor, or `TargetsConfig()`.
    """

    task_type = MaskedWordsConfig

    def predict(self, text: str, start: int, end: int, num_words: int = 5) -> list[PredictedWord]:
        """The most probable words for a part of a text, which is masked; the model knows its length.

        Args:
            text: the text.
            start, end: the characters to mask, `end` excluded: usually a whole word, at most half a training window.
            num_words: maximum number of words, at least 1.

        Returns:
            Words by falling probability. Words outside the targets have the rest of the probability together.

        Raises:
            TrainingError: the pretrainer is not fitted.
            CompositionError: the embedder has changed.
            ConfigError: `num_words` is below 1.
            DataError: the span is empty, too long or outside the text, or the text contains a lone surrogate.
        """
        encoder, objective = self._over_base(), self.objective
        assert isinstance(objective, MaskedWords)
        if num_words < 1:
            raise ConfigError(f"`num_words` must be at least 1, got {num_words}.")
        ids, masked = self._masked(text, start, end)
        means = _features(encoder, ids)[masked].mean(axis=0)
        with torch.inference_mode():
            scores = objective.head(torch.from_numpy(means).to(device_of(objective))).float().softmax(-1).cpu().numpy()
        names = objective.targets.names
        best = [target for target in np.argsort(-scores, kind="stable").tolist() if target != OTHER]
        return [PredictedWord(names[target], float(scores[target])) for target in best[:num_words]]

    def _masked(self, text: str, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """The ids (L,) of a window around the span, which is masked, and the positions of the masks."""
        if not 0 <= start < end <= len(text):
            raise DataError(f"the span must be within the {len(text)} characters of the text, got {start} to {end}.")
        preprocessor, window = self.embedder.preprocessor, self._window
        offsets = np.concatenate([[-1], preprocessor.offsets(text), [-1]])  # a text is between two END ids
        ids = np.concatenate([[END], preprocessor.encode(text).astype(np.int64), [END]])
        masked = np.flatnonzero((offsets >= start) & (offsets < end))
        if len(masked) > window // 2:
            raise DataError(f"the span must have at most {window // 2} ids, half a training window, got {len(masked)}.")
        ids[masked] = MASK
        first = max(0, min(len(ids) - window, int(masked[0] + masked[-1] + 1 - window) // 2))
        return ids[first : first + window], masked - first


def _features(encoder: OverBase, ids: np.ndarray) -> np.ndarray:
    """The features (L, W) of ids (L,)."""
    with torch.inference_mode():
        features: np.ndarray = encoder(torch.from_numpy(ids)[None].to(device_of(encoder)))[0].float().cpu().numpy()
    return features
