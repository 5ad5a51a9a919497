"""What the training loop trains and reads: the contracts of models and of data."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, Self

from torch import Tensor, nn

from cclm_core.objectives.base import Example, Sums

Point = dict[str, float]
"""One evaluation on the learning curve: `step` and `held_out_NAME` metrics. All points but the first also have
`learning_rate` and `loss`, the mean training loss since the previous point."""


class Batch(Protocol):
    """Rows of clean data."""

    @property
    def num_rows(self) -> int:
        """B, the number of rows."""
        ...

    def rows(self, start: int, stop: int) -> Self:
        """The rows from `start` to `stop`, `stop` excluded."""
        ...


class Source(Protocol):
    """Batches of one split. A batch is a function of the seed and its number, so training resumes at any step."""

    def batch(self, number: int, batch_size: int, seed: int) -> Any:
        """The batch `number` (from 0) of a training with `batch_size` rows per batch."""
        ...

    def batches_per_epoch(self, batch_size: int) -> int:
        """The number of batches that cover every row at least once."""
        ...

    def fixed(self, num_windows: int, seed: int) -> Any:
        """A random sample of `num_windows` rows, or all if there are fewer."""
        ...


class Data(NamedTuple):
    """The train split for training, and the validation split for evaluation."""

    training: Source
    held_out: Source


class Trainee(nn.Module, ABC):
    """A module that the loop can train: it makes examples from batches and computes their loss.

    Attributes:
        encoder: maps ids (B, L) to features (B, L, W); `compile` applies to it.
    """

    encoder: nn.Module

    @property
    @abstractmethod
    def described(self) -> str:
        """What is trained, for messages, such as the name of an objective."""

    @abstractmethod
    def examples(self, batch: Any, training: bool, seed: int, *names: str | int) -> list[Example]:
        """Examples from a clean batch, with generators derived from `seed` and `names`.

        Reads no state that training changes, so another thread can prefetch the examples of later steps.
        """

    def training_examples(self, batch: Any, seed: int, number: int, progress: float) -> list[Example]:  # noqa: ARG002
        """The examples of training batch `number` (from 0).

        Args:
            batch: the clean batch.
            seed: seed of the training.
            number: number of the batch.
            progress: the share of the training before this batch, 0 for the first and 1 for the last one. For
                settings that change during a training.
        """
        return self.examples(batch, True, seed, "training", number)

    @abstractmethod
    def forward(self, examples: list[Example]) -> tuple[Tensor, dict[str, Sums]]:
        """The loss () and the metrics of `examples`, moved to the device of the weights."""

    @abstractmethod
    def selection_value(self, point: Point) -> float:
        """The value that selects the best weights; lower is better."""

    def begin_step(self, step: int) -> None:
        """Called before the update of step `step` (from 0); a resumed training begins at a later step."""

    def rate_factors(self) -> Mapping[str, float]:
        """Name of a parameter -> factor of its learning rate. A parameter that is not listed has the factor 1."""
        return {}
