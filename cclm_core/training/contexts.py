"""Training a component on texts with contexts."""

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cclm_core.corpus.contexts import AuthorTexts, ContextBatch, ContextTexts
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.objectives.base import Example, Sums
from cclm_core.objectives.contexts import (
    ContextMaskedCharacters,
    ContextMaskedCharactersConfig,
    ContextObjective,
    ContextObjectiveConfig,
    ContextualModel,
)
from cclm_core.runtime.device import device_of
from cclm_core.runtime.errors import TrainingError
from cclm_core.runtime.random import derive
from cclm_core.training.config import TrainingConfig
from cclm_core.training.trainee import Data, Point, Trainee


class ContextTraining(Trainee):
    """A component with a contextual encoder, and its objective.

    Args:
        encoder: the component with its base; see `objectives.contexts.ContextualModel`.
        objective: the objective.
    """

    def __init__(self, encoder: Any, objective: ContextObjective) -> None:
        super().__init__()
        self.encoder, self.objective = encoder, objective

    @property
    def described(self) -> str:
        """The name of the objective."""
        return type(self.objective).__name__

    def examples(self, batch: Any, training: bool, seed: int, *names: str | int) -> list[Example]:
        """One example; see `Trainee.examples`."""
        return [self.objective.example(batch, derive(seed, *names, 0), training)]

    def forward(self, examples: list[Example]) -> tuple[Tensor, dict[str, Sums]]:
        """The loss () and the metrics; see `Trainee.forward`."""
        moved = examples[0].to(device_of(self))
        features = self.objective.features(cast("ContextualModel", self.encoder), moved)
        return self.objective.loss(features, moved)

    def selection_value(self, point: Point) -> float:
        """The held-out value of the selection metric of the objective; lower is better."""
        name = f"held_out_{self.objective.selection_metric}"
        if name not in point:
            raise TrainingError(
                "cannot select the best weights: the held-out texts contain no target. Raise "
                "training.evaluation_windows, or set keep: last and patience: null."
            )
        return point[name]


def context_data(corpus: EncodedCorpus, task: ContextObjectiveConfig, config: TrainingConfig) -> Data:
    """The training and held-out texts of an objective on texts with contexts.

    Raises:
        DataError: the corpus has no authors, or none with two texts.
    """
    train, validation = corpus.split("train"), corpus.split("validation")
    if isinstance(task, ContextMaskedCharactersConfig):
        sampling = task.contexts
        seen = train if sampling.unseen else None
        return Data(
            ContextTexts(train, config.window, sampling, dropout=sampling.dropout),
            ContextTexts(validation, config.window, sampling, seen),
        )
    settings = (config.window, task.number, task.same_group, task.min_characters)
    return Data(AuthorTexts(train, *settings), AuthorTexts(validation, *settings, train if task.unseen else None))


def trained_bits(
    encoder: ContextualModel, objective: ContextMaskedCharacters, seed: int
) -> Callable[[ContextBatch, int], tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """For `evaluation.contexts`: the bits (B,) and numbers (B,) of masked characters, with the head of the training.

    Args:
        encoder: the component with its base, in evaluation mode.
        objective: its objective, trained.
        seed: draws the masks.
    """

    def bits(batch: ContextBatch, start: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Bits and numbers of the masked characters of a batch whose first text is number `start`."""
        example = objective.example(batch, derive(seed, "masks", start), training=False)
        with torch.inference_mode():
            nats, numbers = objective.nats(objective.features(encoder, example), example)
        return nats.cpu().numpy() / math.log(2), numbers.cpu().numpy().astype(np.float64)

    return bits
