"""Pretrainers: train one component on a list of strings or a dataset, with the training loop of the pipeline.

```
pretrainer = CharacterMaskPretrainer(embedder)
curve = pretrainer.fit(texts, epochs=10)
composed = ComposedModel(embedder, [pretrainer.model])
```
"""

import copy
import math
import os
import re
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cclm_core.composition.component import Component
from cclm_core.composition.store import save
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.encoders.embedder import Base
from cclm_core.noise.recipe import NoiseRecipe, TrainingNoise
from cclm_core.objectives.base import NO_NOISE, Objective
from cclm_core.objectives.catalogue import (
    MaskedCharactersConfig,
    MaskedWordsConfig,
    NextCharactersConfig,
    ObjectiveConfig,
)
from cclm_core.pretraining.texts import Division, divide, encode_texts
from cclm_core.runtime.artifacts import file_digest
from cclm_core.runtime.config import digest
from cclm_core.runtime.device import device_of
from cclm_core.runtime.errors import ConfigError, TrainingError
from cclm_core.runtime.random import derive_seed
from cclm_core.runtime.reporting import Report, null_report, reporting
from cclm_core.text.vocabulary import TargetsConfig
from cclm_core.text.word_targets import WordTargets
from cclm_core.training.component import component_card, component_module, new_component
from cclm_core.training.config import ComponentConfig, TrainingConfig
from cclm_core.training.loop import Data
from cclm_core.training.module import Point
from cclm_core.training.run import Artifact, Identity, TrainingInputs, TrainingRun, load_misspellings, publish

_MAX_WARMUP_STEPS = 50  # unless `warmup_steps` is set


@dataclass(frozen=True)
class _FitResult:
    """The result of a call of `fit`, and the identity that it depends on."""

    component: Component
    objective: Objective
    curve: list[Point]
    identity: Identity


class Pretrainer:
    """Trains one component on one objective, over a frozen embedder or together with it.

    Use it for any objective that needs only text. Each subclass has a default objective.

    Args:
        embedder: the shared base of all components: an `Embedder`, or a `ComposedModel` to train over.
        task: the objective and its settings; None for the default of the class.
        name: name of the component: letters, digits, `_` and `-`. None for the name of the objective.
        encoder: architecture of the component; None for the default in `params.yaml`.
        independent: give the component its own embedding instead of the features of the embedder.
        origin: components with the same origin start from the same weights; None for the name of the component.
        train_base: if True, `fit` trains the embedder too, then freezes it; `ComposedModel` refuses components that
            were fitted on it before. If False, the embedder must be frozen and is not changed. If None, `fit` trains
            an embedder that is not frozen yet, so the first pretrainer trains a new embedder.
        noise: typing errors on the training input, drawn again for every batch; None for clean input.
        words: which words to predict, for objectives that predict words. The first call of `fit` selects them from its
            texts.
        seed: seed of initial weights, batches, masks and noise.

    Raises:
        ConfigError: contradictory settings, an objective that does not match the class, or an invalid name.
        CompositionError: a causal component over a bidirectional embedder.
    """

    task_type: ClassVar[type[Any] | None] = None
    """Configuration class of the default objective, if there is one."""

    is_causal: ClassVar[bool] = False
    """Whether the default encoder is causal."""

    def __init__(
        self,
        embedder: Base,
        task: ObjectiveConfig | None = None,
        *,
        name: str | None = None,
        encoder: EncoderConfig | None = None,
        independent: bool = False,
        origin: str | None = None,
        train_base: bool | None = None,
        noise: NoiseRecipe | None = None,
        words: TargetsConfig | None = None,
        seed: int = 1,
    ) -> None:
        task = self._task(task)
        self.embedder, self.name, self.seed, self.train_base = embedder, name or task.objective, seed, train_base
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ConfigError(f"`name` must consist of letters, digits, _ and -, got {self.name!r}.")
        if train_base and independent:
            raise ConfigError(
                "`train_base` and `independent` cannot both be true: an independent component does not use the base. "
                "Set one of them to False."
            )
        if encoder is None:
            encoder = ComponentConfig(task=task).encoder.model_copy(update={"causal": self.is_causal})
        settings = {"task": task, "independent": independent, "origin": origin, "encoder": encoder}
        self.config = ComponentConfig.parse(settings, type(self).__name__)
        self.noise = _training_noise(noise)
        self.words = words or self._default_words()
        self._misspellings = load_misspellings(self.noise)
        self._last: _FitResult | None = None
        component_card(embedder, self.name, self.config)  # raises for a causal component over a bidirectional embedder

    @property
    def model(self) -> Component:
        """The component that the last call of `fit` trained.

        Raises:
            TrainingError: `fit` has not been called.
        """
        return self._fitted.component

    @property
    def objective(self) -> Objective:
        """The objective with its trained head.

        Raises:
            TrainingError: `fit` has not been called.
        """
        return self._fitted.objective

    def fit(
        self,
        texts: Any,
        *,
        epochs: float | None = None,
        steps: int | None = None,
        column: str | None = None,
        validation: Any = None,
        held_out: float = 0.1,
        checkpoints: str | os.PathLike[str] | None = None,
        progress: bool | None = None,
        **training: Any,
    ) -> list[Point]:
        """Trains on texts and returns the learning curve, a list of `Point`.

        A failed or interrupted call changes nothing. A further call continues from the last weights and the current
        embedder, as a new training with its own batches, warm-up and decay.

        Args:
            texts: a list of strings or a `datasets.Dataset`. Empty texts are skipped.
            epochs: approximate number of passes over the texts.
            steps: number of steps, instead of `epochs`.
            column: column of a dataset to read; None for the first string column.
            validation: a list or dataset of texts to evaluate on. They are excluded from training. None to hold out
                some of `texts`.
            held_out: approximate share of the distinct texts to hold out, in (0, 1). Always the same texts.
            checkpoints: folder for checkpoints. Pretrainers with different names can share it. An interrupted call is
                resumed and a finished call is restored, as long as nothing that the result depends on has changed.
            progress: draw a progress bar; None to draw it only on a terminal.
            training: keys of `TrainingConfig`, such as `batch_size=16, window=128, threads=4`. The default warm-up is
                a tenth of the steps, at most 50.

        Raises:
            ConfigError: an unknown or invalid setting, `train_base=False` with an embedder that is not frozen, or an
                objective that needs a causal component.
            DataError: not texts, or too few texts.
            TrainingError: the loss is not finite, or another process runs this training.
        """
        config = _parsed(training, epochs, steps)
        train_base = self._is_base_trained()
        division = divide(texts, column, validation, held_out)
        with tempfile.TemporaryDirectory(prefix="cclm-") as folder:
            with _bar(f"{self.name}: reading", progress) as report:
                corpus = encode_texts(division, self.embedder.preprocessor, Path(folder), report)
            inputs = self._inputs(corpus, division)
            data = inputs.data(config)
            config = _scheduled(config, data, epochs, "warmup_steps" in training)
            with _bar(self.name, progress) as report:
                store = None if checkpoints is None else Path(checkpoints)
                self._last = self._train(inputs, data, config, train_base, store, report)
        return self._last.curve

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Publishes the component with its head, curve and metrics at `folder`, like the stage `pretrain`.

        Raises:
            TrainingError: `fit` has not been called.
            ArtifactError: `folder` is a file, or another process is writing to it.
        """
        last = self._fitted
        artifact = Artifact("component", last.component, save, last.objective)
        publish(Path(folder), artifact, last.curve, last.identity)

    @property
    def _fitted(self) -> _FitResult:
        if self._last is None:
            raise TrainingError(f"the pretrainer {self.name!r} is not fitted. Call `fit` first.")
        return self._last

    def _task(self, task: ObjectiveConfig | None) -> ObjectiveConfig:
        expected = self.task_type
        if task is None:
            if expected is None:
                raise ConfigError(
                    "`task` is missing. Pass the configuration of an objective, for example CharactersConfig()."
                )
            default: ObjectiveConfig = expected()
            return default
        if expected is not None and not isinstance(task, expected):
            raise ConfigError(
                f"`task` of {type(self).__name__} must be a {expected.__name__}, got {type(task).__name__}. Use "
                "`Pretrainer` for other objectives."
            )
        return task

    def _default_words(self) -> TargetsConfig | None:
        return None

    def _train(
        self,
        inputs: TrainingInputs,
        data: Data,
        config: TrainingConfig,
        train_base: bool,
        checkpoints: Path | None,
        report: Report,
    ) -> _FitResult:
        base, component, objective = self._parts(inputs, train_base)
        identity = self._identity(inputs, config, train_base)
        module = component_module(base, component, objective, train_base).to(device_of(base)).train()
        seed = derive_seed(self.seed, "pretrain", self.name, identity.call or 1)
        run = TrainingRun(identity, seed, module, data, config)
        curve = run.fit(checkpoints, f"{self.name}-{identity.call}", report)
        if train_base:
            self.embedder.load_state_dict(base.state_dict())
            self.embedder.freeze().adopt_base()
        if not self.config.independent:
            component.card = component.card.model_copy(update={"base_digest": self.embedder.digest})
        return _FitResult(component.eval(), objective.eval(), curve, identity)

    def _is_base_trained(self) -> bool:
        if self.config.independent:
            return False
        is_frozen = not any(parameter.requires_grad for parameter in self.embedder.parameters())
        if self.train_base is None:
            return not is_frozen
        if not self.train_base and not is_frozen:
            raise ConfigError(
                "the embedder must be frozen if `train_base=False`. Call `embedder.freeze()`, or pass "
                "`train_base=True` to train it together with the component."
            )
        return self.train_base

    def _inputs(self, corpus: EncodedCorpus, division: Division) -> TrainingInputs:
        words = None
        if self.words is not None and self._last is None:  # later calls keep the words of the first call
            targets = WordTargets.fit(division.training(), self.words, corpus.preprocessor)
            words = targets.with_counts(division.training())
        return TrainingInputs(corpus=corpus, noise=self.noise, misspellings=self._misspellings, words=words)

    def _parts(self, inputs: TrainingInputs, train_base: bool) -> tuple[Base, Component, Objective]:
        """The base, component and objective to train: new ones in the first call, copies of the last ones later.

        The base is a copy too if it is trained.
        """
        base = self.embedder
        if train_base or self.config.independent:
            base = copy.deepcopy(self.embedder).requires_grad_(train_base)
        if self._last is None:
            return base, *new_component(base, self.name, self.config, self.seed, inputs)
        return base, *copy.deepcopy((self._last.component, self._last.objective))

    def _identity(self, inputs: TrainingInputs, config: TrainingConfig, train_base: bool) -> Identity:
        """Everything that the result of this call of `fit` depends on, including earlier calls."""
        last, corpus = self._last, inputs.corpus
        files = [corpus.folder / f"{split}.ids.bin" for split in ("train", "validation")]
        identity = Identity(
            name=self.name,
            seed=self.seed,
            call=1 if last is None else (last.identity.call or 0) + 1,
            after=None if last is None else digest(last.identity.canonical()),
            data=digest([file_digest(file) for file in files]),
            vocabulary=corpus.preprocessor.digest,
            base=self.embedder.digest,
            train_base=train_base,
            configuration=self.config.model_copy(update={"training": config}).canonical(),
            noise=inputs.noise_identity(),
        )
        return identity if self.words is None else identity.model_copy(update={"words": self.words.canonical()})


class CharacterMaskPretrainer(Pretrainer):
    """Trains a component to predict masked characters and spans; see `MaskedCharactersConfig`."""

    task_type = MaskedCharactersConfig


class CausalLanguagePretrainer(Pretrainer):
    """Trains a causal language model: a component that predicts the next characters; see `NextCharactersConfig`.

    The default encoder is causal. So the embedder must be causal, or the component must be `independent`.
    """

    task_type = NextCharactersConfig
    is_causal = True


class MaskedLanguagePretrainer(Pretrainer):
    """Trains a component to predict masked words; see `MaskedWordsConfig`.

    `words` configures which words can be predicted. The default is that of the preprocessor, or `TargetsConfig()`.
    """

    task_type = MaskedWordsConfig

    def _default_words(self) -> TargetsConfig:
        return self.embedder.preprocessor.config.words or TargetsConfig()


def _training_noise(noise: NoiseRecipe | None) -> TrainingNoise:
    if noise is None:
        return NO_NOISE
    return noise if isinstance(noise, TrainingNoise) else TrainingNoise(**noise.model_dump())


def _parsed(training: dict[str, Any], epochs: float | None, steps: int | None) -> TrainingConfig:
    """The training configuration. With `epochs`, `steps` is 0 until the number of steps per epoch is known."""
    if (epochs is None) == (steps is None):
        raise ConfigError(f"`fit` needs either `epochs` or `steps`, got epochs={epochs} and steps={steps}.")
    if epochs is not None and not 0 < epochs < math.inf:
        raise ConfigError(f"`epochs` must be a finite number above 0, got {epochs}.")
    return TrainingConfig.parse({**training, "steps": steps or 0}, "fit")


def _scheduled(config: TrainingConfig, data: Data, epochs: float | None, is_warmup_given: bool) -> TrainingConfig:
    steps = config.steps
    if epochs is not None:
        steps = math.ceil(epochs * data.training.batches_per_epoch(config.batch_size) / config.accumulate)
    warmup = config.warmup_steps if is_warmup_given else min(_MAX_WARMUP_STEPS, steps // 10)
    return config.model_copy(update={"steps": steps, "warmup_steps": warmup})


def _bar(name: str, progress: bool | None) -> AbstractContextManager[Report]:
    """A report that draws a progress bar, or a null_report one."""
    is_drawn = sys.stderr.isatty() if progress is None else progress
    return reporting(name, None, bar=True) if is_drawn else nullcontext(null_report)
