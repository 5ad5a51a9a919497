"""The contract of objectives: corrupt a batch, predict with a head, compute a loss."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cclm_core.corpus.windows import WindowBatch
from cclm_core.encoders.weights import read_weights, save_weights
from cclm_core.noise.misspellings import Spellings
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.noising import NoisedBatch, Noiser, clean
from cclm_core.runtime.errors import ArtifactError
from cclm_core.text.vocabulary import Preprocessor
from cclm_core.text.word_targets import WordTargets

HEAD = "head.safetensors"
"""The file with the head of an objective, in the folder of the component."""

NO_NOISE = TrainingNoise(rate=0)


class Example(NamedTuple):
    """The input of a model, `ids` (B, L) int64, and named `targets`.

    By convention, `positions` index the flattened batch, and `ids`, `tags` or `bytes` are the classes to predict there.
    """

    ids: Tensor
    targets: dict[str, Tensor]

    def to(self, device: torch.device) -> "Example":
        """A copy on `device`, asynchronous from pinned memory."""
        targets = {name: tensor.to(device, non_blocking=True) for name, tensor in self.targets.items()}
        return Example(self.ids.to(device, non_blocking=True), targets)


def pinned(examples: Sequence[Example]) -> list[Example]:
    """Copies in pinned memory, for asynchronous transfer to a GPU. Examples that share ids still share them."""
    ids = {id(example.ids): example.ids.pin_memory() for example in examples}
    return [
        Example(ids[id(example.ids)], {name: tensor.pin_memory() for name, tensor in example.targets.items()})
        for example in examples
    ]


class Sums(NamedTuple):
    """A metric as a total and a count, so that its mean does not depend on batch sizes."""

    total: float
    number: int


@dataclass(frozen=True, kw_only=True)
class ObjectiveContext:
    """What an objective needs to build its head and its examples.

    Args:
        width: features per character that the head reads.
        preprocessor: the vocabulary.
        noise: typing noise on training inputs; none by default.
        entity_labels: entity labels of the corpus, in the order of their tags.
        document_labels: labels of the training documents, sorted.
        misspellings: word -> misspelling -> count, for the noise kind `misspelling`.
        words: the word targets of the vocabulary, if any.
        teacher_outputs: the folder that keeps vectors of teachers, see `TeacherOutputs`; None for memory.
    """

    width: int
    preprocessor: Preprocessor
    noise: TrainingNoise = NO_NOISE
    entity_labels: tuple[str, ...] = ()
    misspellings: Spellings | None = None
    words: WordTargets | None = None
    teacher_outputs: Path | None = None
    document_labels: tuple[str, ...] = ()


class Objective(nn.Module, ABC):
    """A task that trains an encoder on text. Its parameters are the head."""

    selection_metric: ClassVar[str]
    """The held-out metric that selects the best weights; lower is better."""

    needs_causal: bool = False
    """Whether the encoder must be causal because targets are later characters."""

    needs_anticausal: bool = False
    """Whether the encoder must read backward because targets are earlier characters."""

    def __init__(self, context: ObjectiveContext) -> None:
        super().__init__()
        self._noiser = Noiser(context.noise, context.preprocessor, context.misspellings)

    @property
    def input_kind(self) -> str | None:
        """The kind of input: objectives of one kind can share a pass of the encoder. None: each has its own input."""
        return None

    @property
    def reads_clean_windows(self) -> bool:
        """Whether the inputs are exactly the windows of the batch, so that the features of a frozen base repeat."""
        return False

    def noised(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> NoisedBatch:
        """The batch with training noise if `training`, unchanged otherwise."""
        return self._noiser(batch, generator) if training else clean(batch)

    def save(self, folder: Path) -> None:
        """Writes the head to `head.safetensors` in `folder`, next to its component."""
        save_weights(self.state_dict(), folder / HEAD)

    def load_head(self, folder: Path) -> None:
        """Loads the head that `save` wrote to `folder`. On an error, no weight changes.

        Raises:
            ArtifactError: `head.safetensors` is missing or damaged, or its names or shapes do not match this head. The
                message lists the differences.
        """
        if not (folder / HEAD).is_file():
            raise ArtifactError(f"{HEAD} not found in {folder}. Train the component again, or name its folder.")
        self.load_state_dict(
            read_weights(folder / HEAD, self.state_dict(), f"the objective {type(self).__name__}"), assign=True
        )

    @abstractmethod
    def example(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Example:
        """Builds inputs and targets from clean text.

        The result depends only on the arguments, not on the mode of the module: other threads prefetch examples while
        the loop trains or evaluates.

        Args:
            batch: clean windows; not changed.
            generator: the source of all randomness.
            training: true for training, with noise; false for evaluation.
        """

    def training_example(
        self,
        batch: WindowBatch,
        generator: np.random.Generator,
        progress: float,  # noqa: ARG002
    ) -> Example:
        """Builds an example for training; differs from `example` only where a setting changes during the training.

        Args:
            batch: clean windows; not changed.
            generator: the source of all randomness.
            progress: the share of the training before this batch, 0 for the first and 1 for the last one.
        """
        return self.example(batch, generator, training=True)

    @abstractmethod
    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """The loss () in nats per target for `features` (B, L, W), and metrics by name."""
