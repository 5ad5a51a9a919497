"""Correcting misspelled text with a component that was trained by the objective `denoise`."""

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch

from cclm_core.applications.readings import Decisions, KnownWords, Option, Piece, cheapest, read
from cclm_core.applications.trained import load_trained
from cclm_core.composition.component import Component, OverBase
from cclm_core.composition.long_texts import TextReader
from cclm_core.encoders.embedder import Base
from cclm_core.objectives.denoise import Denoise, classes
from cclm_core.runtime.device import chosen_device, device_of
from cclm_core.runtime.errors import CompositionError, ConfigError
from cclm_core.text.vocabulary import END

_PIECE = re.compile(r"\S+\s*|\s+")
_OTHERS = 5  # alternative readings that are considered for each piece


class Change(NamedTuple):
    """The characters `start` to `end` (exclusive) of the original were replaced by `replacement`."""

    start: int
    end: int
    replacement: str


class Corrected(NamedTuple):
    """A corrected text.

    Attributes:
        text: the correction; equal to the original if no change was probable enough.
        changes: the differences, in the order of the original.
        alternatives: other readings, most likely first, each with its probability relative to `text`: 1 is equally
            likely.
    """

    text: str
    changes: list[Change]
    alternatives: list[tuple[str, float]]


class Corrector:
    """Proposes corrections: edits of characters, weighted word by word.

    Args:
        base: the frozen embedder, or composition.
        component: the denoising component that was trained on it.
        objective: the objective that trained it, with its head.
        window: ids that are read together, at least 2; best is the window of the training. A longer text is read in
            windows that overlap by half, see `TextReader`.
        words: known words, if any: a model of characters takes names that it never read for misspellings. With known
            words, numbers, abbreviations and names in code are left unchanged.

    Raises:
        CompositionError: the component was trained by another objective, or on another base.

    Source: the choice between readings follows the noisy channel model (Kernighan, Church and Gale 1990): probability
    of the edits times frequency of the words.
    """

    def __init__(
        self,
        base: Base,
        component: Component,
        objective: Denoise,
        window: int,
        words: KnownWords | None = None,
    ) -> None:
        assert window >= 2
        if component.card.objective != "denoise":
            raise CompositionError(
                f"a corrector needs a component trained by the objective denoise; {component.card.name!r} was trained "
                f"by {component.card.objective}."
            )
        component.card.check(base)
        self.preprocessor, self.words = base.preprocessor, words
        self._encoder, self._head = OverBase(base, component).eval(), objective.edits.eval()
        self._reader = TextReader(self._encoder, window=window, causal=component.causal)

    @classmethod
    def load(cls, base: Path, component: Path) -> Self:
        """Reads a published base and component, with the words that its training saved, if any.

        Raises:
            ArtifactError: a folder is missing or damaged, or the component was trained on another objective.
            CompositionError: the component was trained on another base.
        """
        encoder, objective, window, targets = load_trained(component, base, "denoise")
        assert isinstance(objective, Denoise)
        model = cls(encoder.base, encoder.component, objective, window, KnownWords.of(targets))
        return model.to(chosen_device())

    def to(self, device: torch.device) -> Self:
        """Moves the model to a device, in place."""
        for module in (self._encoder, self._head):
            module.to(device)
        return self

    def correct(
        self, text: str, num_alternatives: int = 0, min_confidence: float = 0.5, max_rounds: int = 3
    ) -> Corrected:
        """Corrects a text of any length.

        Args:
            text: the text; characters outside the alphabet stay unchanged.
            num_alternatives: number of alternative readings to return, at least 0.
            min_confidence: 0 to 1; the least probability of a change: of the new reading of a word if words are known,
                of the single edit otherwise.
            max_rounds: number of passes, at least 1; the text is read again after changes, since of several missing
                letters in a row each pass finds one.

        Raises:
            ConfigError: a number outside its range.
            DataError: a lone surrogate, named with its position.
        """
        if num_alternatives < 0 or max_rounds < 1 or not 0 <= min_confidence <= 1:
            raise ConfigError(
                "num_alternatives must be at least 0, max_rounds at least 1 and min_confidence between 0 and 1, got "
                f"{num_alternatives}, {max_rounds} and {min_confidence}"
            )
        corrected, before = text, None
        for _ in range(max_rounds):
            if corrected == before:
                break
            before = corrected
            corrected = _joined(self._read(before, min_confidence, thorough=False))
        others: list[tuple[str, float]] = []
        if num_alternatives and text:
            pieces = self._read(corrected, min_confidence, thorough=True)
            others = list(_others(corrected, pieces, num_alternatives))
        return Corrected(corrected, changes(text, corrected), others)

    def _read(self, text: str, min_confidence: float, thorough: bool) -> list[Piece]:
        """The pieces of a text, usually words, each with its readings."""
        written = _PIECE.findall(text)
        decisions = self._decisions(text)
        # The anchor belongs to the first piece.
        ends = np.cumsum([len(piece) for piece in written])
        owner = np.concatenate([[0], np.searchsorted(ends, self.preprocessor.offsets(text), "right")])
        bounds = np.searchsorted(owner, np.arange(len(written) + 1))
        bounds[-1:] = len(owner)
        pieces = []
        for number, piece in enumerate(written):
            about = decisions.at(np.arange(bounds[number], bounds[number + 1]))
            pieces.append(read(piece, about, self.preprocessor, self.words, min_confidence, thorough))
        return pieces

    def _decisions(self, text: str) -> Decisions:
        """The predictions for an anchor and the ids of a text, which is read between two marks, as in training."""
        ids = np.concatenate([[END], self.preprocessor.encode(text).astype(np.int64), [END]])
        (features,), device = self._reader.whole([ids], self._encoder.component.width), device_of(self._head)
        with torch.inference_mode():
            heads = self._head(features.to(device), torch.from_numpy(classes(ids)).to(device))
            scores = torch.stack([logits.log_softmax(-1) for logits in heads], dim=1).double().cpu().numpy()
        return Decisions.of(ids[:-1], scores[:-1])


def changes(original: str, corrected: str) -> list[Change]:
    """The differences between two texts, in few characters."""
    matcher = SequenceMatcher(None, original, corrected, autojunk=False)
    return [
        Change(start, end, corrected[new_start:new_end])
        for tag, start, end, new_start, new_end in matcher.get_opcodes()
        if tag != "equal"
    ]


def _joined(pieces: list[Piece]) -> str:
    return "".join(piece.readings[piece.selected].text for piece in pieces)


def _others(text: str, pieces: list[Piece], number: int) -> Iterator[tuple[str, float]]:
    """The most likely other readings of `text`, with changes in one piece or in several."""
    options = [
        Option(piece.readings[0].score - reading.score, place, choice)
        for place, piece in enumerate(pieces)
        for choice, reading in enumerate(piece.readings[: _OTHERS + 1])
        if choice
    ]
    own = sum(piece.readings[0].score - piece.readings[piece.selected].score for piece in pieces)
    seen = {text}
    for cost, deviations in cheapest(sorted(options)):
        if len(seen) > number:
            return
        choices = [0] * len(pieces)
        for option in deviations:
            choices[option.place] = option.choice
        reading = "".join(piece.readings[choice].text for piece, choice in zip(pieces, choices, strict=True))
        if reading not in seen:
            seen.add(reading)
            yield reading, float(np.exp(own - cost))
