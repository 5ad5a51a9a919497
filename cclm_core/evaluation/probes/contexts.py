"""The contexts probe: masked characters, predicted with other texts of the author, of the group, at random, or none."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from cclm_core.corpus.contexts import CONTEXT_TYPES, ContextBatch, ContextName, ContextSampling, ContextTexts
from cclm_core.encoders.contexts import Contexts
from cclm_core.evaluation.baselines.base import Masked
from cclm_core.evaluation.contexts import ContextResult, context_table, evaluate_contexts
from cclm_core.evaluation.linear_probe import LinearProbeConfig
from cclm_core.evaluation.metrics import Bootstrap, Floats, Measurement
from cclm_core.evaluation.probe import Context, NotMeasurable, Probe, ProbeResult
from cclm_core.evaluation.probes.characters import CharactersProbeConfig, MaskedProbe, fit_masked, mask_windows
from cclm_core.runtime.config import Config
from cclm_core.runtime.device import device_of
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.random import derive_seed

_BATCH = 32  # texts


class ContextsProbeConfig(Config):
    """What contexts are worth to a composition that reads them, in bits per masked character.

    Attributes:
        linear_probe: how the probe is fitted.
    """

    probe: Literal["contexts"] = "contexts"
    window: int = Field(default=256, ge=8, description="ids per text; longer texts give a random piece")
    number: int = Field(default=4, ge=1, description="contexts per text, at most")
    characters: int = Field(default=256, ge=8, description="ids per context")
    min_characters: int = Field(default=20, ge=1, description="shorter texts are neither targets nor contexts")
    train_texts: int = Field(default=800, ge=1, description="texts of the train split to fit the probe on")
    test_texts: int = Field(default=300, ge=1, description="texts of the test split to measure")
    rate: float = Field(default=0.15, gt=0, lt=1, description="share of the characters to mask")
    mean_span: float = Field(default=4.0, ge=1, description="mean length of a masked span, in characters")
    smoothing: float = Field(default=1e-4, gt=0, lt=1, description="probability mass spread evenly over all ids")
    linear_probe: LinearProbeConfig = LinearProbeConfig()

    def build(self, context: Context) -> "ContextsProbe":
        """The unfitted probe."""
        return ContextsProbe(self, context)

    def metric_names(self, test_sets: Sequence[str]) -> list[str]:  # noqa: ARG002 - for other probes
        """The names of the metrics; they need no test set."""
        return [_bits_name("author"), *_GAINS]


_GAINS: dict[str, ContextName] = {"author_context_gain": "none", "author_context_gain_over_random": "random"}


def _bits_name(name: ContextName) -> str:
    return f"bits_per_masked_character_{name}_contexts"


class ContextsProbe(Probe):
    """Fits one linear probe on features with contexts of all types in turn, and measures each type on the same texts.

    Test authors and groups do not occur in the train split.
    """

    def __init__(self, config: ContextsProbeConfig, context: Context) -> None:
        self._config, self._context = config, context
        self._settings = CharactersProbeConfig(
            rate=config.rate, mean_span=config.mean_span, linear_probe=config.linear_probe
        )
        self._probe: MaskedProbe | None = None

    def fit(self) -> dict[str, float]:
        """See `Probe.fit`."""
        if not getattr(self._context.reader.encoder, "reads_contexts", False):
            raise NotMeasurable("the composition has no part that reads contexts")
        self._texts("test")  # raises before the work
        texts = self._texts("train")
        batch = texts.fixed(self._config.train_texts, derive_seed(self._context.seed, "evaluation", "contexts"))
        masked, features = self._read(batch, "train")
        self._probe = fit_masked(masked, features, self._settings, self._context.seed)
        return {}

    def measure(self) -> ProbeResult:
        """See `Probe.measure`."""
        texts, seed = self._texts("test"), derive_seed(self._context.seed, "evaluation", "contexts")
        names = [name for name in CONTEXT_TYPES if name != "group" or texts.has_groups]
        conditions = [(name, 0 if name == "none" else self._config.number) for name in names]
        conditions += [("author", number) for number in range(1, self._config.number)]
        results = evaluate_contexts(self._bits, texts, conditions, self._config.test_texts, seed)
        full = {result.name: result for result in reversed(results) if result.number in (0, self._config.number)}
        metrics = {_bits_name(name): full[name].measurement for name in names}
        for metric, other in _GAINS.items():
            metrics[metric] = _gain(full["author"], full[other])
        table = context_table(results, Bootstrap(), self._context.seed)
        return ProbeResult(metrics, tables={"contexts": table})

    def _texts(self, split: str) -> ContextTexts:
        config = self._config
        types: tuple[ContextName, ...] = ("author", "random", "none")
        sampling = ContextSampling(
            number=config.number, characters=config.characters, types=types, min_characters=config.min_characters
        )
        corpus = self._context.corpus
        seen = corpus.split("train") if split == "test" else None
        try:
            return ContextTexts(corpus.split(split), config.window, sampling, seen)
        except DataError as error:
            raise NotMeasurable(str(error)) from error

    def _bits(self, batch: ContextBatch, start: int) -> tuple[Floats, Floats]:
        """The bits (B,) and the numbers (B,) of the masked characters of each text."""
        assert self._probe is not None
        masked, features = self._read(batch, f"test {start}")
        num_ids = self._context.corpus.preprocessor.num_ids
        bits = self._probe.bits(masked, features, num_ids, self._config.smoothing)
        rows = masked.positions // batch.target.ids.shape[1]
        sums, numbers = np.bincount(rows, bits, batch.num_rows), np.bincount(rows, minlength=batch.num_rows)
        return sums.astype(np.float64), numbers.astype(np.float64)

    def _read(self, batch: ContextBatch, name: str) -> tuple[Masked, torch.Tensor]:
        """Masks characters of the texts; the features (N, W) at their positions."""
        ids = batch.target.ids
        masked = mask_windows(ids, self._settings, self._context.seed, f"contexts {name}")
        model: Any = self._context.reader.encoder
        device, parts = device_of(model), []
        for start in range(0, batch.num_rows, _BATCH):
            part = batch.rows(start, start + _BATCH)
            contexts = Contexts(torch.from_numpy(part.contexts), torch.from_numpy(part.types)).to(device)
            with torch.inference_mode():
                features = model(torch.from_numpy(masked.shown[start : start + _BATCH]).to(device), contexts=contexts)
            edges = np.array([start, start + part.num_rows]) * ids.shape[1]
            first, last = np.searchsorted(masked.positions, edges).tolist()
            inside = torch.from_numpy(masked.positions[first:last] - edges[0])
            parts.append(features.float().cpu().flatten(0, 1)[inside])
        return masked, torch.cat(parts)


def _gain(own: ContextResult, other: ContextResult) -> Measurement:
    """How many bits per masked character `own` saves over `other`."""
    gain = own.measurement.loss_without(other.measurement)
    return Measurement(gain.statistics, gain.formula, "higher", headline=True)
