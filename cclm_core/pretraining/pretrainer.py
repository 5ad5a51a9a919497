"""Pretraining on a list of strings or a dataset: a face over the objectives and the one training loop.

```
pretrainer = CharacterMaskPretrainer(embedder, train_base=True)
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
from typing import Any, TypedDict

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component
from cclm_core.composition.store import save
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.encoders.embedder import Base, weights_digest
from cclm_core.noise.misspellings import read_misspellings
from cclm_core.noise.recipe import NoiseRecipe, TrainingNoise
from cclm_core.objectives.base import Objective, Surroundings
from cclm_core.objectives.catalogue import ObjectiveConfig, build
from cclm_core.pretraining.pupil import Pupil, Run
from cclm_core.pretraining.texts import Division, divide, encode_texts
from cclm_core.runtime.artifacts import file_digest, publishing
from cclm_core.runtime.config import digest
from cclm_core.runtime.errors import ConfigError, TrainingError
from cclm_core.runtime.random import derive_seed, seeded_initialisation
from cclm_core.runtime.reporting import Report, reporting, silent
from cclm_core.training.code import code_digest
from cclm_core.training.config import ComponentConfig, TrainingConfig
from cclm_core.training.data import Data, open_data
from cclm_core.training.progress import Point
from cclm_core.training.published import write_results

_MOST_WARMUP_STEPS = 50


class Settings(TypedDict, total=False):
    """What every pretrainer can be told; see `Pretrainer`."""

    name: str
    encoder: EncoderConfig
    independent: bool
    origin: str
    train_base: bool
    noise: NoiseRecipe
    seed: int


@dataclass(frozen=True)
class _Fitted:
    """What the last call of `fit` has made, and all that it depended on."""

    component: Component
    objective: Objective
    curve: list[Point]
    identity: dict[str, Any]


class Pretrainer:
    """Trains one component on one objective, over an embedder that is frozen, or together with it.

    It takes any objective that needs nothing but text; `MaskedLanguagePretrainer` and the others have one of their own.

    Args:
        embedder: the common base of all components: an `Embedder`, or a `ComposedModel` to train over.
        task: the objective and its settings.
        name: what the component is called, in letters, digits, `_` and `-`; if None, as its objective.
        encoder: the shape of the component; if None, the one that a component of `params.yaml` has by default.
        independent: whether the component gets an embedding of its own in place of the features of the embedder.
        origin: components that name the same origin start from the same weights; if None, its own name.
        train_base: whether `fit` trains the embedder too, and then freezes it. `ComposedModel` refuses components that
            were fitted on it before. If false, the embedder must be frozen, and no bit of it changes.
        noise: typing errors on the input in training, drawn afresh for every batch; None for none.
        seed: of the first weights, and of the batches, masks and noise.

    Raises:
        ConfigError: settings that contradict each other, or a name that is not allowed.
        CompositionError: a causal component over an embedder that is not.
    """

    def __init__(
        self,
        embedder: Base,
        task: ObjectiveConfig,
        *,
        name: str | None = None,
        encoder: EncoderConfig | None = None,
        independent: bool = False,
        origin: str | None = None,
        train_base: bool = False,
        noise: NoiseRecipe | None = None,
        seed: int = 1,
    ) -> None:
        self.embedder, self.name, self.seed, self.train_base = embedder, name or task.objective, seed, train_base
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ConfigError(f"`name` must be letters, digits, _ and - alone, got {self.name!r}.")
        if train_base and independent:
            raise ConfigError("`train_base` and `independent` cannot both be true: who has an embedding reads no base.")
        shape = {} if encoder is None else {"encoder": encoder}
        given = {"task": task, "independent": independent, "origin": origin, **shape}
        self.config = ComponentConfig.parse(given, type(self).__name__)
        self.noise = _training_noise(noise)
        path = self.noise.misspellings
        self._misspellings = None if path is None else read_misspellings(Path(path)).spellings
        self._fitted: _Fitted | None = None
        self._card(embedder)  # refuses what cannot be

    @property
    def model(self) -> Component:
        """The component, as the last call of `fit` made it; raises TrainingError before the first."""
        return self._last.component

    @property
    def objective(self) -> Objective:
        """The objective with the head that was trained on the component; raises TrainingError before `fit`."""
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
        """Trains on texts and returns the learning curve; `training.loop.train` says what its points hold.

        A call that fails or is interrupted changes nothing. A further call goes on from the weights that the last one
        left, over the embedder as it is by then; it is a training of its own, with its own batches, warm-up and decay.

        Args:
            texts: a list of strings, or a `datasets.Dataset`; empty ones are passed over.
            epochs: how often all texts are read, about.
            steps: the number of steps, in place of `epochs`.
            column: which column of a dataset to read; the first that holds strings, if None.
            validation: texts to measure on, of either kind, which are then not trained on; None holds some out.
            held_out: about which share of the different texts is held out; it is always the same ones.
            checkpoints: a folder, also for several pretrainers with different names. A call that was interrupted goes
                on from there, and one that has ended is not repeated, while all that it depends on is the same.
            progress: whether to draw a bar; None asks whether standard error is a terminal.
            training: keys of `TrainingConfig`, e.g. `batch_size=16, window=128, threads=4`. If not given, the warm-up
                is a tenth of the steps, 50 at most.

        Raises:
            ConfigError: an unknown or wrong setting, an embedder that is not frozen, or an objective that asks for what
                the component sees.
            DataError: something else than texts, or too few of them.
            TrainingError: the loss is not finite, or another process runs this training.
        """
        config = _parsed(training, epochs, steps)
        self._check_frozen()
        division = divide(texts, column, validation, held_out)
        with tempfile.TemporaryDirectory(prefix="cclm-") as folder:
            with _bar(f"{self.name}: reading", progress) as report:
                corpus = encode_texts(division, self.embedder.preprocessor, Path(folder), report)
            data = open_data(corpus, config.window, config.variants)
            config = _scheduled(config, data, epochs, "warmup_steps" in training)
            pupil = self._pupil(division)
            identity = self._identity(corpus, config)
            run = self._run(identity, None if checkpoints is None else Path(checkpoints))
            with _bar(self.name, progress) as report:
                curve = run.train(pupil.trainee(), data, config, report)
        self._keep(pupil, curve, identity)
        return curve

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Publishes the component with its head, curve and figures at `folder`, as the stage `pretrain` does.

        Raises:
            TrainingError: nothing was fitted yet.
            ArtifactError: `folder` is a file, or another process is writing it.
        """
        last = self._last
        numbers = {"parameters": sum(parameter.numel() for parameter in last.component.parameters())}
        with publishing(Path(folder), "component") as beside:
            save(last.component, beside)
            last.objective.save(beside)
            write_results(beside, last.curve, last.identity, numbers)

    @property
    def _last(self) -> _Fitted:
        if self._fitted is None:
            raise TrainingError(f"the pretrainer {self.name!r} must be fitted first; call `fit` with some texts.")
        return self._fitted

    def _check_frozen(self) -> None:
        is_read = not (self.train_base or self.config.independent)
        if is_read and any(parameter.requires_grad for parameter in self.embedder.parameters()):
            raise ConfigError(
                "the embedder must be frozen before a component is trained over it, and this one is not. If it is new, "
                "give `train_base=True` to train it together with this objective; if it is to stay as it is, call "
                "`embedder.freeze()`."
            )

    def _card(self, base: Base) -> ComponentCard:
        config = self.config
        return ComponentCard.over(base, self.name, config.task.objective, config.encoder, config.independent)

    def _surroundings(self, width: int, division: Division) -> Surroundings:  # noqa: ARG002
        """What the objective may need to know; `division` is there for those that learn it from texts."""
        return Surroundings(width, self.embedder.preprocessor, (), self._misspellings)

    def _pupil(self, division: Division) -> Pupil:
        """New parts for the first call, for later ones copies, so that those that were fitted stay as they are."""
        is_read = not (self.train_base or self.config.independent)
        base = self.embedder if is_read else copy.deepcopy(self.embedder).requires_grad_(self.train_base)
        if self._fitted is not None:
            component, objective = copy.deepcopy((self._fitted.component, self._fitted.objective))
        else:
            with seeded_initialisation(derive_seed(self.seed, "pretrain", self.config.origin or self.name)):
                component = Component(self._card(base))
                component.card = component.card.model_copy(update={"origin": weights_digest(component)})
                objective = build(self.config.task, self.noise, self._surroundings(component.width, division))
        return Pupil(base, component, objective, self.train_base)

    def _identity(self, corpus: EncodedCorpus, config: TrainingConfig) -> dict[str, Any]:
        """All that the result of this call of `fit` depends on, the calls before it included."""
        last, names = self._fitted, ("train", "validation")
        return {
            "name": self.name,
            "seed": self.seed,
            "call": 1 if last is None else last.identity["call"] + 1,
            "after": None if last is None else digest(last.identity),
            "data": digest([file_digest(corpus.folder / f"{name}.ids.bin") for name in names]),
            "vocabulary": corpus.preprocessor.digest,
            "base": self.embedder.digest,
            "train_base": self.train_base,
            "configuration": self.config.model_copy(update={"training": config}).canonical(),
            "noise": self.noise.canonical() | {"misspellings": self._misspellings},
        }

    def _run(self, identity: dict[str, Any], folder: Path | None) -> Run:
        call = identity["call"]
        seed = derive_seed(self.seed, "pretrain", self.name, call)
        return Run(f"{self.name}-{call}", digest([identity, code_digest()]), seed, folder)

    def _keep(self, pupil: Pupil, curve: list[Point], identity: dict[str, Any]) -> None:
        if self.train_base:
            self.embedder.load_state_dict(pupil.base.state_dict())
            self.embedder.freeze().adopt_base()
        component = pupil.component.eval()
        if not self.config.independent:
            component.card = component.card.model_copy(update={"base_digest": self.embedder.digest})
        self._fitted = _Fitted(component, pupil.objective.eval(), curve, identity)


def _training_noise(noise: NoiseRecipe | None) -> TrainingNoise:
    if noise is None:
        return TrainingNoise(rate=0)
    return noise if isinstance(noise, TrainingNoise) else TrainingNoise(**noise.model_dump())


def _parsed(training: dict[str, Any], epochs: float | None, steps: int | None) -> TrainingConfig:
    """The settings of a training; the number of its steps is 0 until it is known how many an epoch has."""
    if (epochs is None) == (steps is None):
        raise ConfigError(f"`fit` needs either `epochs` or `steps`, got {epochs} and {steps}.")
    if epochs is not None and not 0 < epochs < math.inf:
        raise ConfigError(f"`epochs` must be above 0, got {epochs}.")
    return TrainingConfig.parse({**training, "steps": steps or 0}, "fit")


def _scheduled(config: TrainingConfig, data: Data, epochs: float | None, is_warmup_given: bool) -> TrainingConfig:
    steps = config.steps
    if epochs is not None:
        steps = math.ceil(epochs * data.training.batches_per_epoch(config.batch_size) / config.accumulate)
    warmup = config.warmup_steps if is_warmup_given else min(_MOST_WARMUP_STEPS, steps // 10)
    return config.model_copy(update={"steps": steps, "warmup_steps": warmup})


def _bar(name: str, progress: bool | None) -> AbstractContextManager[Report]:
    """A report that draws a bar, or nothing at all."""
    is_wanted = sys.stderr.isatty() if progress is None else progress
    return reporting(name, None, bar=True) if is_wanted else nullcontext(silent)
