"""The module that fine-tuning trains: an encoder and a head."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from cclm_core.composition.composed import ComposedModel
from cclm_core.encoders.depth import depths
from cclm_core.encoders.embedder import Base
from cclm_core.finetuning.batches import TextBatch
from cclm_core.finetuning.encoding import Encoding, Noise
from cclm_core.heads.base import Head
from cclm_core.heads.dropout import SEED
from cclm_core.objectives.base import Example, Sums
from cclm_core.runtime.device import device_of
from cclm_core.runtime.errors import ConfigError, TrainingError
from cclm_core.runtime.random import derive
from cclm_core.training.trainee import Point, Trainee

Trained = Literal["all", "top", "heads", "probe"]


class FineTuning(Trainee):
    """An encoder and a head, trained on labeled texts.

    Args:
        encoder: an embedder or a composition; `select` decides which of its weights are trained.
        head: the head.
        encoding: makes ids and targets.
        noise: noise on training texts; None for none.
        layer_decay: factor of the learning rate for each layer below the head.
    """

    def __init__(self, encoder: Base, head: Head, encoding: Encoding, noise: Noise, layer_decay: float = 1.0) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.encoding, self.noise, self.layer_decay = encoding, noise, layer_decay

    @property
    def described(self) -> str:
        """The kind of task."""
        return f"the task {self.encoding.task}"

    def examples(self, batch: TextBatch, training: bool, seed: int, *names: str | int) -> list[Example]:
        """One example; see `Trainee.examples`."""
        generator = derive(seed, *names, "task")
        example = self.encoding.example(batch.texts, self.noise if training else None, generator)
        if training:
            example.targets[SEED] = torch.tensor(int(generator.integers(1 << 62)))
        return [example]

    def forward(self, examples: list[Example]) -> tuple[Tensor, dict[str, Sums]]:
        """The loss () and the metrics of a batch; see `Trainee.forward`."""
        moved = examples[0].to(device_of(self))
        is_trained = torch.is_grad_enabled() and any(weight.requires_grad for weight in self.encoder.parameters())
        with torch.set_grad_enabled(is_trained):
            features = self.encoder(moved.ids)
        scores = self.head(features, moved.ids != 0, moved.targets)
        return self.head.loss(scores, moved.targets)

    def selection_value(self, point: Point) -> float:
        """The held-out value of the head's selection metric."""
        name = f"held_out_{self.head.selection_metric}"
        if name not in point:
            raise TrainingError(
                "cannot select the best weights: the validation split has no target. Add labeled texts to it, or set "
                "keep: last and patience: null."
            )
        return point[name]

    def rate_factors(self) -> Mapping[str, float]:
        """`layer_decay` to the power of the number of layers between a weight and the head."""
        if self.layer_decay == 1:
            return {}
        by_name = depths(self.encoder)
        highest = max(by_name.values(), default=0)
        return {f"encoder.{name}": self.layer_decay ** (1 + highest - depth) for name, depth in by_name.items()}


def select(encoder: Base, train: Trained) -> None:
    """Chooses the weights of an encoder that are trained: all, the parts over the base (`top`), or none.

    Raises:
        ConfigError: `top` with an embedder, which has no parts.
    """
    if train == "all":
        if isinstance(encoder, ComposedModel):
            encoder.train_base = True
        encoder.requires_grad_(True)
        return
    encoder.requires_grad_(False)
    if train != "top":
        return
    if not isinstance(encoder, ComposedModel):
        raise ConfigError("train: top needs a composition, because an embedder has no parts. Use all or heads.")
    bases = {id(parameter) for parameter in encoder.base.parameters()}
    for module in (encoder.components, encoder.fusion):
        for parameter in module.parameters():
            parameter.requires_grad_(id(parameter) not in bases)
