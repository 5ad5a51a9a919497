"""One training, from its inputs to its published result. The stages `base` and `pretrain` and `fit` use it.

```
inputs = TrainingInputs.open(encoded, noise)
objective = task.build(inputs.context(encoder.width))
module = TrainingModule(encoder, [(objective, 1.0)])
run = TrainingRun(identity, seed, module, inputs.data(config), config)
run.publish(checkpoints, out, Artifact("embedder", embedder, save_embedder), report)
```
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field
from torch import nn

from cclm_core.cards import write_card
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.encoders.embedder import Base
from cclm_core.encoders.pretrained.base import PretrainedEmbedding
from cclm_core.noise.misspellings import Spellings, read_misspellings
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import Objective, ObjectiveContext
from cclm_core.objectives.contexts import READS_CONTEXTS
from cclm_core.runtime.artifacts import publishing, read_json, rounded, write_json, write_text
from cclm_core.runtime.blocks import block_digests
from cclm_core.runtime.config import Config, digest
from cclm_core.runtime.errors import ArtifactError, DataError
from cclm_core.runtime.own_code import OwnCode, write_code
from cclm_core.runtime.reporting import Report
from cclm_core.text.word_targets import WordTargets, read_targets
from cclm_core.training.checkpoint import Checkpoint, Checkpoints
from cclm_core.training.code import code_digest
from cclm_core.training.config import TrainingConfig
from cclm_core.training.contexts import context_data
from cclm_core.training.loop import evaluate, open_data, train
from cclm_core.training.trainee import Data, Point, Trainee

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Artifact(Generic[M]):
    """A trained model to publish.

    Args:
        kind: `embedder`, `component` or `task`.
        model: the embedder, the component, or the model of a task.
        save: writes the model into a folder. Training does not know the formats of models: a change of the code of
            compositions must not retrain the base.
        objective: the objective whose head is published with the model, if any.
        finish: called after the training and before the model is saved; returns additional metrics.
        code: the blocks of your own that the objective uses, each with its file; see `blocks.code_in`.
    """

    kind: str
    model: M
    save: Callable[[M, Path], None]
    objective: Objective | None = None
    finish: Callable[[], Mapping[str, float]] | None = None
    code: Sequence[tuple[str, OwnCode]] = ()


def own_blocks(config: Config) -> dict[str, Any]:
    """The key `blocks` of an identity: the digests of your own building blocks; no key if there are none.

    Raises:
        ConfigError: a block was defined in an interactive session, so it has no file.
    """
    digests = block_digests(config)
    return {} if digests is None else {"blocks": digests}


class Identity(Config):
    """Everything that the result of a training depends on, published as `card.json`. Never a device, path or time.

    Unset optional fields are left out of the card and of digests.
    """

    stage: Literal["base", "pretrain", "finetune"] | None = Field(default=None, description="the stage; null for `fit`")
    name: str | None = Field(default=None, description="name of the component or task")
    seed: int
    data: str = Field(description="digest of the encoded corpus")
    vocabulary: str = Field(description="digest of the vocabulary")
    base: str | None = Field(default=None, description="digest of the base of a component, or of a task's composition")
    configuration: dict[str, Any]
    noise: dict[str, Any] = Field(description="training noise, with its list of misspellings")
    code: str | None = Field(default=None, description="digest of the code of the stage")
    call: int | None = Field(default=None, description="for `fit`: number of the call, from 1")
    after: str | None = Field(default=None, description="for `fit`: digest of the identity of the previous call")
    train_base: bool | None = Field(default=None, description="for `fit`: whether the base was trained too")
    frozen: list[str] | None = Field(default=None, description="for `fit`: weights of a trained base that are frozen")
    words: dict[str, Any] | None = Field(default=None, description="for `fit`: configuration of the word targets")
    blocks: dict[str, str] | None = Field(default=None, description="your own building blocks: digest of their files")

    def canonical(self) -> dict[str, Any]:
        """The fields that are set, as plain JSON values."""
        return self.model_dump(mode="json", exclude_unset=True)


@dataclass(frozen=True, kw_only=True)
class TrainingInputs:
    """The inputs of a training.

    Attributes:
        corpus: the encoded corpus.
        noise: the training noise.
        misspellings: content of the list of misspellings that `noise` names, if any.
        words: the word targets of the vocabulary, if any.
        teacher_outputs: see `ObjectiveContext`.
    """

    corpus: EncodedCorpus
    noise: TrainingNoise
    misspellings: Spellings | None = None
    words: WordTargets | None = None
    teacher_outputs: Path | None = None

    @classmethod
    def open(cls, encoded: Path, noise: TrainingNoise, teacher_outputs: Path | None = None) -> "TrainingInputs":
        """Opens a published encoded corpus with its word targets, and reads the list of misspellings."""
        corpus, misspellings = EncodedCorpus.open(encoded), load_misspellings(noise)
        words = read_targets(encoded)
        return cls(corpus=corpus, noise=noise, misspellings=misspellings, words=words, teacher_outputs=teacher_outputs)

    def context(self, width: int) -> ObjectiveContext:
        """The context for building an objective whose head reads `width` features per character."""
        return ObjectiveContext(
            width=width,
            preprocessor=self.corpus.preprocessor,
            noise=self.noise,
            entity_labels=tuple(self.corpus.entity_labels),
            misspellings=self.misspellings,
            words=self.words,
            teacher_outputs=self.teacher_outputs,
            document_labels=self.corpus.document_labels,
        )

    def data(self, config: TrainingConfig, task: Any = None) -> Data:
        """The training and held-out windows for `config`; texts with contexts if the objective `task` reads them."""
        if isinstance(task, READS_CONTEXTS):
            return context_data(self.corpus, task, config)
        return open_data(self.corpus, config)

    def noise_identity(self) -> dict[str, Any]:
        """The noise entry of an `Identity`: the recipe, with the misspellings themselves instead of their path."""
        return self.noise.canonical() | {"misspellings": self.misspellings}


def load_misspellings(noise: TrainingNoise) -> Spellings | None:
    """Reads the list of misspellings that `noise` names, if any."""
    return None if noise.misspellings is None else read_misspellings(Path(noise.misspellings)).spellings


@dataclass(frozen=True)
class TrainingRun:
    """One training: the arguments of `train`, and the identity of its checkpoints.

    Args:
        identity: everything that the result depends on, except the code of the library.
        seed: seed of batches, corruption and noise.
        module: encoder and objectives with their initial weights; trained in place.
        data: training and held-out windows.
        config: steps, batches, precision and so on.
    """

    identity: Identity
    seed: int
    module: Trainee
    data: Data
    config: TrainingConfig

    def publish(self, checkpoints: Path, out: Path, artifact: Artifact[M], report: Report) -> None:
        """Trains, resuming from `checkpoints` if possible, and publishes the result at `out`; see `publish`.

        Raises:
            TrainingError: another process runs this training, or the loss is not finite.
            ArtifactError: `out` is a file, or another process is writing to it.
        """
        store = Checkpoints(checkpoints, self._key)
        with store.exclusive():
            curve = train(self.module, self.data, self.config, self.seed, store, report)
            sizes = artifact.finish() if artifact.finish is not None else {}
            publish(out, artifact, curve, self.identity, sizes)

    def fit(self, folder: Path | None, name: str, report: Report) -> list[Point]:
        """Trains and returns the learning curve. A finished training is restored from `folder` instead.

        Args:
            folder: folder for checkpoints and the finished result; None to save nothing.
            name: a file name for this training, unique in `folder`.
            report: receives progress.

        Raises:
            DataError: the held-out windows contain no target for the objective.
            TrainingError: another process runs this training, or the loss is not finite.
        """
        self._check_measurable()
        if folder is None:
            return train(self.module, self.data, self.config, self.seed, None, report)
        unfinished = Checkpoints(folder / "unfinished" / name, self._key)
        finished = Checkpoints(folder / "finished" / name, self._key)
        with unfinished.exclusive():
            result = finished.newest()
            if result is not None:
                self.module.load_state_dict(result.tensors)
                restored: list[Point] = result.metadata["curve"]
                return restored
            curve = train(self.module, self.data, self.config, self.seed, unfinished, report)
            finished.save(Checkpoint(self.config.steps, self.module.state_dict(), {"curve": curve}))
            unfinished.clear()
        return curve

    @property
    def _key(self) -> str:
        return digest([self.identity.canonical(), code_digest()])

    def _check_measurable(self) -> None:
        held_out = self.data.held_out.fixed(self.config.evaluation_windows, self.seed)
        if not evaluate(self.module, held_out, self.config, self.seed):
            raise DataError(
                f"the held-out texts contain no target for {self.module.described}. A masked word "
                "must fit into one window. Add texts, or pass different ones as `validation`."
            )


def publish(
    out: Path,
    artifact: Artifact[M],
    curve: Sequence[Point],
    identity: Identity,
    metrics: Mapping[str, float] | None = None,
) -> None:
    """Publishes the result of a training: model, head, learning curve, metrics and identity.

    Args:
        out: the folder to publish.
        artifact: the model and, if any, its head. The model's number of parameters is one of the metrics.
        curve: the learning curve.
        identity: everything that the result depends on.
        metrics: more metrics of the result.
    """
    model = artifact.model
    with publishing(out, artifact.kind) as folder:
        artifact.save(model, folder)
        if artifact.objective is not None:
            artifact.objective.save(folder)
            write_code(folder, artifact.code)
        card = identity.canonical() | ({"digest": model.digest} if isinstance(model, Base) else {})
        sizes = {"parameters": sum(parameter.numel() for parameter in model.parameters())}
        if fixed := num_fixed(model):
            sizes["fixed_parameters"] = fixed
        write_results(folder, curve, card, {**sizes, **(metrics or {})})
        write_card(folder, artifact.kind)


def num_fixed(model: nn.Module) -> int:
    """The number of weights of pretrained embeddings that are never trained."""
    parts = [part for part in model.modules() if isinstance(part, PretrainedEmbedding)]
    num_weights: int = sum(weight.numel() for part in parts for weight in part.state_dict().values())
    return num_weights - sum(weight.numel() for part in parts for weight in part.parameters())


def write_results(folder: Path, curve: Sequence[Point], card: Mapping[str, Any], sizes: Mapping[str, float]) -> None:
    """Writes curve.csv, metrics.json and card.json into a folder that is being published.

    Args:
        folder: the target folder.
        curve: the learning curve. Its last point becomes the metrics.
        card: everything that the result depends on: configuration, seed, digests of data and base.
        sizes: additional metrics, such as `parameters`.
    """
    final = {name: value for name, value in curve[-1].items() if name not in ("step", "learning_rate")}
    write_json(folder / "metrics.json", {name: rounded(value) for name, value in {**final, **sizes}.items()})
    write_json(folder / "card.json", card)
    columns = ["step", *sorted({name for point in curve for name in point} - {"step"})]
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows({name: rounded(value) for name, value in point.items()} for point in curve)
    write_text(folder / "curve.csv", text.getvalue())


def read_card(path: Path) -> dict[str, Any]:
    """Reads the card.json of a trained component.

    Raises:
        ArtifactError: it is missing or damaged, or has no configuration of the training.
    """
    card = read_json(path) if path.is_file() else {}
    if not isinstance(card.get("configuration"), dict):
        raise ArtifactError(
            f"configuration of the training not found in {path}. Train the component again, or fork the trained "
            "component again."
        )
    return card
