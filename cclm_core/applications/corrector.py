"""Spelling correction with a component trained on the objective `denoise`."""

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch

from cclm_core.applications.readings import KnownWords, Option, Piece, Predictions, cheapest, read_piece
from cclm_core.applications.trained import load_trained
from cclm_core.composition.component import Component, OverBase
from cclm_core.composition.long_texts import TextReader
from cclm_core.encoders.embedder import Base
from cclm_core.objectives.denoise import Denoise, classes
from cclm_core.runtime.device import device_of, select_device
from cclm_core.runtime.errors import CompositionError, ConfigError
from cclm_core.text.vocabulary import END

_PIECE = re.compile(r"\S+\s*|\s+")
_MAX_ALTERNATIVES = 5  # alternative readings to consider for each piece


class Change(NamedTuple):
    """The characters from `start` to `end` (exclusive) of the original become `replacement`."""

    start: int
    end: int
    replacement: str


class Corrected(NamedTuple):
    """A corrected text.

    Attributes:
        text: the corrected text; equal to the original if no change was probable enough.
        changes: the differences, by position in the original.
        alternatives: other readings, most likely first, each with its probability divided by that of `text`.
    """

    text: str
    changes: list[Change]
    alternatives: list[tuple[str, float]]


class Corrector:
    """Corrects misspelled text: predicts edits of characters, and weights them by known words.

    Args:
        base: the frozen embedder or composition.
        component: the component trained on the objective `denoise` over this base.
        objective: the objective with the trained head.
        window: length of a window in ids, at least 2. The window of the training works best. A longer text is read in
            windows that overlap by half, see `TextReader`.
        words: known words, or None. A character model alone mistakes unknown names for misspellings. With known words,
            numbers, abbreviations and names in code stay unchanged.

    Raises:
        CompositionError: the component was trained on another objective, or on another base.

    Source: the noisy channel model (Kernighan, Church and Gale 1990): probability of the edits times frequency of the
    words.
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
                f"a corrector needs a component trained on denoise, but {component.card.name!r} was trained on "
                f"{component.card.objective}. Train one with `task: {{objective: denoise}}`."
            )
        component.card.check(base)
        self.preprocessor, self.words = base.preprocessor, words
        self._encoder, self._head = OverBase(base, component).eval(), objective.edits.eval()
        self._reader = TextReader(self._encoder, window=window, causal=component.causal)

    @classmethod
    def load(cls, base: Path, component: Path) -> Self:
        """Loads a published base and component, and the known words if the training saved them.

        Raises:
            ArtifactError: a folder is missing or damaged, or the component was trained on another objective.
            CompositionError: the component was trained on another base.
        """
        encoder, objective, window, targets = load_trained(component, base, "denoise")
        assert isinstance(objective, Denoise)
        model = cls(encoder.base, encoder.component, objective, window, KnownWords.of(targets))
        return model.to(select_device())

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
            text: the text. Characters outside the alphabet stay unchanged.
            num_alternatives: maximum number of alternative readings to return, at least 0.
            min_confidence: minimum probability of a change, 0 to 1: of the new reading of a word if there are known
                words, otherwise of the single edit.
            max_rounds: maximum number of passes, at least 1. Each pass can insert only one of several missing letters
                in a row, so the text is read again until nothing changes.

        Raises:
            ConfigError: a number is outside its range.
            DataError: the text contains a lone surrogate.
        """
        for name, value, minimum in (("num_alternatives", num_alternatives, 0), ("max_rounds", max_rounds, 1)):
            if value < minimum:
                raise ConfigError(f"{name} must be at least {minimum}, got {value}")
        if not 0 <= min_confidence <= 1:
            raise ConfigError(f"min_confidence must be between 0 and 1, got {min_confidence}")
        corrected, previous = text, None
        for _ in range(max_rounds):
            if corrected == previous:
                break
            previous = corrected
            corrected = _selected_text(self._read(previous, min_confidence, thorough=False))
        alternatives: list[tuple[str, float]] = []
        if num_alternatives and text:
            pieces = self._read(corrected, min_confidence, thorough=True)
            alternatives = list(_alternatives(corrected, pieces, num_alternatives))
        return Corrected(corrected, changes(text, corrected), alternatives)

    def _read(self, text: str, min_confidence: float, thorough: bool) -> list[Piece]:
        """Splits a text into pieces, usually a word and the space after it, and finds the readings of each."""
        texts = _PIECE.findall(text)
        predictions = self._predictions(text)
        # The leading END belongs to the first piece.
        ends = np.cumsum([len(piece) for piece in texts])
        piece_index = np.concatenate([[0], np.searchsorted(ends, self.preprocessor.offsets(text), "right")])
        bounds = np.searchsorted(piece_index, np.arange(len(texts) + 1))
        bounds[-1:] = len(piece_index)
        pieces = []
        for number, piece in enumerate(texts):
            own = predictions.select(np.arange(bounds[number], bounds[number + 1]))
            pieces.append(read_piece(piece, own, self.preprocessor, self.words, min_confidence, thorough))
        return pieces

    def _predictions(self, text: str) -> Predictions:
        """Predictions for END and the ids of a text, which is read between two END ids, as in training."""
        ids = np.concatenate([[END], self.preprocessor.encode(text).astype(np.int64), [END]])
        (features,), device = self._reader.whole([ids], self._encoder.component.width), device_of(self._head)
        with torch.inference_mode():
            heads = self._head(features.to(device), torch.from_numpy(classes(ids)).to(device))
            scores = torch.stack([logits.log_softmax(-1) for logits in heads], dim=1).double().cpu().numpy()
        return Predictions.of(ids[:-1], scores[:-1])


def changes(original: str, corrected: str) -> list[Change]:
    """The differences between two texts; characters that are equal in both are not part of a change.

    >>> changes("teh cat", "the cat")
    [Change(start=1, end=1, replacement='h'), Change(start=2, end=3, replacement='')]
    """
    matcher = SequenceMatcher(None, original, corrected, autojunk=False)
    return [
        Change(start, end, corrected[new_start:new_end])
        for tag, start, end, new_start, new_end in matcher.get_opcodes()
        if tag != "equal"
    ]


def _selected_text(pieces: list[Piece]) -> str:
    return "".join(piece.readings[piece.selected].text for piece in pieces)


def _alternatives(text: str, pieces: list[Piece], number: int) -> Iterator[tuple[str, float]]:
    """Yields up to `number` other readings of `text` that differ in one or more pieces, most likely first."""
    options = [
        Option(piece.readings[0].score - reading.score, position, choice)
        for position, piece in enumerate(pieces)
        for choice, reading in enumerate(piece.readings[: _MAX_ALTERNATIVES + 1])
        if choice
    ]
    selected_cost = sum(piece.readings[0].score - piece.readings[piece.selected].score for piece in pieces)
    seen = {text}
    for cost, deviations in cheapest(sorted(options)):
        if len(seen) > number:
            return
        choices = [0] * len(pieces)
        for option in deviations:
            choices[option.position] = option.choice
        reading = "".join(piece.readings[choice].text for piece, choice in zip(pieces, choices, strict=True))
        if reading not in seen:
            seen.add(reading)
            yield reading, float(np.exp(selected_cost - cost))
