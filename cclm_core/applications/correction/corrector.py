"""Correcting misspelt text with a component that was trained by the objective `denoise`."""

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from cclm_core.applications.correction.options import Option, cheapest
from cclm_core.applications.correction.readings import Decisions, Piece, read
from cclm_core.applications.correction.words import KnownWords
from cclm_core.composition.component import Component, OverBase
from cclm_core.composition.long_texts import join_windows, split_windows
from cclm_core.composition.store import WINDOW, load_base, trained_window
from cclm_core.encoders.embedder import Base
from cclm_core.objectives.denoise import EditHead, classes
from cclm_core.runtime.device import chosen_device, device_of
from cclm_core.runtime.errors import ArtifactError, CompositionError, ConfigError
from cclm_core.text.vocabulary import END

_PIECE = re.compile(r"\S+\s*|\s+")
_OTHERS = 5  # other readings of a piece that alternatives consider


class Change(NamedTuple):
    """Characters `start` to `end` of the original, half open, became `replacement`."""

    start: int
    end: int
    replacement: str


class Corrected(NamedTuple):
    """A corrected text.

    Attributes:
        text: the correction; the original, where nothing was sure enough.
        changes: what differs, in the order of the original.
        alternatives: other readings, the likelier first, each with its probability against the one in `text`: 1 is
            as likely.
    """

    text: str
    changes: list[Change]
    alternatives: list[tuple[str, float]]


class Corrector:
    """Proposes corrections: edits of characters, weighed word by word.

    Args:
        base: the frozen embedder, or composition.
        component: the denoising component that was trained on it.
        heads: the weights that its objective saved.
        window: ids that are read at once, at least 2; a longer text is read in windows that overlap by half. Those of
            its training are best: of longer ones a model has seen nothing.
        words: the words that are known, if any: a model of characters alone takes a name that it never read for a
            misspelling. With them numbers, abbreviations and names in code are left alone.

    Raises:
        ArtifactError: the weights of the head are of another shape.
        CompositionError: the component was trained by another objective, or on another base.

    Source: the choice between readings follows the noisy channel (Kernighan, Church and Gale 1990): how likely the
    edits are, times how frequent the words.
    """

    def __init__(
        self,
        base: Base,
        component: Component,
        heads: dict[str, Tensor],
        window: int = WINDOW,
        words: KnownWords | None = None,
    ) -> None:
        assert window >= 2
        if component.card.objective != "denoise":
            raise CompositionError(
                f"a corrector needs a component trained by the objective denoise; {component.card.name!r} was trained "
                f"by {component.card.objective}."
            )
        component.card.check(base)
        self.preprocessor, self.words, self._window = base.preprocessor, words, window
        self._encoder = OverBase(base, component).eval()
        self._head = EditHead(component.width, base.preprocessor.num_ids).eval()
        weights = {name.removeprefix("edits."): tensor for name, tensor in heads.items()}
        expected = {name: tuple(tensor.shape) for name, tensor in self._head.state_dict().items()}
        if expected != {name: tuple(tensor.shape) for name, tensor in weights.items()}:
            raise ArtifactError(
                f"the head of {component.card.name!r} must hold the edits of its vocabulary, {expected}, got other "
                "weights; an older version made it? Train the component anew."
            )
        self._head.load_state_dict(weights)

    @classmethod
    def load(cls, base: Path, component: Path) -> Self:
        """Reads a base and a component that the pipeline published, with the words that its training saved, if any.

        Raises:
            ArtifactError: a file is missing or damaged.
            CompositionError: see the class.
        """
        heads = component / "head.safetensors"
        if not heads.is_file():
            raise ArtifactError(f"{component} must hold head.safetensors, the readout of its objective; train it anew.")
        window, words = trained_window(component), KnownWords.beside(component)
        model = cls(load_base(base), Component.load(component), load_file(heads), window, words)
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
            text: what may be misspelt; characters outside the alphabet stay as they are.
            num_alternatives: how many other readings to give, from 0.
            min_confidence: 0 to 1; a change is made where its probability is at least that high: of the new reading of
                a word where words are known, of the single edit where not.
            max_rounds: the text is read again after changes, at most so often, from 1: of several missing letters in
                a row each round finds one.

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
        """The pieces of a text, words as a rule, each with its readings."""
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
        """What the model says of an anchor and the ids of a text, which is read between two marks, as in training."""
        ids = np.concatenate([[END], self.preprocessor.encode(text).astype(np.int64), [END]])
        pieces = split_windows([len(ids)], self._window)
        rows, device = [], device_of(self._head)
        with torch.inference_mode():
            for piece in pieces:
                batch = torch.from_numpy(ids[piece.start : piece.start + piece.size])[None].to(device)
                rows.append(self._encoder(batch)[0].float().cpu().numpy())
            features = torch.from_numpy(join_windows(rows, pieces, [len(ids)])[0]).to(device)
            heads = self._head(features, torch.from_numpy(classes(ids)).to(device))
            scores = torch.stack([logits.log_softmax(-1) for logits in heads], dim=1).double().cpu().numpy()
        return Decisions.of(ids[:-1], scores[:-1])


def changes(original: str, corrected: str) -> list[Change]:
    """What differs between two texts, as few characters as can be."""
    matcher = SequenceMatcher(None, original, corrected, autojunk=False)
    return [
        Change(start, end, corrected[new_start:new_end])
        for tag, start, end, new_start, new_end in matcher.get_opcodes()
        if tag != "equal"
    ]


def _joined(pieces: list[Piece]) -> str:
    return "".join(piece.readings[piece.chosen].text for piece in pieces)


def _others(text: str, pieces: list[Piece], number: int) -> Iterator[tuple[str, float]]:
    """The likeliest other readings of `text`, of single pieces and of several together."""
    options = [
        Option(piece.readings[0].score - reading.score, place, choice)
        for place, piece in enumerate(pieces)
        for choice, reading in enumerate(piece.readings[: _OTHERS + 1])
        if choice
    ]
    own = sum(piece.readings[0].score - piece.readings[piece.chosen].score for piece in pieces)
    seen = {text}
    for cost, deviations in cheapest(sorted(options)):
        if len(seen) > number:
            return
        chosen = [0] * len(pieces)
        for option in deviations:
            chosen[option.place] = option.choice
        reading = "".join(piece.readings[choice].text for piece, choice in zip(pieces, chosen, strict=True))
        if reading not in seen:
            seen.add(reading)
            yield reading, float(np.exp(own - cost))
