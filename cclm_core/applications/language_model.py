"""A causal language model: scores texts in bits, and predicts the next character."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cclm_core.applications.trained import load_trained
from cclm_core.composition.long_texts import TextReader
from cclm_core.objectives.next_characters import NextCharacters
from cclm_core.runtime.device import device_of, select_device
from cclm_core.runtime.errors import ArtifactError, ConfigError, DataError
from cclm_core.text.vocabulary import END, Preprocessor

Scores = npt.NDArray[np.float64]


class LanguageModel:
    """Scores texts, and predicts the next character of a text. `cclm generate` uses it.

    Every text is read after an END id, as in training.

    Args:
        encoder: maps ids (B, L) to causal features (B, L, W), L ≥ 1.
        head: maps features (..., W) to logits (..., V) of the next id.
        preprocessor: the vocabulary of V ids.
        context: length of a window in ids, at least 2. The window of the training works best.

    Raises:
        ConfigError: `context` is below 2.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, preprocessor: Preprocessor, context: int) -> None:
        if context < 2:
            raise ConfigError(f"context must be at least 2 ids, got {context}.")
        self.encoder, self.head, self.preprocessor, self.context = encoder.eval(), head.eval(), preprocessor, context

    @classmethod
    def load(cls, component: Path, base: Path, context: int | None = None) -> Self:
        """Loads a published component of the objective `next_characters`, and its base.

        Args:
            component, base: their folders.
            context: see the class; by default the window of the training.

        Raises:
            ArtifactError: a folder is missing or damaged, or the component was trained on another objective.
            CompositionError: the component was trained on another base or vocabulary.
            ConfigError: see `of`.
        """
        encoder, objective, window, _ = load_trained(component, base, "next_characters")
        assert isinstance(objective, NextCharacters)
        device = select_device()
        preprocessor = encoder.base.preprocessor
        return cls.of(encoder.to(device), objective.to(device), preprocessor, window if context is None else context)

    @classmethod
    def of(cls, encoder: nn.Module, objective: NextCharacters, preprocessor: Preprocessor, context: int) -> Self:
        """Builds a language model from an encoder and its trained objective. Sets the encoder to evaluation mode.

        Raises:
            ConfigError: the objective predicts earlier characters, or `context` is below 2.
        """
        if objective.config.direction == "backward":
            raise ConfigError(
                "a language model scores and continues a text from its beginning, but this component predicts earlier "
                "characters (direction: backward). Use one with direction: forward."
            )
        weight, bias, num_ids = objective.head.weight, objective.head.bias, preprocessor.num_ids
        # The head of the objective can predict several characters ahead; only the next one is used.
        head = nn.Linear(weight.shape[1], num_ids).to(weight.device)
        head.load_state_dict({"weight": weight[:num_ids], "bias": bias[:num_ids]})
        return cls(encoder, head, preprocessor, context)

    def ids(self, text: str) -> list[int]:
        """The ids of a text, after the END that precedes every text, and without an END after it.

        Raises:
            DataError: a lone surrogate.
        """
        return [END, *self.preprocessor.encode(text).tolist()]

    def scores(self, ids: Sequence[int]) -> Scores:
        """(V,) logits of the id that follows `ids`: log-probabilities up to a constant.

        Raises:
            ArtifactError: they are not finite numbers.
        """
        with torch.inference_mode():
            features: Tensor = self.encoder(torch.tensor([ids[-self.context :]]).to(device_of(self.head)))
            scores: Scores = self.head(features[0, -1]).double().cpu().numpy()
        if not np.isfinite(scores).all():
            raise ArtifactError(
                "the model predicts numbers that are not finite, so its weights are damaged or its training diverged. "
                "Train the component again."
            )
        return scores

    def bits(self, texts: Sequence[str], batch_characters: int = 8192) -> list[Scores]:
        """Scores each character of each text, given the characters before it.

        A character that is encoded in bytes gets the sum of its bytes. The end of a text is not scored. A text longer
        than `context` is read in windows that overlap by half (see `TextReader`): after the first window, every
        character is predicted from at least `context` / 2 ids.

        Args:
            texts: the strings.
            batch_characters: maximum number of ids per forward pass, including padding; at least one window is read.

        Returns:
            One array (L,) per text of L characters, in bits: -log2 of the probability of each character.
        """
        encoded = [np.array(self.ids(text)) for text in texts]
        bits = [np.zeros(len(ids)) for ids in encoded]
        reader = TextReader(self.encoder, window=self.context, batch_characters=batch_characters, causal=True)
        for text, start, features in reader.pieces([ids[:-1] for ids in encoded]):
            span = slice(start + 1, start + 1 + len(features))
            with torch.inference_mode():
                scores = self.head(features.to(device_of(self.head))).float().cpu()
                losses = nn.functional.cross_entropy(scores, torch.from_numpy(encoded[text][span]), reduction="none")
            bits[text][span] = losses.double().numpy() / math.log(2)
        return [self._by_character(text, some[1:]) for text, some in zip(texts, bits, strict=True)]

    def bits_per_character(self, texts: Sequence[str]) -> float:
        """The mean of `bits` over all characters of the texts; lower is better.

        Raises:
            DataError: the texts have no characters.
        """
        number = sum(map(len, texts))
        if not number:
            raise DataError(f"bits per character need at least one character, got none in {len(texts)} texts.")
        return math.fsum(value for bits in self.bits(texts) for value in bits.tolist()) / number

    def _by_character(self, text: str, bits: Scores) -> Scores:
        """Sums the bits of ids for each character of `text`, without those of a CLS before it."""
        offsets = self.preprocessor.offsets(text)
        summed = np.zeros(len(text))
        np.add.at(summed, offsets[offsets >= 0], bits[offsets >= 0])
        return summed
