"""The characters probe: predicts masked characters; measured in bits."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from cclm_core.corpus.masking import mask_spans
from cclm_core.corpus.windows import Windows
from cclm_core.evaluation.baselines.base import CharacterBaseline, Masked
from cclm_core.evaluation.linear_probe import LinearProbe, LinearProbeConfig, fit
from cclm_core.evaluation.metrics import Floats, Measurement, ratio
from cclm_core.evaluation.probe import Context, NotMeasurable, Probe, ProbeResult
from cclm_core.evaluation.reading import Reader
from cclm_core.evaluation.views import View
from cclm_core.runtime.config import Config
from cclm_core.runtime.random import derive, derive_seed
from cclm_core.text.vocabulary import MASK

_MAX_RUN = 1 << 20  # ids that baselines count at once


class CharactersProbeConfig(Config):
    """Masked characters, predicted from the features at their positions.

    Attributes:
        linear_probe: how the probe is fitted.
    """

    probe: Literal["characters"] = "characters"
    window: int = Field(default=256, ge=2, description="ids per window")
    train_windows: int = Field(default=800, ge=1, description="windows of the train split to fit the probe on")
    test_windows: int = Field(default=300, ge=1, description="windows of the test split to measure")
    rate: float = Field(default=0.15, gt=0, lt=1, description="share of the characters to mask")
    mean_span: float = Field(default=2.5, ge=1, description="mean length of a masked span, in characters")
    smoothing: float = Field(default=1e-4, gt=0, lt=1, description="probability mass spread evenly over all ids")
    linear_probe: LinearProbeConfig = LinearProbeConfig()

    def build(self, context: Context) -> "CharactersProbe":
        """The unfitted probe."""
        return CharactersProbe(self, context)

    def metric_names(self, test_sets: Sequence[str]) -> list[str]:  # noqa: ARG002 - for other probes
        """The names of the metrics; they need no test set."""
        return [_BITS]


class CharactersProbe(Probe):
    """Predicts masked characters from all features, and from those without each component."""

    def __init__(self, config: CharactersProbeConfig, context: Context) -> None:
        self._config, self._context = config, context
        self._baselines = {
            name: baseline for name, baseline in context.baselines.items() if isinstance(baseline, CharacterBaseline)
        }
        self._fitted: list[tuple[View, MaskedProbe]] = []

    def fit(self) -> dict[str, float]:
        """See `Probe.fit`."""
        for split in ("train", "test"):
            if not self._context.documents(split)["length"].sum():
                raise NotMeasurable(f"the {split} split has no text of these variants")
        windows = self._windows("train")
        masked, _ = self._masked(windows, "train", self._config.train_windows)
        runs = list(_runs(windows))
        for baseline in self._baselines.values():
            baseline.fit(runs, masked)
        features = masked_features(self._context.reader, masked)
        held_out = self._held_out()
        fitted: dict[tuple[str, ...], MaskedProbe] = {}

        def score(views: Sequence[View]) -> list[float] | None:
            """Fits probes; their negative bits on held-out text."""
            for view in views:
                fitted[view.read] = fit_masked(masked, view.of(features), self._config, self._context.seed)
            if held_out is None:
                return None
            return [-float(self._bits(fitted[view.read], held_out[0], view.of(held_out[1])).mean()) for view in views]

        self._fitted = [(view, fitted[view.read]) for view in self._context.parts.views(score)]
        self.read = self._fitted[0][0].read
        return {}

    def _held_out(self) -> tuple[Masked, Tensor] | None:
        """Masked characters of the validation split and their features, to compare views; None without such text."""
        if not self._context.parts.columns or not self._context.documents("validation")["length"].sum():
            return None
        masked, _ = self._masked(self._windows("validation"), "validation", self._config.test_windows)
        return masked, masked_features(self._context.reader, masked)

    def _bits(self, probe: "MaskedProbe", masked: Masked, features: Tensor) -> Floats:
        return probe.bits(masked, features, self._context.corpus.preprocessor.num_ids, self._config.smoothing)

    def measure(self) -> ProbeResult:
        """See `Probe.measure`."""
        windows = self._windows("test")
        masked, starts = self._masked(windows, "test", self._config.test_windows)
        features = masked_features(self._context.reader, masked)
        lengths = self._context.documents("test")["length"].to_numpy(np.int64)
        documents = _documents(masked, starts, lengths)
        measured = {
            view.left_out: _measurement(self._bits(probe, masked, view.of(features)), documents)
            for view, probe in self._fitted
        }
        baselines = {
            name: {_BITS: _measurement(baseline.bits(masked), documents)} for name, baseline in self._baselines.items()
        }
        without = {left_out: {_BITS: bits} for left_out, bits in measured.items() if left_out}
        return ProbeResult({_BITS: measured[""]}, baselines, without)

    def _windows(self, split: str) -> Windows:
        return Windows(self._context.corpus.split(split), self._config.window, self._context.variants)

    def _masked(self, windows: Windows, split: str, number: int) -> tuple[Masked, npt.NDArray[np.int64]]:
        """Masked windows, and the position of each in the documents of this split, joined by END marks."""
        seed = self._context.seed
        draw = derive_seed(seed, "evaluation", "windows", split)
        masked = mask_windows(windows.fixed(number, draw).ids, self._config, seed, split)
        return masked, windows.fixed_order(number, draw) * self._config.window


_BITS = "bits_per_masked_character"


class MaskedProbe(NamedTuple):
    """A linear probe of masked characters.

    Attributes:
        known: (C,) int64, the ids that it can predict, sorted.
        probe: the linear probe. Its classes are indices into `known`.
    """

    known: npt.NDArray[np.int64]
    probe: LinearProbe

    def bits(self, masked: Masked, features: Tensor, num_ids: int, smoothing: float) -> Floats:
        """Bits (N,) of the masked characters.

        Args:
            masked: N masked characters.
            features: (N, W) at their positions.
            num_ids: size of the vocabulary.
            smoothing: probability mass spread evenly over all ids, so that the bits of unknown ids are finite.
        """
        log_probabilities = self.probe.log_probabilities(features).double().numpy()
        columns = np.searchsorted(self.known, masked.ids).clip(max=len(self.known) - 1)
        known = np.exp(log_probabilities[np.arange(len(columns)), columns]) * (self.known[columns] == masked.ids)
        bits: Floats = -np.log2((1 - smoothing) * known + smoothing / num_ids)
        return bits


def fit_masked(masked: Masked, features: Tensor, config: CharactersProbeConfig, seed: int) -> MaskedProbe:
    """Fits a linear probe on the features (N, W) of masked characters. `seed` shuffles the rows."""
    known = np.unique(masked.ids)
    targets = torch.from_numpy(np.searchsorted(known, masked.ids))
    # Renaming "readout" would change the random order for every seed.
    generator = derive(seed, "evaluation", "readout", "characters")
    probe = fit(features, targets, torch.ones(len(targets)), len(known), config.linear_probe, generator)
    return MaskedProbe(known, probe)


def mask_windows(ids: npt.NDArray[np.int64], config: CharactersProbeConfig, seed: int, split: str) -> Masked:
    """Masks spans in windows `ids` (B, L), like the objective `masked_characters`; seeded with `seed` and `split`."""
    generator = derive(seed, "evaluation", "masks", split)
    spans = mask_spans(torch.from_numpy(ids), config.rate, config.mean_span, generator)
    shown, mask = (tensor.numpy() for tensor in spans)
    padded = np.pad(shown, ((0, 0), (1, 1)), constant_values=MASK)
    return Masked(shown, np.flatnonzero(mask), ids[mask], padded[:, :-2][mask], padded[:, 2:][mask])


def masked_features(reader: Reader, masked: Masked) -> Tensor:
    """Features (N, W) at the masked positions."""
    length = masked.shown.shape[1]
    rows = max(1, reader.batch_characters // length)
    features = torch.empty(len(masked.positions), reader.width)
    for first in range(0, len(masked.shown), rows):
        batch = masked.shown[first : first + rows]
        begin, end = np.searchsorted(masked.positions, [first * length, (first + len(batch)) * length]).tolist()
        positions = torch.from_numpy(masked.positions[begin:end] - first * length)
        features[begin:end] = reader.read(batch).flatten(0, 1)[positions]
    return features


def _documents(masked: Masked, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The document (N,) of each masked character, numbered from 0 without gaps.

    Args:
        masked: N masked characters in B windows.
        starts: (B,) position of each window in the joined documents.
        lengths: lengths of the documents, without the END mark after each.
    """
    rows, columns = np.divmod(masked.positions, masked.shown.shape[1])
    ends = np.cumsum(lengths + 1)
    documents: npt.NDArray[np.int64] = np.unique(
        np.searchsorted(ends, starts[rows] + columns, side="right"), return_inverse=True
    )[1]
    return documents


def _measurement(bits: Floats, documents: npt.NDArray[np.int64]) -> Measurement:
    return ratio(np.bincount(documents, bits), np.bincount(documents), "lower", headline=True)


def _runs(windows: Windows) -> Iterable[npt.NDArray[np.uint16]]:
    """All ids in `windows`, in runs of at most `_MAX_RUN`."""
    for start, end in zip(windows.starts.tolist(), windows.ends.tolist(), strict=True):
        for first in range(start, end, _MAX_RUN):
            yield windows.split.ids[first : min(first + _MAX_RUN, end)]
