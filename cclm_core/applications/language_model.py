"""A language model: a causal encoder with a head for the next character, and its scores in bits."""

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
from cclm_core.runtime.device import chosen_device, device_of
from cclm_core.runtime.errors import DataError
from cclm_core.text.vocabulary import END, Preprocessor

Scores = npt.NDArray[np.float64]


class LanguageModel:
    """Scores texts and the next character of a text; `cclm generate` uses it.

    As in training, every text is read after the END of the previous one.

    Args:
        encoder: turns ids (B, L) into causal features (B, L, W), L ≥ 1.
        head: scores (..., V) of the next id from features (..., W).
        preprocessor: the vocabulary of V ids.
        context: ids that are read together at most, at least 2; best is the window of the training.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, preprocessor: Preprocessor, context: int) -> None:
        assert context >= 2
        self.encoder, self.head, self.preprocessor, self.context = encoder.eval(), head.eval(), preprocessor, context

    @classmethod
    def load(cls, component: Path, base: Path, context: int | None = None) -> Self:
        """Reads a published component of the objective `next_characters` and its base.

        Args:
            component, base: their folders.
            context: see the class; None for the window that the component was trained with.

        Raises:
            ArtifactError: a folder is missing or damaged, or the component was trained on another objective.
            CompositionError: the component was trained on another base or vocabulary.
        """
        encoder, objective, window, _ = load_trained(component, base, "next_characters")
        assert isinstance(objective, NextCharacters)
        device = chosen_device()
        preprocessor = encoder.base.preprocessor
        return cls.of(encoder.to(device), objective.to(device), preprocessor, window if context is None else context)

    @classmethod
    def of(cls, encoder: nn.Module, objective: NextCharacters, preprocessor: Preprocessor, context: int) -> Self:
        """A language model of an encoder, which is set to evaluation, and the objective that it was trained on."""
        weight, bias, num_ids = objective.head.weight, objective.head.bias, preprocessor.num_ids
        head = nn.Linear(weight.shape[1], num_ids).to(weight.device)  # of the next character; others may be predicted
        head.load_state_dict({"weight": weight[:num_ids], "bias": bias[:num_ids]})
        return cls(encoder, head, preprocessor, context)

    def ids(self, text: str) -> list[int]:
        """The ids of a text that may continue, after the END that precedes every text.

        Raises:
            DataError: a lone surrogate.
        """
        return [END, *self.preprocessor.encode(text).tolist()]

    def scores(self, ids: Sequence[int]) -> Scores:
        """Log odds (V,) of each id to follow `ids`; only their differences have a meaning."""
        with torch.inference_mode():
            features: Tensor = self.encoder(torch.tensor([ids[-self.context :]]).to(device_of(self.head)))
            scores: Scores = self.head(features[0, -1]).double().cpu().numpy()
        return scores

    def bits(self, texts: Sequence[str], batch_characters: int = 8192) -> list[Scores]:
        """Bits of each character of each text, given the characters before it: one array (characters,) per text.

        Their sum is a code length: every character is scored once, one that is spelled in bytes by the sum of its
        bytes, the first one as the beginning of a text. A text longer than `context` is read in windows that overlap by
        half (see `TextReader`), so after the first window every character is predicted from `context` / 2 ids or more.
        The end of the text is not scored.

        Args:
            texts: the strings.
            batch_characters: ids per forward pass, padding included, unless a single window is longer.
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
        """The bits of all characters of `texts`, see `bits`, divided by their number.

        Raises:
            DataError: the texts have no character.
        """
        number = sum(map(len, texts))
        if not number:
            raise DataError("bits per character need at least one character, got none.")
        return math.fsum(value for bits in self.bits(texts) for value in bits.tolist()) / number

    def _by_character(self, text: str, bits: Scores) -> Scores:
        """Sums the bits (L,) of ids for each character of `text`; a CLS before it is not counted."""
        offsets = self.preprocessor.offsets(text)
        summed = np.zeros(len(text))
        np.add.at(summed, offsets[offsets >= 0], bits[offsets >= 0])
        return summed
