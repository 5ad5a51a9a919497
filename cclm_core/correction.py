"""Correcting misspelt text with a component that was trained by the objective `denoise`."""

import heapq
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cclm_core.composition.component import Component, OverBase
from cclm_core.composition.loading import WINDOW, load_base, trained_window
from cclm_core.composition.windows import join_windows, split_windows
from cclm_core.device import chosen_device, device_of
from cclm_core.embedder import Base
from cclm_core.errors import ArtifactError, CompositionError, ConfigError
from cclm_core.objectives.denoise import NOTHING
from cclm_core.text.vocabulary import END, FIRST_CHARACTER

_OPTIONS = 4  # ways to decide at a place that alternatives consider


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


class _Option(NamedTuple):
    """One way to decide at a place: what stands there or what is missing behind it, and how much less likely it is."""

    cost: float
    decision: int
    id: int


class _Reading(NamedTuple):
    """A text as it was decided: `chosen` (2 + 2L,) and the other options, by rising cost."""

    text: str
    chosen: npt.NDArray[np.int64]
    options: list[_Option]


class Corrector:
    """Proposes corrections, character by character.

    Args:
        base: the frozen embedder, or composition.
        component: the denoising component that was trained on it.
        heads: the weights that its objective saved, `here` and `behind`.
        window: ids that are read at once, at least 2; a longer text is read in windows that overlap by half. Those of
            its training are best: of longer ones a model has seen nothing.

    Raises:
        CompositionError: the component was trained by another objective, or on another base.
    """

    def __init__(self, base: Base, component: Component, heads: dict[str, Tensor], window: int = WINDOW) -> None:
        assert window >= 2
        if component.card.objective != "denoise":
            raise CompositionError(
                f"a corrector needs a component trained by the objective denoise; {component.card.name!r} was trained "
                f"by {component.card.objective}."
            )
        component.card.check(base)
        self.preprocessor, self._window = base.preprocessor, window
        self._encoder = OverBase(base, component).eval()
        self._here, self._behind = (_linear(heads, name) for name in ("here", "behind"))

    @classmethod
    def load(cls, base: Path, component: Path) -> Self:
        """Reads a base and a component that the pipeline published.

        Raises:
            ArtifactError: a file is missing or damaged.
            CompositionError: see the class.
        """
        heads = component / "head.safetensors"
        if not heads.is_file():
            raise ArtifactError(f"{component} must hold head.safetensors, the readout of its objective; train it anew.")
        model = cls(load_base(base), Component.load(component), load_file(heads), trained_window(component))
        return model.to(chosen_device())

    def to(self, device: torch.device) -> Self:
        """Moves the model to a device, in place."""
        for module in (self._encoder, self._here, self._behind):
            module.to(device)
        return self

    def correct(
        self, text: str, num_alternatives: int = 0, min_confidence: float = 0.5, max_rounds: int = 3
    ) -> Corrected:
        """Corrects a text of any length.

        Args:
            text: what may be misspelt; characters outside the alphabet stay as they are.
            num_alternatives: how many other readings to give, from 0.
            min_confidence: 0 to 1; a change is made where its probability is at least that high.
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
        before, reading = text, self._read(text, min_confidence)
        for _ in range(max_rounds - 1):
            if reading.text == before:
                break
            before = reading.text
            reading = self._read(before, min_confidence)
        others = list(self._others(before, reading, num_alternatives)) if num_alternatives else []
        return Corrected(reading.text, changes(text, reading.text), others)

    def _read(self, text: str, min_confidence: float) -> _Reading:
        """The text with all sure changes made."""
        usual = self._usual(text)
        scores = self._scores(text)
        scores[:, END:FIRST_CHARACTER] = -np.inf  # bytes and marks are never put
        best = scores.argmax(axis=1)
        sure = scores[np.arange(len(best)), best] >= np.log(max(min_confidence, 1e-9))
        chosen = np.where(sure & (usual >= 0), best, usual)
        options = []
        free = np.flatnonzero(usual >= 0)
        for decision, row in zip(free.tolist(), scores[free], strict=True):
            for id_ in np.argpartition(-row, _OPTIONS)[:_OPTIONS].tolist():
                if id_ != chosen[decision] and np.isfinite(row[id_]):
                    options.append(_Option(float(row[chosen[decision]] - row[id_]), decision, id_))
        return _Reading(self._written(text, chosen), chosen, sorted(options))

    def _usual(self, text: str) -> npt.NDArray[np.int64]:
        """(2 + 2L,) what leaves a text as it is: for an anchor and each id, itself and nothing; -1: not to be asked."""
        ids = self.preprocessor.encode(text).astype(np.int64)
        usual = np.full((len(ids) + 1, 2), NOTHING, dtype=np.int64)
        usual[1:, 0] = np.where(ids >= FIRST_CHARACTER, ids, -1)
        usual[0, 0] = -1
        usual[1:, 1][ids < FIRST_CHARACTER] = -1
        return usual.reshape(-1)

    def _scores(self, text: str) -> npt.NDArray[np.float64]:
        """(2 + 2L, V) log-probabilities of what stands at the anchor and each id, and of what is missing behind."""
        ids = np.concatenate([[END], self.preprocessor.encode(text).astype(np.int64)])
        pieces = split_windows([len(ids)], self._window)
        rows, device = [], device_of(self._here)
        with torch.inference_mode():
            for piece in pieces:
                batch = torch.from_numpy(ids[piece.start : piece.start + piece.size])[None].to(device)
                rows.append(self._encoder(batch)[0].float().cpu().numpy())
            features = torch.from_numpy(join_windows(rows, pieces, [len(ids)])[0]).to(device)
            both = torch.stack([head(features).log_softmax(-1) for head in (self._here, self._behind)], dim=1)
        scores: npt.NDArray[np.float64] = both.flatten(0, 1).double().cpu().numpy()
        return scores

    def _written(self, text: str, chosen: npt.NDArray[np.int64]) -> str:
        """The text that decisions make: fixed characters stay."""
        ids = np.concatenate([[END], self.preprocessor.encode(text).astype(np.int64)])
        put = chosen.reshape(-1, 2).copy()
        put[:, 0] = np.where(put[:, 0] == -1, ids, put[:, 0])
        flat = put.reshape(-1)
        return self.preprocessor.decode(flat[(flat > NOTHING)])

    def _others(self, text: str, best: _Reading, number: int) -> Iterator[tuple[str, float]]:
        """The likeliest other readings of `text`, of single decisions and of several together."""
        seen = {best.text}
        for cost, deviations in _cheapest(best.options):
            chosen = best.chosen.copy()
            for option in deviations:
                chosen[option.decision] = option.id
            reading = self._written(text, chosen)
            if reading not in seen:
                seen.add(reading)
                yield reading, float(np.exp(-cost))
            if len(seen) > number:
                return


def changes(original: str, corrected: str) -> list[Change]:
    """What differs between two texts, as few characters as can be."""
    matcher = SequenceMatcher(None, original, corrected, autojunk=False)
    return [
        Change(start, end, corrected[new_start:new_end])
        for tag, start, end, new_start, new_end in matcher.get_opcodes()
        if tag != "equal"
    ]


def _cheapest(options: Sequence[_Option], most: int = 10_000) -> Iterator[tuple[float, list[_Option]]]:
    """Sets of options for different decisions, by rising sum of their costs."""
    if not options:
        return
    # Each set is told by the index of its last option: it is extended by the next, or its last is replaced by the next.
    heap: list[tuple[float, list[int]]] = [(options[0].cost, [0])]
    for _ in range(most):
        if not heap:
            return
        cost, members = heapq.heappop(heap)
        chosen = [options[index] for index in members]
        if len({option.decision for option in chosen}) == len(chosen):
            yield cost, chosen
        following = members[-1] + 1
        if following < len(options):
            step = options[following].cost
            heapq.heappush(heap, (cost + step, [*members, following]))
            heapq.heappush(heap, (cost + step - options[members[-1]].cost, [*members[:-1], following]))


def _linear(heads: dict[str, Tensor], name: str) -> nn.Linear:
    weight = heads[f"{name}.weight"]
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.load_state_dict({"weight": weight, "bias": heads[f"{name}.bias"]})
    return linear.eval()
