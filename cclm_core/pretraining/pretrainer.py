"""Pretrainers: train one component on a list of strings or a dataset, with the training loop of the pipeline.

```
pretrainer = CharacterMaskPretrainer(embedder)
curve = pretrainer.fit(texts, epochs=10)
composed = ComposedModel(embedder, [pretrainer.model])
```
"""

import copy
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from cclm_core.composition.component import Component, OverBase
from cclm_core.composition.store import load_base, write
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.encoders.embedder import Base
from cclm_core.encoders.pretrained.catalogue import AnyEmbeddingConfig
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.objectives.base import Objective
from cclm_core.objectives.catalogue import ObjectiveConfig
from cclm_core.pretraining.call import Callback, FitCall, FitResult
from cclm_core.pretraining.identity import fit_identity
from cclm_core.pretraining.migration import ARGUMENTS, ATTRIBUTES, FIT
from cclm_core.pretraining.saved import SavedComponent, read_component
from cclm_core.pretraining.settings import parsed_noise, parsed_task, parsed_words
from cclm_core.pretraining.texts import Division, Read, divide, encode_texts, plain_texts
from cclm_core.runtime.device import device_of
from cclm_core.runtime.errors import ConfigError, TrainingError
from cclm_core.runtime.files import StrPath, as_path
from cclm_core.runtime.migration import old_arguments, old_attribute
from cclm_core.runtime.random import derive_seed
from cclm_core.runtime.reporting import Report
from cclm_core.text.texts import is_table
from cclm_core.text.vocabulary import TargetsConfig
from cclm_core.text.word_targets import WordTargets
from cclm_core.training.component import component_card, component_module, new_component, opened
from cclm_core.training.config import ComponentConfig, TrainingConfig
from cclm_core.training.features import cached_features
from cclm_core.training.run import Artifact, TrainingInputs, TrainingRun, load_misspellings, publish
from cclm_core.training.trainee import Data, Point


class Pretrainer:
    """Trains one component on one objective, over a frozen embedder or together with it.

    Use it for any objective that needs only text. Each subclass has a default objective.

    Args:
        embedder: the shared base of all components: an `Embedder`, or a `ComposedModel` to train over.
        task: the objective and its settings; None for the default of the class.
        name: name of the component: letters, digits, `_` and `-`. None for the name of the objective.
        encoder: architecture of the component; None for the default in `params.yaml`.
        independent: give the component its own embedding instead of the features of the embedder.
        embedding: the same, with another configuration, such as a transformers checkpoint; its source is read at once.
        origin: components with the same origin start from the same weights; None for the name of the component.
        train_base: if True, `fit` trains the embedder too, then freezes it; `ComposedModel` refuses components that
            were fitted on it before. The embedder must not be frozen, except by the last call of this `fit`; weights
            of it that you froze stay as they are. If False, the embedder must be frozen and is not changed. If None,
            `fit` trains an embedder that is not frozen yet, so the first pretrainer trains a new embedder.
        noise: typing errors on the training input, drawn again for every batch; None for clean input.
        words: which words to predict or, for `denoise`, to know; None for those of the preprocessor or the default. The
            first call of `fit` selects them from its texts. Only these objectives read it.
        seed: seed of initial weights, batches, masks and noise.

    Raises:
        ConfigError: contradictory settings, an objective that does not match the class, or an invalid name.
        CompositionError: a causal component over a bidirectional embedder.
    """

    task_type: ClassVar[type[Any] | None] = None
    """Configuration class of the default objective, if there is one."""

    is_causal: ClassVar[bool] = False
    """Whether the default encoder is causal."""

    @old_arguments(hints=ARGUMENTS, aliases={"base": "embedder", "task_name": "name"})
    def __init__(
        self,
        embedder: Base,
        task: ObjectiveConfig | Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        encoder: EncoderConfig | Mapping[str, Any] | None = None,
        independent: bool = False,
        embedding: AnyEmbeddingConfig | Mapping[str, Any] | None = None,
        origin: str | None = None,
        train_base: bool | None = None,
        noise: NoiseRecipe | Mapping[str, Any] | None = None,
        words: TargetsConfig | Mapping[str, Any] | None = None,
        seed: int = 1,
    ) -> None:
        if not isinstance(embedder, Base):
            raise ConfigError(f"`embedder` must be an Embedder or a ComposedModel, got {type(embedder).__name__}.")
        task = parsed_task(task, self.task_type, type(self).__name__)
        self.embedder, self.name, self.seed, self.train_base = embedder, name or task.objective, seed, train_base
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ConfigError(f"`name` must consist of letters, digits, _ and -, got {self.name!r}.")
        if train_base and (independent or embedding is not None):
            raise ConfigError(
                "`train_base` and `independent` cannot both be true: an independent component does not use the base. "
                "Set one of them to False."
            )
        if encoder is None:
            encoder = ComponentConfig(task=task).encoder.model_copy(update={"causal": self.is_causal})
        settings = {"task": task, "independent": independent, "origin": origin, "encoder": encoder}
        parsed = ComponentConfig.parse({**settings, "embedding": embedding}, type(self).__name__)
        self.config, self._pretrained = opened(parsed)
        self.noise = parsed_noise(noise)
        self.words = parsed_words(words, task, embedder.preprocessor)
        self._misspellings = load_misspellings(self.noise)
        self._last: FitResult | None = None
        component_card(embedder, self.name, self.config)  # raises for a causal component over a bidirectional embedder

    def __repr__(self) -> str:
        """Class, name, objective, and whether it is fitted."""
        state = "not fitted" if self._last is None else self._last.component.digest[:12]
        return f"{type(self).__name__}({self.name!r}, objective={self.config.objective.objective!r}, {state})"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Explains the attributes of cclm 0.1.2."""
            raise old_attribute(self, name, ATTRIBUTES)

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

    @property
    def curve(self) -> list[Point]:
        """The learning curve of the last call of `fit`.

        Raises:
            TrainingError: `fit` has not been called.
        """
        return list(self._fitted.curve)

    @old_arguments(hints=FIT, aliases={"data": "texts", "validation_data": "validation"})
    def fit(
        self,
        texts: Any,
        *,
        epochs: float | None = None,
        steps: int | None = None,
        column: str | None = None,
        validation: Any = None,
        held_out: float = 0.1,
        callback: Callback | None = None,
        checkpoints: StrPath | None = None,
        progress: bool | None = None,
        **training: Any,
    ) -> list[Point]:
        """Trains on texts and returns the learning curve, a list of `Point`.

        A failed or interrupted call changes nothing. A further call continues from the last weights and the current
        embedder, as a new training with its own batches, warm-up and decay.

        Args:
            texts: a list of strings, a `datasets.Dataset` or another table. Empty texts are skipped.
            epochs: approximate number of passes over the texts.
            steps: number of steps, instead of `epochs`.
            column: column of a table to read; None for `text`, or the only column of strings.
            validation: texts to evaluate on. They are excluded from training. None to hold out some of `texts`.
            held_out: approximate share of the distinct texts to hold out, in (0, 1). Always the same texts.
            callback: called with the step and the values of each new point of the learning curve, as it is measured.
                What it raises stops the training.
            checkpoints: folder for checkpoints. Pretrainers with different names can share it. An interrupted call is
                resumed and a finished call is restored, as long as nothing that the result depends on has changed.
            progress: draw a progress bar; None to draw it only on a terminal.
            training: keys of `TrainingConfig`, such as `batch_size=16, window=128, threads=4`. The default warm-up is
                a tenth of the steps, at most 50.

        Raises:
            ConfigError: an unknown or invalid setting, `train_base` contradicts the frozen or trainable embedder, the
                component is frozen, or an objective that needs a causal component.
            DataError: not texts, or too few texts.
            TrainingError: the loss is not finite, or another process runs this training.
        """
        call = FitCall.of(training, epochs, steps, callback, checkpoints, progress)
        held_out_texts = (
            None if validation is None else plain_texts(validation, column if is_table(validation) else None)
        )
        return self._fit(plain_texts(texts, column), held_out_texts, held_out, call)

    def save(self, folder: StrPath) -> None:
        """Publishes the component with its head, curve and metrics at `folder`, like the stage `pretrain`.

        The head is saved with what its outputs mean: the labels or the words. `load` reads all of it.

        Raises:
            TrainingError: `fit` has not been called.
            ArtifactError: `folder` is a file, or another process is writing to it.
        """
        last = self._fitted
        artifact = Artifact("component", last.component, write, last.objective)
        publish(as_path(folder), artifact, last.curve, last.identity)

    @classmethod
    def load(
        cls,
        folder: StrPath,
        embedder: Base | StrPath | None = None,
        *,
        train_base: bool | None = None,
    ) -> Self:
        """Reads what `save` or the stage `pretrain` published, to use it or to continue its training with `fit`.

        Args:
            folder: the folder of the component.
            embedder: the embedder that it was trained on, or the folder of it, which is then frozen.
            train_base: see the class.

        Raises:
            ConfigError: no embedder is given, or the component has an objective of another class.
            ArtifactError: a folder is missing or damaged.
            CompositionError: the component was trained on another embedder.
        """
        if embedder is None:
            raise ConfigError(
                f"a component needs the embedder that it was trained on. Write `{cls.__name__}.load(folder, embedder)`."
            )
        base = embedder if isinstance(embedder, Base) else load_base(embedder).freeze()
        saved = read_component(as_path(folder), base)
        pretrainer = cls(base, saved.config.objective.canonical(), train_base=train_base, **saved.arguments)
        pretrainer._adopt(saved)
        return pretrainer

    def freeze(self) -> Self:
        """Disables gradients of the trained component and switches it to evaluation mode, as in cclm 0.1.2."""
        self.model.requires_grad_(False).eval()
        return self

    def unfreeze(self) -> Self:
        """Reverts `freeze`."""
        self.model.requires_grad_(True).train()
        return self

    @property
    def _fitted(self) -> FitResult:
        if self._last is None:
            raise TrainingError(f"the pretrainer {self.name!r} is not fitted. Call `fit` first.")
        return self._last

    @property
    def _window(self) -> int:
        """Ids per window in the training."""
        window: int = self._fitted.identity.configuration["training"]["window"]
        return window

    def _over_base(self) -> OverBase:
        """The trained component with its embedder, in evaluation mode; raises if the embedder has changed."""
        self.model.card.check(self.embedder)
        return OverBase(self.embedder, self.model).eval()

    def _adopt(self, saved: SavedComponent) -> None:
        self._misspellings = saved.misspellings
        self._last = FitResult(saved.component.eval(), saved.objective, saved.curve, saved.identity)

    def _fit(self, read: Read, validation: Read | None, held_out: float, call: FitCall) -> list[Point]:
        train_base = self._is_base_trained()
        call = call.with_rate_of(self.config.encoder, *([self.embedder.embedder.config.encoder] if train_base else []))
        division = divide(read, validation, held_out)
        labels = self._labels(division)
        with tempfile.TemporaryDirectory(prefix="cclm-") as folder:
            with call.bar(f"{self.name}: reading") as report:
                corpus = encode_texts(division, self.embedder.preprocessor, labels, Path(folder), report)
            inputs = self._inputs(corpus, division, call.checkpoints)
            data = inputs.data(call.config, self.config.task)
            config = call.scheduled(data)
            with call.bar(self.name) as report:
                self._last = self._train(inputs, data, config, train_base, call.checkpoints, call.reporting(report))
        return self._last.curve

    def _labels(self, division: Division) -> tuple[str, ...]:  # noqa: ARG002
        """The entity labels of the texts, sorted."""
        return ()

    def _train(
        self,
        inputs: TrainingInputs,
        data: Data,
        config: TrainingConfig,
        train_base: bool,
        checkpoints: Path | None,
        report: Report,
    ) -> FitResult:
        base, component, objective = self._parts(inputs, train_base)
        trained = frozenset(name for name, parameter in base.named_parameters() if parameter.requires_grad)
        last = None if self._last is None else self._last.identity
        config_of_call = self.config.model_copy(update={"training": config})
        identity = fit_identity(
            self.name, self.seed, last, self.embedder, base if train_base else None, config_of_call, inputs, self.words
        )
        features = (checkpoints or inputs.corpus.folder) / "features" / self.name
        with cached_features(features, base, component, objective, config, train_base) as cache:
            module = component_module(base, component, objective, train_base, cache).to(device_of(base)).train()
            seed = derive_seed(self.seed, "pretrain", self.name, identity.call or 1)
            run = TrainingRun(identity, seed, module, data, config)
            curve = run.fit(checkpoints, f"{self.name}-{identity.call}", report)
        if train_base:
            self.embedder.load_state_dict(base.state_dict())
            self.embedder.freeze().adopt_base()
        if component.card.base_digest is not None:
            component.card = component.card.model_copy(update={"base_digest": self.embedder.digest})
        trained_base = (self.embedder.digest, trained) if train_base else None
        return FitResult(component.eval(), objective.eval(), curve, identity, trained_base)

    def _is_base_trained(self) -> bool:
        """Whether `fit` trains the embedder; raises if its weights contradict `train_base`, or nothing is trained."""
        if self._last is not None and not any(weight.requires_grad for weight in self.model.parameters()):
            raise ConfigError(f"the component {self.name!r} is frozen. Call `unfreeze()` before `fit`.")
        if self.config.is_independent or (self._last is not None and self.model.card.base_digest is None):
            return False
        is_frozen = not any(parameter.requires_grad for parameter in self.embedder.parameters())
        if self.train_base is None:
            return not is_frozen
        if not self.train_base and not is_frozen:
            raise ConfigError(
                "the embedder must be frozen if `train_base=False`. Call `embedder.freeze()`, or pass "
                "`train_base=True` to train it together with the component."
            )
        if self.train_base and is_frozen and not self._has_frozen_base():
            raise ConfigError(
                "`train_base=True` cannot train the embedder: all its weights are frozen. Call `embedder.unfreeze()` "
                "first, after which components that were fitted on it no longer fit, or leave out `train_base`."
            )
        return self.train_base

    def _has_frozen_base(self) -> bool:
        """Whether the last call of `fit` trained and froze the embedder, which has not changed since."""
        trained = None if self._last is None else self._last.trained_base
        return trained is not None and trained[0] == self.embedder.digest

    def _inputs(self, corpus: EncodedCorpus, division: Division, checkpoints: Path | None) -> TrainingInputs:
        words = None
        if self.words is not None and self._last is None:  # later calls keep the words of the first call
            targets = WordTargets.fit(division.training_texts(), self.words, corpus.preprocessor)
            words = targets.with_counts(division.training_texts())
        return TrainingInputs(
            corpus=corpus,
            noise=self.noise,
            misspellings=self._misspellings,
            words=words,
            teacher_outputs=None if checkpoints is None else checkpoints / "teachers",
        )

    def _parts(self, inputs: TrainingInputs, train_base: bool) -> tuple[Base, Component, Objective]:
        """The base, component and objective to train: new ones in the first call, copies of the last ones later.

        The base is a copy too if it is trained. Of a trained base, the weights that require a gradient are trained: if
        the last call froze them all, those that it trained.
        """
        base = self.embedder
        if train_base or self.config.is_independent:
            base = copy.deepcopy(self.embedder)
            if not train_base:
                base.requires_grad_(False)
            elif self._last is not None and self._last.trained_base is not None and self._has_frozen_base():
                for name, parameter in base.named_parameters():
                    parameter.requires_grad_(name in self._last.trained_base[1])
        if self._last is None:
            component, objective = new_component(base, self.name, self.config, self.seed, inputs, self._pretrained)
            assert objective is not None, "a pretrainer has a task"
            return base, component, objective
        return base, *copy.deepcopy((self._last.component, self._last.objective))
