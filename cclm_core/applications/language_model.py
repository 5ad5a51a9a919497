"""A language model: a causal encoder with what it says of the next character, in bits."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cclm_core.composition.component import Component
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import WINDOW, load_base, trained_window
from cclm_core.objectives.next_characters import NextCharacters
from cclm_core.runtime.artifacts import verify
from cclm_core.runtime.device import chosen_device, device_of
from cclm_core.runtime.errors import ArtifactError, DataError
from cclm_core.text.vocabulary import END, Preprocessor

Scores = npt.NDArray[np.float64]


class LanguageModel:
    """What stands behind `cclm generate`, and what says how surprising a text is.

    Every text is read as it is in training: behind the END of the one before it.

    Args:
        encoder: turns ids (B, L) into causal features (B, L, W), L ≥ 1.
        head: the scores (…, V) of the next id, from features (…, W).
        preprocessor: the vocabulary of V ids.
        context: ids that are read back at most, at least 2; training windows are a good measure.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, preprocessor: Preprocessor, context: int = WINDOW) -> None:
        assert context >= 2
        self.encoder, self.head, self.preprocessor, self.context = encoder.eval(), head.eval(), preprocessor, context

    @classmethod
    def load(cls, component: Path, base: Path, context: int | None = None) -> Self:
        """Reads a published component of the objective `next_characters`, and the base on which it stands.

        Args:
            component, base: their folders.
            context: ids that are read back at most; None for the window that the component was trained with, or for
                256 where its folder does not say, as that of a fork.

        Raises:
            ArtifactError: a folder is missing, damaged, or of a component that was trained on something else.
            CompositionError: the component was trained on another base or vocabulary.
        """
        verify(component, "component")
        verify(base, "embedder", "composition")
        part = Component.load(component)
        if part.card.objective != "next_characters":
            raise ArtifactError(
                f"{component} must hold a component of the objective next_characters to write text, but it was "
                f"trained on {part.card.objective}. Train one: `task: {{objective: next_characters}}`, with a causal "
                "encoder."
            )
        model = ComposedModel(load_base(base), [part]).eval()
        weights = load_file(component / "head.safetensors")
        head = _next_head(weights["head.weight"], weights["head.bias"], model.preprocessor.num_ids)
        device = chosen_device()
        context = trained_window(component) if context is None else context
        return cls(model.to(device), head.to(device), model.preprocessor, context)

    @classmethod
    def of(cls, encoder: nn.Module, objective: NextCharacters, preprocessor: Preprocessor, context: int) -> Self:
        """What was trained just now: an encoder, which is set to evaluation, and the objective it was trained on."""
        head = _next_head(objective.head.weight, objective.head.bias, preprocessor.num_ids)
        return cls(encoder, head, preprocessor, context)

    def ids(self, text: str) -> list[int]:
        """The ids of a text that has only begun, behind the END that every text stands behind.

        Raises:
            DataError: a lone surrogate.
        """
        return [END, *self.preprocessor.encode(text).tolist()]

    def scores(self, ids: Sequence[int]) -> Scores:
        """The logarithms (V,) of the odds of each id to come after `ids`, of which only differences matter."""
        with torch.inference_mode():
            features: Tensor = self.encoder(torch.tensor([ids[-self.context :]]).to(device_of(self.head)))
            scores: Scores = self.head(features[0, -1]).double().cpu().numpy()
        return scores

    def bits(self, texts: Sequence[str], batch_characters: int = 8192) -> list[Scores]:
        """How surprising each character of each text is, given those before it: one array (characters,) a text.

        Their sum is a code length: every character is scored once, one that is spelt in bytes by the sum of its
        bytes, the first by how texts begin. A text longer than `context` is read in windows that overlap by half, so
        that behind its beginning every character is told from `context` / 2 ids or more. That the text ends where it
        does is not counted.

        Args:
            texts: the strings.
            batch_characters: ids per forward pass, padding included, unless one window alone is longer.
        """
        encoded = [np.array(self.ids(text)) for text in texts]
        found = [np.zeros(len(ids)) for ids in encoded]
        spans = [span for number, ids in enumerate(encoded) for span in _spans(number, len(ids), self.context)]
        for some in _batches(sorted(spans, key=lambda span: span.end - span.start), batch_characters):
            rows = np.zeros((len(some), some[-1].end - some[-1].start), dtype=np.int64)
            wanted = np.full(rows.shape, -100)
            for row, span in enumerate(some):
                ids = encoded[span.text]
                rows[row, : span.end - span.start] = ids[span.start : span.end]
                wanted[row, span.first - span.start : span.end - span.start] = ids[span.first + 1 : span.end + 1]
            chosen = wanted != -100
            with torch.inference_mode():
                features = self.encoder(torch.from_numpy(rows).to(device_of(self.head)))
                scores = self.head(features[torch.from_numpy(chosen).to(features.device)]).float().cpu()
                losses = nn.functional.cross_entropy(scores, torch.from_numpy(wanted[chosen]), reduction="none")
            values = np.split(losses.double().numpy() / math.log(2), np.cumsum(chosen.sum(1))[:-1])
            for span, value in zip(some, values, strict=True):
                found[span.text][span.first + 1 : span.end + 1] = value
        return [self._by_character(text, bits[1:]) for text, bits in zip(texts, found, strict=True)]

    def bits_per_character(self, texts: Sequence[str]) -> float:
        """The bits of all characters of `texts`, see `bits`, divided by their number.

        Raises:
            DataError: there is no character.
        """
        number = sum(map(len, texts))
        if not number:
            raise DataError("bits per character need at least one character, got none.")
        return math.fsum(value for bits in self.bits(texts) for value in bits.tolist()) / number

    def _by_character(self, text: str, bits: Scores) -> Scores:
        """Sums the bits (L,) of ids for each character of `text`; the CLS before it is no part of it."""
        offsets = self.preprocessor.offsets(text)
        summed = np.zeros(len(text))
        np.add.at(summed, offsets[offsets >= 0], bits[offsets >= 0])
        return summed


def _next_head(weight: Tensor, bias: Tensor, num_ids: int) -> nn.Linear:
    """The head of the next character alone: the first rows of one that may predict several."""
    head = nn.Linear(weight.shape[1], num_ids)
    head.load_state_dict({"weight": weight[:num_ids], "bias": bias[:num_ids]})
    return head


class _Span(NamedTuple):
    """The ids `start` to `end` of a text are read; what follows those from `first` is scored."""

    text: int
    start: int
    first: int
    end: int


def _spans(text: int, length: int, context: int) -> Iterator[_Span]:
    """Windows of `context` ids that score each of `length` - 1 ids once, all but the first for their later half."""
    first, end = 0, min(context, length - 1)
    while first < length - 1:
        yield _Span(text, max(0, end - context), first, end)
        first, end = end, min(end + context // 2, length - 1)


def _batches(spans: Sequence[_Span], batch_characters: int) -> Iterator[Sequence[_Span]]:
    """Runs of spans, shortest first, that fill at most `batch_characters` when padded."""
    start = 0
    while start < len(spans):
        stop = start + 1
        while stop < len(spans) and (spans[stop].end - spans[stop].start) * (stop + 1 - start) <= batch_characters:
            stop += 1
        yield spans[start:stop]
        start = stop
