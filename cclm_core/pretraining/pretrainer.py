"""Pretraining on a list of strings or a dataset: one component per pretrainer, by the training loop of the pipeline.

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
from cclm_core.composition.store import write
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
from cclm_core.runtime.reporting import Report, reporting, silent
from cclm_core.text.vocabulary import TargetsConfig
from cclm_core.text.word_targets import WordTargets
from cclm_core.training.component import component_card, component_module, new_component
from cclm_core.training.config import ComponentConfig, TrainingConfig
from cclm_core.training.loop import Data
from cclm_core.training.module import Point
from cclm_core.training.run import Artifact, Identity, TrainingInputs, TrainingRun, load_misspellings, publish

_MAX_WARMUP_STEPS = 50  # of a training whose warm-up is not given


@dataclass(frozen=True)
class _Fitted:
    """The result of the last call of `fit`, and everything that it depends on."""

    component: Component
    objective: Objective
    curve: list[Point]
    identity: Identity


class Pretrainer:
    """Trains one component on one objective, over a frozen embedder or together with it.

    Any objective that needs text alone can be given. The subclasses have one by default.

    Args:
        embedder: the common base of all components: an `Embedder`, or a `ComposedModel` to train over.
        task: the objective and its settings; the default of the class if None.
        name: name of the component, of letters, digits, `_` and `-`; the name of the objective if None.
        encoder: the shape of the component; if None, the default of components in `params.yaml`.
        independent: whether the component gets its own embedding instead of the features of the embedder.
        origin: components with the same origin start from the same weights; its own name if None.
        train_base: whether `fit` trains the embedder too and then freezes it, after which `ComposedModel` refuses
            components that were fitted on it before. If None, `fit` trains an embedder that is not frozen yet, as the
            first pretrainer over a new one does. If False, the embedder must be frozen, and is not changed.
        noise: typing errors on the input in training, drawn again for every batch; none if None.
        words: which words the objective predicts, for one that predicts words. They are found in the texts of the
            first call of `fit`.
        seed: of the first weights, and of the batches, masks and noise.

    Raises:
        ConfigError: settings that contradict each other, an objective of another class, or a name that is not allowed.
        CompositionError: a causal component over an embedder that is not causal.
    """

    task_type: ClassVar[type[Any] | None] = None
    """The configuration class of the objective, for a subclass with a default one."""

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
                "`train_base` and `independent` cannot both be true: an independent component reads no base."
            )
        if encoder is None:
            encoder = ComponentConfig(task=task).encoder.model_copy(update={"causal": self.is_causal})
        given = {"task": task, "independent": independent, "origin": origin, "encoder": encoder}
        self.config = ComponentConfig.parse(given, type(self).__name__)
        self.noise = _training_noise(noise)
        self.words = words or self._default_words()
        self._misspellings = load_misspellings(self.noise)
        self._fitted: _Fitted | None = None
        component_card(embedder, self.name, self.config)  # refuses a causal component over another embedder

    @property
    def model(self) -> Component:
        """The component that the last call of `fit` trained; raises TrainingError before the first."""
        return self._last.component

    @property
    def objective(self) -> Objective:
        """The objective with its trained head; raises TrainingError before the first call of `fit`."""
        return self._last.objective

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

        A call that fails or is interrupted changes nothing. Another call continues from the weights of the last one,
        over the embedder as it is then; it is a new training with its own batches, warm-up and decay.

        Args:
            texts: a list of strings, or a `datasets.Dataset`; empty texts are skipped.
            epochs: about how often all texts are read.
            steps: the number of steps, instead of `epochs`.
            column: the column of a dataset to read; the first one with strings if None.
            validation: texts to evaluate on, of either kind, which are not trained on; if None, some are held out.
            held_out: about which share of the distinct texts is held out, always the same ones.
            checkpoints: a folder, which pretrainers with different names may share. An interrupted call is resumed from
                it, and a finished one is not repeated, as long as everything that it depends on is the same.
            progress: whether to draw a progress bar; if None, only on a terminal.
            training: keys of `TrainingConfig`, e.g. `batch_size=16, window=128, threads=4`. The default warm-up is a
                tenth of the steps, at most 50.

        Raises:
            ConfigError: an unknown or invalid setting, an embedder that is not frozen with `train_base=False`, or an
                objective that needs a causal component.
            DataError: not texts, or too few of them.
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
                self._fitted = self._train(inputs, data, config, train_base, store, report)
        return self._fitted.curve

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Publishes the component with its head, curve and metrics at `folder`, as the stage `pretrain` does.

        Raises:
            TrainingError: `fit` was not called yet.
            ArtifactError: `folder` is a file, or another process is writing it.
        """
        last = self._last
        artifact = Artifact("component", last.component, write, last.objective)
        publish(Path(folder), artifact, last.curve, last.identity)

    @property
    def _last(self) -> _Fitted:
        if self._fitted is None:
            raise TrainingError(f"the pretrainer {self.name!r} was not fitted yet. Call `fit` first.")
        return self._fitted

    def _task(self, task: ObjectiveConfig | None) -> ObjectiveConfig:
        expected = self.task_type
        if task is None:
            if expected is None:
                raise ConfigError("`task` is missing. Give the configuration of an objective, e.g. CharactersConfig().")
            default: ObjectiveConfig = expected()
            return default
        if expected is not None and not isinstance(task, expected):
            raise ConfigError(
                f"`task` of a {type(self).__name__} must be a {expected.__name__}, got {type(task).__name__}. Use "
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
    ) -> _Fitted:
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
        return _Fitted(component.eval(), objective.eval(), curve, identity)

    def _is_base_trained(self) -> bool:
        if self.config.independent:
            return False
        is_frozen = not any(parameter.requires_grad for parameter in self.embedder.parameters())
        if self.train_base is None:
            return not is_frozen
        if not self.train_base and not is_frozen:
            raise ConfigError(
                "the embedder must be frozen to train a component over it with `train_base=False`. Call "
                "`embedder.freeze()` to keep it as it is, or give `train_base=True` to train it together with the "
                "component."
            )
        return self.train_base

    def _inputs(self, corpus: EncodedCorpus, division: Division) -> TrainingInputs:
        words = None
        if self.words is not None and self._fitted is None:  # later calls keep the words of the first one
            targets = WordTargets.fit(division.training(), self.words, corpus.preprocessor)
            words = targets.counted(division.training())
        return TrainingInputs(corpus=corpus, noise=self.noise, misspellings=self._misspellings, words=words)

    def _parts(self, inputs: TrainingInputs, train_base: bool) -> tuple[Base, Component, Objective]:
        """Base, component and objective to train: new ones in the first call, later copies of the last ones.

        The embedder itself is returned only where it is read and not trained.
        """
        base = self.embedder
        if train_base or self.config.independent:
            base = copy.deepcopy(self.embedder).requires_grad_(train_base)
        if self._fitted is None:
            return base, *new_component(base, self.name, self.config, self.seed, inputs)
        return base, *copy.deepcopy((self._fitted.component, self._fitted.objective))

    def _identity(self, inputs: TrainingInputs, config: TrainingConfig, train_base: bool) -> Identity:
        """Everything that the result of this call of `fit` depends on, earlier calls included."""
        last, corpus = self._fitted, inputs.corpus
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
    """Masks characters and spans of text, and trains a component to predict them; see `MaskedCharactersConfig`."""

    task_type = MaskedCharactersConfig


class CausalLanguagePretrainer(Pretrainer):
    """Trains a language model: a component that predicts the next characters; see `NextCharactersConfig`.

    The default encoder is causal. The embedder must be causal too, or the component `independent`.
    """

    task_type = NextCharactersConfig
    is_causal = True


class MaskedLanguagePretrainer(Pretrainer):
    """Masks words of text, and trains a component to predict them; see `MaskedWordsConfig`.

    Which words can be predicted is configured by `words`; if None, by the preprocessor, or as `TargetsConfig()`.
    """

    task_type = MaskedWordsConfig

    def _default_words(self) -> TargetsConfig:
        return self.embedder.preprocessor.config.words or TargetsConfig()


def _training_noise(noise: NoiseRecipe | None) -> TrainingNoise:
    if noise is None:
        return NO_NOISE
    return noise if isinstance(noise, TrainingNoise) else TrainingNoise(**noise.model_dump())


def _parsed(training: dict[str, Any], epochs: float | None, steps: int | None) -> TrainingConfig:
    """The configuration of a training; `steps` is 0 until the number of steps per epoch is known."""
    if (epochs is None) == (steps is None):
        raise ConfigError(f"`fit` needs either `epochs` or `steps`, got {epochs} and {steps}.")
    if epochs is not None and not 0 < epochs < math.inf:
        raise ConfigError(f"`epochs` must be above 0, got {epochs}.")
    return TrainingConfig.parse({**training, "steps": steps or 0}, "fit")


def _scheduled(config: TrainingConfig, data: Data, epochs: float | None, is_warmup_given: bool) -> TrainingConfig:
    steps = config.steps
    if epochs is not None:
        steps = math.ceil(epochs * data.training.batches_per_epoch(config.batch_size) / config.accumulate)
    warmup = config.warmup_steps if is_warmup_given else min(_MAX_WARMUP_STEPS, steps // 10)
    return config.model_copy(update={"steps": steps, "warmup_steps": warmup})


def _bar(name: str, progress: bool | None) -> AbstractContextManager[Report]:
    """A report that draws a progress bar, or does nothing."""
    is_drawn = sys.stderr.isatty() if progress is None else progress
    return reporting(name, None, bar=True) if is_drawn else nullcontext(silent)
